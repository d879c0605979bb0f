"""Warnings of other libraries that tell a user of the command line nothing, each by name. All others are shown."""

from __future__ import annotations

__all__ = ["KNOWN_NOISE"]

KNOWN_NOISE: tuple[tuple[type[Warning], str], ...] = ()
"""Category and the beginning of the message, as a regular expression."""
