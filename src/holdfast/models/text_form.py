"""What a run records of a network of texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["TextForm"]


@dataclass(frozen=True)
class TextForm:
    """Where configuration and tokenizer lie, and how tokens become one vector; None for a network that came with a head."""

    folder: Path
    pooling: str | None
