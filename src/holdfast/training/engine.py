"""Devices, ranks and precision: the only module that knows Accelerate."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from holdfast.distributed import check_rendezvous, current_comm
from holdfast.errors import ConfigError

__all__ = ["Engine"]

_MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


class Engine:
    """Where and in which arithmetic a run computes.

    Ranks are found, never started: under torchrun or SLURM each process makes its own engine.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        ConfigError: The device or precision is not to be had on this machine.
    """

    def __init__(self, device: str = "auto", precision: str = "fp32") -> None:
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

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run directory."""
        return self.comm.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Move a module to the device; DDP and mixed precision go around it where they apply."""
        module.to(self.device)
        wrapped: nn.Module = self._accelerator.prepare_model(module)
        return wrapped

    def wrap_optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimizer, with loss scaling in fp16."""
        wrapped: torch.optim.Optimizer = self._accelerator.prepare_optimizer(optimizer)
        return wrapped

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of the run, for forward passes outside the wrapped module."""
        context: AbstractContextManager[None] = self._accelerator.autocast()
        return context

    def accumulating(self, module: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        """Hold back DDP's exchange of gradients until the last micro-batch."""
        if last or self.comm.size == 1:
            return nullcontext()
        context: AbstractContextManager[None] = self._accelerator.no_sync(module)
        return context

    def backward(self, loss: Tensor) -> None:
        """Differentiate, scaled in fp16."""
        self._accelerator.backward(loss)

    def clip_gradients(self, parameters: Sequence[nn.Parameter], norm: float) -> Tensor:
        """Scale gradients down to a global norm, after taking the loss scaling of fp16 out of them.

        Ranks have exchanged their gradients by then, so each finds the same norm. Nothing waits for the device.

        Returns:
            The norm before, scalar; not finite where a gradient is not.
        """
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
