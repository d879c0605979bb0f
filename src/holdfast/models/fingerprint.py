"""One hash for a set of named tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["fingerprint_tensors"]


def fingerprint_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, type, shape and bytes of every tensor, in the order of their names.

    The bytes are those in memory, row-major, little-endian on all machines that torch supports. The order of the mapping, the device and
    the memory layout do not matter.

    Example:
        >>> fingerprint_tensors({"a": torch.zeros(2)}) == fingerprint_tensors({"a": torch.zeros(2, dtype=torch.float64)})
        False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        shape = ",".join(str(side) for side in tensor.shape)
        digest.update(f"{name}\t{str(tensor.dtype).removeprefix('torch.')}\t({shape})\n".encode())
        # NumPy knows no bfloat16: view every type as bytes. A scalar has no axis to view, so flatten first.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
