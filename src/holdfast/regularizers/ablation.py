"""How much a loss rises when one filter of a layer is taken out, for each of its filters.

A layer has as many filters as channels, so nearly all the time goes into forward passes. Each starts again from the ablated layer: what
the network computed before is kept from a whole pass and handed out in place of computing it again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from holdfast.errors import DataError, ModelError
from holdfast.models.select import channel_axis
from holdfast.types import Batch, Comm

__all__ = ["Restart", "loss_gaps"]


@torch.no_grad()
def loss_gaps(net: nn.Module, layers: Sequence[str], batches: Iterable[Batch], comm: Comm) -> list[Tensor]:
    """What the cross-entropy gains without each filter of some layers, on average over batches.

    A filter is taken out by setting its channel in the layer's output to 0, which is what zeros for its weights and bias do, and serves
    layers without weights of their own, such as blocks, too.

    Args:
        net: A network in eval mode that maps inputs to logits (B, K); as it was afterwards.
        layers: Qualified names of layers.
        batches: This rank's parts of the batches, equally many on each rank.
        comm: The other ranks.

    Returns:
        For each layer the loss without a filter minus that of the whole network (C,), float64, the same on every rank.

    Raises:
        DataError: There is no batch.
        ModelError: A layer takes no part in a forward pass, runs more than once, or returns no tensor.
    """
    sums: list[Tensor] = []
    count = 0
    for batch in batches:
        rows = comm.sum(torch.tensor(len(batch), dtype=torch.float64, device=batch.labels.device))
        gaps = [comm.sum(_gaps_of_batch(net, layer, batch)) / rows for layer in layers]
        sums = [total + gap for total, gap in zip(sums, gaps, strict=True)] if sums else gaps
        count += 1
    if not count:
        raise DataError("the training split gave no batch, so there is nothing to find the weight of filters on. Check the split.")
    return [total / count for total in sums]


def _gaps_of_batch(net: nn.Module, layer: str, batch: Batch) -> Tensor:
    """Summed over the rows (C,)."""

    def loss(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, batch.labels, reduction="sum").double()

    with Restart(net, layer, batch.inputs) as restart:
        axis = channel_axis(net.get_submodule(layer), tuple(restart.output.shape))
        without = [loss(restart.run(_without(restart.output, axis, number))) for number in range(restart.output.shape[axis])]
        return torch.stack(without) - loss(restart.logits)


def _without(output: Tensor, axis: int, number: int) -> Tensor:
    changed = output.clone()
    changed.select(axis, number).zero_()
    return changed


class Restart:
    """Forward passes of one batch that begin at a layer, whose output is given.

    A whole pass keeps what the modules beside the layer and beside those around it return before the layer runs: for ``layer3.5.conv3``
    that is ``conv1`` to ``layer2``, the blocks of ``layer3`` before the last, and what stands before the layer in the last. In later
    passes they return the same without running. So only what follows the layer runs, and loose operations of the modules around it.
    Where that does not reproduce the logits of the whole pass, because a network changes tensors in place in an unusual order, later
    passes are whole ones in which only the layer's own output is replaced.

    A context manager: it stands in for the ``forward`` of modules until it is left. Use it without gradient.

    Args:
        net: A network in eval mode.
        layer: Qualified name of the layer.
        inputs: The batch.

    Attributes:
        logits: Those of the whole pass (B, K).
        output: The layer's output in it.
        restarts: Whether later passes start at the layer.
    """

    def __init__(self, net: nn.Module, layer: str, inputs: Any) -> None:
        self._net = net
        self._name = layer
        self._inputs = inputs
        self._given: Tensor | None = None  # what the layer returns in the pass under way
        self._memories: list[_Memory] = []
        self._stack = ExitStack()

    def __enter__(self) -> Restart:
        with ExitStack() as stack:  # undone on errors
            layer = self._net.get_submodule(self._name)
            self.logits, self.output, self._memories = _whole_pass(self._net, self._name, self._inputs)
            stack.enter_context(_standing_in(layer, lambda forward, *args, **kwargs: self._given))
            with ExitStack() as answers:
                for memory in self._memories:
                    answers.enter_context(_standing_in(memory.module, memory.answer))
                self.restarts = self._agrees()
                if self.restarts:
                    stack.enter_context(answers.pop_all())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self, output: Tensor) -> Tensor:
        """Logits (B, K) where the layer returns ``output``, which the network may change."""
        self._given = output
        for memory in self._memories:
            memory.rewind()
        logits: Tensor = self._net(self._inputs)
        return logits

    def _agrees(self) -> bool:
        """Whether starting at the layer gives the logits of the whole pass; the memories learn which of them must hand out copies."""
        logits = self.run(self.output.clone())
        for memory in self._memories:
            memory.end_trial()
        return torch.allclose(logits, self.logits, rtol=1e-4, atol=1e-5 * float(self.logits.abs().max()))


class _Memory:
    """What a module returned in its first calls, in their order."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._kept: list[Any] = []
        self._calls = 0
        self._copies: list[Tensor] | None = []  # handed out in the trial
        self._copying = True

    def keep(self, output: Any) -> None:
        """One more output, as it is before anything changes it in place."""
        self._kept.append(output.clone() if isinstance(output, Tensor) else None)

    @property
    def usable(self) -> bool:
        """Whether there is something to hand out, and all of it tensors."""
        return bool(self._kept) and all(output is not None for output in self._kept)

    def rewind(self) -> None:
        """Begin a pass."""
        self._calls = 0

    def answer(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """In place of ``forward``."""
        number = self._calls
        self._calls += 1
        if number >= len(self._kept):
            return forward(*args, **kwargs)
        if not self._copying:
            return self._kept[number]
        copy = self._kept[number].clone()
        if self._copies is not None:
            self._copies.append(copy)
        return copy

    def end_trial(self) -> None:
        """From now on hand out copies only where the network changed one in place."""
        self._copying = any(copy._version for copy in self._copies or ())
        self._copies = None


def _whole_pass(net: nn.Module, name: str, inputs: Any) -> tuple[Tensor, Tensor, list[_Memory]]:
    """Logits, the layer's output, and what stands beside it and was done before it ran."""
    outputs: list[Any] = []
    reached: list[bool] = []
    memories = [_Memory(module) for module in _beside(net, name)]

    def remembering(memory: _Memory) -> Callable[..., None]:
        return lambda module, args, output: None if reached else memory.keep(output)

    with ExitStack() as hooks:
        layer = net.get_submodule(name)
        hooks.callback(layer.register_forward_pre_hook(lambda module, args: reached.append(True)).remove)
        hooks.callback(layer.register_forward_hook(lambda module, args, output: outputs.append(_copy(output, name))).remove)
        for memory in memories:
            hooks.callback(memory.module.register_forward_hook(remembering(memory)).remove)
        logits = net(inputs)
    if len(outputs) != 1:
        what = f"runs {len(outputs)} times" if outputs else "takes no part"
        raise ModelError(f"the layer {name!r} {what} in a forward pass, so its filters cannot be taken out one by one; name another")
    return logits, outputs[0], [memory for memory in memories if memory.usable]


def _copy(output: Any, name: str) -> Tensor:
    if not isinstance(output, Tensor):
        raise ModelError(f"the layer {name!r} returns a {type(output).__name__}, not a tensor, so it has no channels; name another")
    return output.clone()


def _beside(net: nn.Module, name: str) -> Iterator[nn.Module]:
    """The modules next to a layer and next to those around it, without lists of modules, which do not run themselves."""
    around: nn.Module = net
    for part in name.split("."):
        for child_name, child in around.named_children():
            if child_name != part:
                yield from _running(child)
        around = around.get_submodule(part)


def _running(module: nn.Module) -> Iterator[nn.Module]:
    if not isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        yield module
        return
    for child in module.children():
        yield from _running(child)


@contextmanager
def _standing_in(module: nn.Module, function: Callable[..., Any]) -> Iterator[None]:
    """Let a module call ``function(forward, ...)`` in place of its ``forward``."""
    before = vars(module).get("forward")
    module.forward = functools.partial(function, module.forward)
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
