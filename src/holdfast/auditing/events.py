"""What an audit announces while it goes: plain records for whoever listens, as in training. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["AuditFinished", "AuditStarted", "Estimated", "Event", "Listener", "PartDone", "PartProgress", "PartStarted", "ignore"]


@dataclass(frozen=True)
class AuditStarted:
    """Network and data are ready; ``subject`` and ``settings`` are those sections of ``audit.json``."""

    subject: Mapping[str, Any]
    settings: Mapping[str, Any]
    layers: int


@dataclass(frozen=True)
class Estimated:
    """What measuring curvature takes, before it begins.

    Args:
        product_seconds: One product with the Hessian, as timed.
        memory_mib: Memory for the graph of a batch and the vectors beside it, beyond what is used already.
        seconds: The time that all parts may take together; None without a limit.
        products: The most products that all parts may take together; None without a limit.
    """

    product_seconds: float
    memory_mib: float
    seconds: float | None
    products: int | None


@dataclass(frozen=True)
class PartStarted:
    """A part begins: ``products`` it will probably make at most, and the seconds that they take; None where that is not known."""

    part: str
    products: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class PartProgress:
    """A part has made that many products so far, in that many seconds."""

    part: str
    products: int
    seconds: float


@dataclass(frozen=True)
class PartDone:
    """A part has ended."""

    part: str
    products: int
    seconds: float


@dataclass(frozen=True)
class AuditFinished:
    """Everything is measured; ``record`` is the content of ``audit.json``."""

    record: Mapping[str, Any]


Event = AuditStarted | Estimated | PartStarted | PartProgress | PartDone | AuditFinished
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A listener that does nothing."""
