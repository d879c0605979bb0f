"""Small trainings: 36 images of noise, of which 18 to train on, three classes, six steps; and what is compared between two of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from holdfast.run import Run

CLASSES = ("ant", "bee", "fly")
PER_CLASS = {"train": 6, "val": 3, "test": 3}
"""With batches of 6, three steps an epoch."""

OPTIONS: dict[str, Any] = {
    "model": "python:tests.training.small_runs:tiny_network",
    "image_size": 16,
    "epochs": 2,
    "batch_size": 6,
    "device": "cpu",
    "threads": 1,
    "checkpoint_minutes": 1000.0,
}

METHODS: dict[str, Any] = {
    "plain": "plain",
    "fnp": "fnp",
    "randreg-uniform": {"name": "randreg", "prior": "uniform"},
    "randreg-normal": {"name": "randreg", "prior": "normal"},
    "randreg-pretrained": {"name": "randreg", "prior": "pretrained"},
    "randreg-cp": "randreg-cp",
    "adarand": "adarand",
    "l2-sp": "l2-sp",
    "adarand+l2-sp": "adarand+l2-sp",
    "distance": {"name": "distance", "ratio": 0.02, "head_radius": 0.05, "bn": "diagonal"},
    "distance-infop": [{"name": "fnp"}, {"name": "distance", "norm": "infop", "ratio": 0.02, "scale_by_depth": 0.5}],
    "distance-infop_exact": {"name": "distance", "norm": "infop_exact", "radius": 0.1},
    "distance-penalty": {"name": "distance-penalty", "norm": "infop"},
    "bss": "bss",
    "delta": {"name": "delta", "layers": "0,4", "attention": False, "weight": 1e-4},
    "delta-attention": {"name": "delta", "layers": "0,4", "attention": True, "attention_epochs": 1, "attention_batches": 2},
    "stochnorm": "stochnorm",
    "core-tuning": "core-tuning",
    "co-tuning": {"name": "co-tuning", "weight": 0.2},
    "co-tuning-direct": {"name": "co-tuning", "relationship": "direct", "weight": 0.2},
    "dr-tune": {"name": "dr-tune", "queue_size": 9, "rotation_every": 2},
    "bi-tuning": "bi-tuning",
    "uot": "uot",
    "backward": {"name": "backward", "transition": "pair:0.3"},
    "backward-abs": {"name": "backward", "transition": "pair:0.3", "nonneg": "abs"},
    "forward": {"name": "forward", "transition": "symmetric:0.3", "start_epoch": 1},
    "label-smoothing": "label-smoothing",
    "gce": "gce",
    "gce-truncated": {"name": "gce", "truncate": 0.35, "prune_start": 0},
    "sce": "sce",
    "js": "js",
    "gjs": {"name": "js", "views": 1},
    "elr": "elr",
    "sat": {"name": "sat", "start_epoch": 1},
    "dac": {"name": "dac", "warmup_epochs": 1},
    "apl": "apl",
    "mixup": "mixup",
}

OF_EACH_KIND = (
    "plain",
    "adarand",
    "adarand+l2-sp",
    "distance",
    "delta-attention",
    "stochnorm",
    "co-tuning",
    "dr-tune",
    "elr",
    "backward-abs",
)
"""One method for each kind of state and of task; tests of the whole loop take these in a bare pytest, and all in CI."""


def each(methods: Iterable[str]) -> list[Any]:
    """Cases of a test that takes a training for each method."""
    return [pytest.param(method, marks=() if method in OF_EACH_KIND else pytest.mark.slow) for method in methods]


FURTHER_OPTIONS: dict[str, dict[str, Any]] = {
    "uot": {"source_data": "demo:digits"},
    "dr-tune": {"lr": 0.1},  # the queue's part of the loss does not move the network
    **{name: {"lr": 0.1} for name in ("forward", "gce", "gce-truncated", "js", "gjs")},  # whose gradients are small at the start
    **{name: {"lr": 0.1} for name in ("distance", "distance-infop", "distance-infop_exact")},  # so that updates leave the balls
}

OF_THE_JOINT_BATCH = {"bss", "core-tuning", "bi-tuning", "dr-tune", "backward-abs", "sat", "mixup"}
"""Methods that see a micro-batch at a time, so that accumulation is not the whole batch to them."""

LIVE_BATCHNORM = {"stochnorm"}
"""Methods that cannot run with frozen BatchNorm, where ranks and micro-batches equal the whole batch."""


def options_of(method: str) -> dict[str, Any]:
    """The method and what it needs."""
    return {"method": METHODS[method], **FURTHER_OPTIONS.get(method, {})}


def options_on_glyphnet(method: str) -> dict[str, Any]:
    """The same for a network that has other layers than the small one."""
    options = options_of(method)
    named = options["method"]
    return {**options, "method": {key: value for key, value in named.items() if key != "layers"} if isinstance(named, dict) else named}


def tiny_network() -> nn.Module:
    """A freshly drawn network with BatchNorm, and dropout on the way to its eight features."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Conv2d(8, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(8, 5),
    )


def write_images(root: Path) -> Path:
    """Split folders of noise, brighter from class to class."""
    generator = np.random.default_rng(0)
    for split, count in PER_CLASS.items():
        for brightness, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(40 * brightness, 176 + 40 * brightness, (18, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


def history(run: Run) -> list[dict[str, Any]]:
    """Rows of ``history.csv`` without what the clock on the wall decides."""
    return [{key: cell for key, cell in row.items() if key != "seconds"} for row in run.history]


def outcome(run: Run) -> dict[str, Any]:
    """What two runs of the same numbers have in common in ``result.json``."""
    result = run.result
    return {key: value for key, value in result.items() if key != "cost"} | {"steps": result["cost"]["steps"]}


def assert_same_run(run: Run, other: Run) -> None:
    """Weights bit for bit, history, result and predictions."""
    assert_same_tensors(run.load_weights(), other.load_weights())
    assert history(run) == history(other)
    assert run.layers == other.layers
    assert outcome(run) == outcome(other)
    for split, rows in run.load_predictions().items():
        for mine, theirs in zip(rows, other.load_predictions()[split], strict=True):
            assert np.array_equal(mine, theirs)


def assert_same_tensors(tensors: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert tensors.keys() == others.keys()
    assert [name for name, tensor in tensors.items() if not torch.equal(tensor, others[name])] == []
