"""Gradient checkpointing: keep only what enters each block, and compute the block once more in the backward pass.

Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, by ``torch.utils.checkpoint``. Gradients, BatchNorm statistics and random
states are those of training without it.
"""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, is_grad_enabled, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from holdfast.errors import ConfigError, ModelError

__all__ = ["blocks_of", "checkpoint_blocks"]

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def checkpoint_blocks(net: nn.Module, head_name: str, *, compiled: bool = False) -> int:
    """Let every block of a network recompute its activations in the backward pass; in train mode only.

    Blocks are the innermost modules of which a stage holds several, such as residual blocks and encoder layers, and beside them what is
    made of layers, such as a stem. Hooks on a block fire once for each forward pass, hooks inside one a second time in the backward pass.

    Args:
        net: The bare network, changed in place; names stay as they are.
        head_name: Qualified name of its head, whose surroundings are left alone.
        compiled: Whether the network will run through torch.compile.

    Returns:
        How many blocks there are.

    Raises:
        ConfigError: torch.compile is asked for, which would let BatchNorm see each batch twice.
        ModelError: The network is a plain sequence of layers.
    """
    blocks = blocks_of(net, head_name)
    if len(blocks) < 2:  # one alone saves nothing: all its activations are there again when it is computed again
        raise ModelError(
            f"--gradient-checkpointing: {type(net).__name__} is a plain sequence of layers, without blocks that could be computed again; "
            "leave the option out and save memory with --accumulate"
        )
    if compiled and any(_live_layers(block) for block in blocks):
        raise ConfigError(
            "--gradient-checkpointing: under --compile BatchNorm would see each batch twice; "
            "type --batchnorm frozen, or leave one of the two out"
        )
    for block in blocks:
        # A bound method follows its block through copy.deepcopy; the class, and so isinstance, stays as it is.
        block.forward = types.MethodType(_recomputed, block)
    return len(blocks)


def blocks_of(net: nn.Module, head_name: str) -> list[nn.Module]:
    """The blocks of a network, none of which holds its head: residual blocks, encoder layers, stems."""
    around_head = {net.get_submodule(head_name.rsplit(".", depth)[0]) for depth in range(head_name.count(".") + 1)}
    return [block for block in _blocks(net) if block not in around_head]


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if type(child) in CONTAINERS or any(_is_stage(inner) for inner in child.modules()):
            yield from _blocks(child)
        elif next(child.children(), None) and next(child.parameters(), None) is not None and not isinstance(child, _NormBase):
            yield child


def _is_stage(module: nn.Module) -> bool:
    """Whether a container holds several modules of one kind that are made of layers."""
    kinds = Counter(type(child) for child in module.children() if list(child.children()) and not isinstance(child, CONTAINERS))
    return isinstance(module, CONTAINERS) and max(kinds.values(), default=0) > 1


def _recomputed(block: nn.Module, *args: Any, **options: Any) -> Any:
    forward = type(block).forward
    if not (block.training and is_grad_enabled()):
        return forward(block, *args, **options)
    # Dense blocks pass the list of all maps so far, and append to it before the backward pass.
    args = tuple(list(value) if isinstance(value, list) else value for value in args)
    live = _live_layers(block)
    if not live:  # torch.compile takes no context of our own
        return checkpoint(forward, block, *args, use_reentrant=False, **options)
    return checkpoint(forward, block, *args, use_reentrant=False, context_fn=partial(_contexts, live), **options)


def _live_layers(module: nn.Module) -> list[_NormBase]:
    """Normalisation layers whose statistics follow the batches."""
    return [layer for layer in module.modules() if isinstance(layer, _NormBase) and layer.training and layer.track_running_stats]


def _contexts(layers: list[_NormBase]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds a block in the forward pass, and when it is computed again."""
    return nullcontext(), _at_statistics(layers, [_statistics(layer, copy=True) for layer in layers])


@contextmanager
def _at_statistics(layers: list[_NormBase], before: list[dict[str, Tensor | None]]) -> Iterator[None]:
    """Give layers the statistics of before the forward pass, and let them update those: their own have seen the batch already."""
    own = [_statistics(layer, copy=False) for layer in layers]
    for layer, statistics in zip(layers, before, strict=True):
        layer._buffers.update(statistics)
    try:
        yield
    finally:
        for layer, statistics in zip(layers, own, strict=True):
            layer._buffers.update(statistics)


def _statistics(layer: _NormBase, *, copy: bool) -> dict[str, Tensor | None]:
    buffers = {name: layer._buffers[name] for name in STATISTICS}
    return {name: value.clone() if copy and value is not None else value for name, value in buffers.items()}
