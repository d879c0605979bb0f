"""Random numbers keyed by what they are for: no generator, nothing to save, and no draw depends on any other.

Each draw is a hash of (stream, seed, epoch, key of the example, number of the draw), so it does not matter which rank, worker,
position or micro-batch asks for it. The generator is splitmix64 (Steele, Lea and Flood, OOPSLA 2014), seeded with that hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["KeyArray", "example_keys", "permutation", "repeat_keys", "uniforms"]

KeyArray = npt.NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def example_keys(ids: Iterable[str]) -> KeyArray:
    """A 64-bit key (N,) of each id, the same wherever the id occurs: adding a file changes no other key."""
    return np.array([_text_key(text) for text in ids], dtype=np.uint64)


def repeat_keys(keys: KeyArray, repeats: npt.NDArray[np.int64]) -> KeyArray:
    """Keys (B,) of examples that are shown again: as they are at the first time, and other ones at each repeat."""
    again = _mix(keys + _mix(repeats.astype(np.uint64) * _GAMMA))
    return np.where(repeats == 0, keys, again)


def uniforms(stream: str, seed: int, epoch: int, keys: KeyArray, count: int) -> npt.NDArray[np.float64]:
    """Draws uniform on [0, 1).

    Args:
        stream: What the numbers are for.
        seed: Seed of the run.
        epoch: 0-based epoch.
        keys: Keys (B,) of the examples.
        count: Draws for each example.

    Returns:
        Draws (B, count). The first draws do not depend on ``count``.
    """
    bits = _mix(_states(stream, seed, epoch, keys)[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _GAMMA)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(stream: str, seed: int, epoch: int, keys: KeyArray) -> npt.NDArray[np.int64]:
    """A uniformly random order (N,) of the positions of ``keys``."""
    return np.argsort(_mix(_states(stream, seed, epoch, keys) + _GAMMA), kind="stable")


def _states(stream: str, seed: int, epoch: int, keys: KeyArray) -> KeyArray:
    state = np.array([_text_key(stream)], dtype=np.uint64)
    for word in (seed, epoch):
        state = _mix((state ^ np.uint64(word % 2**64)) + _GAMMA)
    return _mix(state ^ keys)


def _mix(bits: KeyArray) -> KeyArray:
    """The finaliser of splitmix64, a bijection of 64-bit words; multiplication wraps on purpose."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _text_key(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
