"""What the experiment on wrong labels is made of: data, noise, methods, seeds, and the options of each run."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

SEEDS = (0, 1, 2)

IMAGENET = "mobilenetv1_025_imagenet.safetensors"


class Noise(NamedTuple):
    """How labels of train and val become wrong: a rule with its rate, or the votes that the data come with."""

    rule: str
    rate: float = 0.0


NOISES = {
    "symmetric-20": Noise("symmetric", 0.2),
    "symmetric-40": Noise("symmetric", 0.4),
    "symmetric-60": Noise("symmetric", 0.6),
    "pair-40": Noise("pair", 0.4),
    "instance-40": Noise("instance", 0.4),
    "votes": Noise("votes"),
}
"""By name in the tables."""

CONSTRAINT: dict[str, Any] = {"name": "distance", "head_radius": "none"}
"""What ``--labels robust`` adds: every layer but the head within 0.1 of its pretrained norm."""

NO_CONSTRAINT: dict[str, Any] = {**CONSTRAINT, "ratio": 1e6}
"""In its place a ball that no layer leaves, so that the recipe corrects and does not constrain."""

METHODS: dict[str, dict[str, Any]] = {
    "plain": {},
    "constraint": {"method": [CONSTRAINT]},
    "correction": {"labels": "robust", "method": [NO_CONSTRAINT]},
    "robust": {"labels": "robust"},
    "elr": {"method": "elr"},
    "gce": {"method": "gce"},
    "label-smoothing": {"method": "label-smoothing"},
    "mixup": {"method": [{"name": "mixup", "alpha": 1.0}]},
    "constraint-head": {"method": [{"name": "distance", "head_radius": 1.0}]},
    "robust-head": {"labels": "robust", "method": [{"name": "distance", "head_radius": 1.0}]},
}
"""Options by name in the tables. Nothing is tuned: all else is the default of each method."""

HEAD_HELD = ("constraint-head", "robust-head")
"""Those that hold the head too, within a radius that depends on the size of the features; on the digits alone."""

MANY_CLASSES = {"elr": {"method": [{"name": "elr", "regularization_weight": 7.0, "momentum": 0.9}]}}
"""As published for 100 classes."""


@dataclass(frozen=True)
class Dataset:
    """Data of the experiment.

    Args:
        spec: As for ``fit``; relative to ``--data``, unless it is a demo.
        model: The network; its weights are :data:`IMAGENET` in ``--data`` where ``imagenet``.
        noises: Which of :data:`NOISES`.
        options: Of ``fit``, for all its runs.
        splits: New names of splits that the data come with.
        val_fraction: Share of train that becomes val, where there is none.
        clean_val: Whether val has been checked and keeps its labels.
        measured: Training examples that the Hessian distance is taken on.
        without: Methods that are left out.
        methods: Options that replace those of :data:`METHODS`.
    """

    spec: str
    model: str
    noises: tuple[str, ...]
    options: Mapping[str, Any]
    splits: Mapping[str, str] = field(default_factory=dict)
    val_fraction: float = 0.1
    clean_val: bool = False
    measured: int = 16
    without: tuple[str, ...] = ()
    imagenet: bool = False
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


DATASETS: dict[str, Dataset] = {
    "digits": Dataset(
        "demo:digits",
        "demo:glyphnet",
        ("symmetric-20", "symmetric-40", "symmetric-60", "pair-40", "instance-40"),
        {"epochs": 10, "batch_size": 64, "lr": 0.03, "augment": "none", "flip": False},
        measured=64,
    ),
    "trec": Dataset(
        "trec.jsonl",
        "minilm",
        ("votes",),
        {"epochs": 1, "batch_size": 32, "optimizer": "adamw", "lr": 1e-4, "head_lr": 1e-2, "max_length": 32, "val_labels": "clean"},
        clean_val=True,
        without=("mixup", *HEAD_HELD),  # tokens cannot be mixed
    ),
    "cars98a": Dataset(
        "cars98a",
        "demo:mobilenetv1-025",
        ("symmetric-20", "symmetric-40", "symmetric-60", "pair-40", "instance-40"),
        {"epochs": 12, "batch_size": 64, "lr": 0.03, "image_size": 96},
        without=HEAD_HELD,
        imagenet=True,
        methods=MANY_CLASSES,
    ),
    "hymenoptera": Dataset(
        "hymenoptera",
        "demo:mobilenetv1-025",
        ("symmetric-20", "symmetric-40", "instance-40"),  # of two classes 60 % wrong would be 40 % wrong with the names exchanged
        {"epochs": 12, "batch_size": 32, "lr": 0.01, "image_size": 128},
        splits={"val": "test"},
        val_fraction=0.2,
        without=HEAD_HELD,
        imagenet=True,
    ),
}

PUBLISHED = ("digits/*", "trec/*", "hymenoptera/symmetric-20/*", "cars98a/symmetric-20/*")
"""What is run where nothing else is asked for, in this order: about two hours of one processor."""

COMMON: dict[str, Any] = {"select": "last", "device": "cpu", "threads": 1}
"""With ``select`` last, what is measured is of the last epoch, and ``result.json`` tells the other selections anyway."""


@dataclass(frozen=True)
class Cell:
    """One run."""

    data: str
    noise: str
    method: str
    seed: int

    @property
    def folder(self) -> str:
        """Its run directory under ``--out``, and its name."""
        return f"{self.data}/{self.noise}/{self.method}/{self.seed}"

    def options(self, table: Path, model: str, weights: Path | None) -> dict[str, Any]:
        """What ``holdfast.fit`` is called with, but for ``out``."""
        dataset = DATASETS[self.data]
        chosen = dataset.methods.get(self.method, METHODS[self.method])
        files = {"weights": str(weights)} if weights is not None else {}
        return {**COMMON, **dataset.options, **files, **chosen, "data": str(table), "model": model, "seed": self.seed}


def cells() -> Iterator[Cell]:
    """All of them, seed by seed within data and noise, so that a part of them is balanced."""
    for name, dataset in DATASETS.items():
        methods = [method for method in METHODS if method not in dataset.without]
        for noise in dataset.noises:
            yield from (Cell(name, noise, method, seed) for seed in SEEDS for method in methods)


def chosen_cells(patterns: Sequence[str]) -> list[Cell]:
    """Those that a pattern such as ``digits/pair-40/*`` names, in the order of the patterns.

    Raises:
        SystemExit: A pattern names none.
    """
    found: dict[Cell, None] = {}
    for pattern in patterns:
        named = [cell for cell in cells() if fnmatch.fnmatchcase(cell.folder, pattern)]
        if not named:
            raise SystemExit(f"--cells {pattern}: this names no cell; they are called {next(cells()).folder}, DATA/NOISE/METHOD/SEED.")
        found |= dict.fromkeys(named)
    return list(found)
