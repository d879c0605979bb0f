"""Warnings of other libraries that tell a user of the command line nothing, each by name. All others are shown."""

from __future__ import annotations

__all__ = ["KNOWN_NOISE"]

KNOWN_NOISE: tuple[tuple[type[Warning], str], ...] = (
    # DistributedDataParallel, torch 2.15: the option does what the training loop wants, and its successor does not yet.
    (FutureWarning, r"`broadcast_buffers` is deprecated"),
)
"""Category and the beginning of the message, as a regular expression."""
