"""Devices, ranks and precision: the only module that knows Accelerate."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from holdfast.distributed import check_rendezvous, current_comm, in_step
from holdfast.errors import ConfigError
from holdfast.models.classifier import Classifier
from holdfast.models.reference import FrozenReference
from holdfast.objective import Objective
from holdfast.training.sharding import SMALLEST, clip_norm_of_parts, gathered, load_network, load_optimizer, spread
from holdfast.types import Batch

__all__ = ["Engine"]

log = logging.getLogger("holdfast")

_MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


class Engine:
    """Where and in which arithmetic a run computes.

    Ranks are found, never started: under torchrun or SLURM each process makes its own engine.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        strategy: What several ranks do: ``ddp``, each has the whole network; ``fsdp``, each has its part of it.

    Raises:
        ConfigError: The device or precision is not to be had on this machine.
    """

    def __init__(self, device: str = "auto", precision: str = "fp32", strategy: Literal["ddp", "fsdp"] = "ddp") -> None:
        device = _check(device, precision)
        check_rendezvous()
        # Accelerate keeps its settings for the life of the process; a second fit in one session may want others.
        AcceleratorState._reset_state(reset_partial_state=True)
        with _explicit_device(device):
            self._accelerator = Accelerator(
                cpu=device == "cpu",
                mixed_precision=_MIXED[precision],
                # Buffers are broadcast before evaluation and checkpoints instead of at every forward pass.
                kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
            )
        self.device: torch.device = self._accelerator.device
        self.comm = current_comm()
        self.spreads = strategy == "fsdp"
        self._replicated: list[nn.Parameter] = []  # trained beside a spread network, whole on every rank
        assert not self.spreads or self.comm.size > 1, "options are checked before"

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run directory."""
        return self.comm.rank == 0

    def wrap(self, objective: Objective) -> nn.Module:
        """Move an objective to the device; DDP or FSDP, and mixed precision, go around it where they apply.

        FSDP spreads the network; what the terms train stays whole, and ranks agree on its gradients in :meth:`backward`.
        """
        if not self.spreads:
            objective.to(self.device)
            wrapped: nn.Module = self._accelerator.prepare_model(objective)
            return wrapped
        assert isinstance(objective.model, Classifier)
        if not spread(objective.model, self.device, self.comm):
            log.warning(
                "--strategy fsdp: %s has no blocks of %d parameters or more, so all its weights are gathered at once while it computes",
                *(type(objective.model.net).__name__, SMALLEST),
            )
        objective.terms.to(self.device)
        self._replicated = list(objective.terms.parameters())
        for parameter in self._replicated:
            parameter.data.copy_(self.comm.broadcast(parameter))
        # "Evaluation" means without DDP to Accelerate; the arithmetic is what is wanted of it.
        computing: nn.Module = self._accelerator.prepare_model(objective, device_placement=False, evaluation_mode=True)
        return computing

    def place_reference(self, reference: FrozenReference, *, used: bool) -> None:
        """Keep the frozen network on the device, spread as the trained one is, or on the host where training does not use it."""
        if self.spreads and used:
            reference.spread(lambda classifier: spread(classifier, self.device, self.comm))
        else:
            reference.to(self.device if used else "cpu")

    def wrap_optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimizer, with loss scaling in fp16."""
        wrapped: torch.optim.Optimizer = self._accelerator.prepare_optimizer(optimizer)
        return wrapped

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of the run, for forward passes outside the wrapped module."""
        context: AbstractContextManager[None] = self._accelerator.autocast()
        return context

    def accumulating(self, module: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        """Hold back DDP's exchange of gradients until the last micro-batch.

        FSDP exchanges them each time: summed up whole they would take the memory that it is to save.
        """
        if last or self.comm.size == 1 or self.spreads:
            return nullcontext()
        context: AbstractContextManager[None] = self._accelerator.no_sync(module)
        return context

    def backward(self, loss: Tensor, *, last: bool = True) -> None:
        """Differentiate, scaled in fp16; after the ``last`` micro-batch ranks have the same gradients."""
        self._accelerator.backward(loss)
        if last:
            for parameter in self._replicated:
                if parameter.grad is not None:
                    parameter.grad.copy_(self.comm.sum(parameter.grad) / self.comm.size)

    def clip_gradients(self, parameters: Sequence[nn.Parameter], norm: float) -> Tensor:
        """Scale gradients down to a global norm, after taking the loss scaling of fp16 out of them.

        Ranks have exchanged their gradients by then, so each finds the same norm. Nothing waits for the device.

        Returns:
            The norm before, scalar; not finite where a gradient is not.
        """
        if self.spreads:
            return clip_norm_of_parts(parameters, norm, self.comm)
        before: Tensor = self._accelerator.clip_grad_norm_(parameters, norm)
        return before

    def update_was_skipped(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether loss scaling threw the last update away."""
        return bool(getattr(optimizer, "step_was_skipped", False))

    @property
    def loss_scale(self) -> float:
        """What the loss is multiplied by in fp16, else 1; reading it waits for the device."""
        return 1.0 if self._accelerator.scaler is None else self._accelerator.scaler.get_scale()

    def scaler_state(self) -> dict[str, float] | None:
        """State of the loss scaling, in fp16."""
        return None if self._accelerator.scaler is None else self._accelerator.scaler.state_dict()

    def load_scaler_state(self, state: dict[str, float] | None) -> None:
        """Restore the loss scaling."""
        if state is not None and self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state)

    def in_step(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, bool]]:
        """This rank's batches for passes through the trained network, and whether each counts: see :func:`in_step`.

        Ranks that gather weights together must run together; others go through their own batches.
        """
        return in_step(batches, self.comm, self.device) if self.spreads else ((batch, True) for batch in batches)

    def whole(self, state: Any) -> Any:
        """A state dict to be written by rank 0, with whole tensors; on all ranks together."""
        return gathered(state, keep=self.is_main) if self.spreads else state

    def load(self, net: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Fill the wrapped network with weights that every rank has."""
        if self.spreads:
            load_network(net, state)
        else:
            net.load_state_dict(state)

    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        """Restore the optimizer from a state that every rank has."""
        if self.spreads:
            load_optimizer(optimizer, state)
        else:
            optimizer.load_state_dict(dict(state))

    def wait(self) -> None:
        """Until every rank is here."""
        self._accelerator.wait_for_everyone()


def _check(device: str, precision: str) -> str:
    kind = device.partition(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device: expected auto, cpu, cuda or cuda:N, got {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {device}: this machine has no GPU that torch can use; type --device cpu")
    number = device.partition(":")[2]
    if number and (not number.isdigit() or int(number) >= torch.cuda.device_count()):
        raise ConfigError(f"--device {device}: this machine has {torch.cuda.device_count()} GPU(s), numbered from 0")
    if kind == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "fp16" and device == "cpu":
        raise ConfigError("--precision fp16 needs a GPU; type --precision bf16 or fp32")
    return device


@contextmanager
def _explicit_device(device: str) -> Iterator[None]:
    """Let Accelerate take the numbered GPU; by itself it takes that of the local rank."""
    if ":" not in device:
        yield
        return
    os.environ["ACCELERATE_TORCH_DEVICE"] = device
    try:
        yield
    finally:
        del os.environ["ACCELERATE_TORCH_DEVICE"]
