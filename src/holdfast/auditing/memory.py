"""How many examples fit through a network at once where it is differentiated twice, and what to say when they did not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.measures.evaluation import evaluated
from holdfast.measures.parameters import WeightBlocks
from holdfast.measures.products import HessianProducts, Loss
from holdfast.types import Batch

__all__ = ["available_bytes", "explaining_shortage", "fitting_batch", "graph_bytes"]

SHARE = 0.4
"""Part of the free memory that the graph of a batch may fill; a product needs about as much again while it runs."""


def graph_bytes(weights: WeightBlocks, loss: Loss, batch: Batch) -> int:
    """Memory that the twice differentiable graph of a batch keeps, weights left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in weights.net.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with evaluated(weights.net), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        HessianProducts(weights, loss, batch.inputs, batch.labels)
    return sum(kept.values())


def available_bytes(device: torch.device) -> int:
    """Memory that is free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def fitting_batch(bytes_each: int, most: int, device: torch.device) -> int:
    """The largest power of two of examples whose graph fits into the share of free memory, or all ``most`` where they do."""
    room = int(SHARE * available_bytes(device) / max(bytes_each, 1))
    return most if room >= most else max(1, 1 << max(room.bit_length() - 1, 0))


@contextmanager
def explaining_shortage(doing: str, batch_size: int, samples: int) -> Iterator[None]:
    """Turn the error of a device without memory left into a sentence that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_shortage(error):
            raise
        raise ConfigError(
            f"out of memory while measuring {doing} with {batch_size} examples at once and {samples} in all; lower --batch-size "
            f"(such as --batch-size {max(1, batch_size // 4)}), --samples, or the layers with --layers."
        ) from error


def _is_shortage(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text
