"""Strong baselines as names of their own in ``--methods``: plain fine-tuning with the training options that make it strong."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from holdfast.catalog.baselines import BASELINES as RECORDS

__all__ = ["BASELINES", "baseline_options"]

BASELINES: Mapping[str, Mapping[str, Any]] = MappingProxyType({name: record.options for name, record in RECORDS.items()})
"""Options of ``fit`` by label. They stand above those that all methods share, and below what the user says of this one method."""


def baseline_options(label: str) -> Mapping[str, Any] | None:
    """The options of ``fit`` that a label stands for; None where it is no baseline, but a method of the catalog.

    Args:
        label: An entry of ``--methods``, such as ``llrd``.
    """
    return BASELINES.get(label)
