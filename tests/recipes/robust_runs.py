"""Small runs on noisy digits, and what their table says."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast.run import Run

Fit = Callable[..., Run]

OPTIONS: dict[str, Any] = {"model": "demo:glyphnet", "flip": False, "shots": 25, "epochs": 2, "device": "cpu", "threads": 1}


def classes_in(table: Path, column: str) -> dict[str, int]:
    """Class of each id, by a column."""
    with table.open(newline="") as file:
        return {row["id"]: int(row[column]) for row in csv.DictReader(file)}
