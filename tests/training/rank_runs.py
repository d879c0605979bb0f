"""What two ranks train for tests to look at; all of it in one pair of processes, started once for all of them."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.processes import torchrun
from tests.training.small_runs import LIVE_BATCHNORM, METHODS, OPTIONS, options_on_glyphnet

CASES: dict[str, dict[str, Any]] = {name: options_on_glyphnet(name) for name in METHODS if name not in LIVE_BATCHNORM}
CASES |= {
    "adarand, accumulation": {"method": "adarand", "accumulate": 2},
    "delta, accumulation": {**options_on_glyphnet("delta"), "accumulate": 2},
    "delta-attention": {**options_on_glyphnet("delta-attention"), "lr": 0.02},
    "l2-sp, accumulation, adamw": {"method": "l2-sp", "accumulate": 2, "optimizer": "adamw", "lr": 1e-3},
    "averaging, clipping, layer-wise rates, patience": {
        **{"method": "adarand", "ema": 0.5, "clip_norm": 0.5, "layer_decay": 0.9, "freeze": ["stem.1"]},
        **{"lr": 0.1, "epochs": 3, "patience": 1},
    },
    "adarand, balanced and weighted": {
        **{"method": "adarand", "sampling": "balanced", "class_weights": "balanced"},
        **{"split": "paper", "train_fraction": 0.7, "data_seed": 3},  # 3, 5 and 4 images of the classes
    },
}
"""By folder name; all with BatchNorm frozen, where the equality holds."""

SAME = {**OPTIONS, "model": "demo:glyphnet", "image_size": None, "batch_size": 8, "batchnorm": "frozen", "lr": 0.01}

LIKE_DDP: dict[str, dict[str, Any]] = {
    "distance, frob": {"method": {"name": "distance", "ratio": 0.02, "head_radius": 0.05}, "lr": 0.1},
    "distance-penalty, frob": {"method": {"name": "distance-penalty", "weight": 0.1, "head_weight": 0.1}, "accumulate": 2},
    "stochnorm": {**options_on_glyphnet("stochnorm"), "batchnorm": "train"},
    "core-tuning, clipping": {"method": "core-tuning", "clip_norm": 0.5, "accumulate": 2},
    "blocks computed again, uneven batches": {
        **{"method": "adarand+l2-sp", "gradient_checkpointing": True, "batch_size": 2, "track": ["features", "test"]},
        **{"ema": 0.5, "optimizer": "adamw", "lr": 1e-3},
    },
    "frozen backbone": {"method": "delta", "freeze": ["backbone"], "lr": 0.1},
    "bf16": {"method": "l2-sp", "precision": "bf16"},
}
"""Further cases in which FSDP must do what DDP does, and which are not equal to one rank, or are of interest to FSDP alone."""

WHOLE_WEIGHTS = {"distance", "distance-infop", "distance-infop_exact", "distance-penalty", "bi-tuning"}
"""Cases that FSDP refuses: norms of rows, BatchNorm's diagonal, a second copy of the weights."""

STOPPED = {**SAME, "method": "core-tuning", "ema": 0.5, "clip_norm": 0.5, "optimizer": "adamw", "lr": 1e-3, "checkpoint_minutes": 0.0}
"""What is stopped in the middle of its second epoch, with much that a checkpoint has to hold."""

ROBUST: dict[str, Any] = {
    **{"data": "demo:digits", "model": "demo:glyphnet", "labels": "robust", "shots": 20, "flip": False, "batchnorm": "frozen"},
    **{"epochs": 1, "batch_size": 40, "device": "cpu", "threads": 1},
}


@dataclass(frozen=True)
class TwoRanks:
    """What the driver left: run directories, those of FSDP in ``fsdp``, and what each rank saw."""

    runs: Path
    seen: tuple[dict[str, Any], dict[str, Any]]


def train_by_two_ranks(images: Path, shared: Path) -> TwoRanks:
    """Run the driver, or wait for the process of these tests that does."""
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "done").exists():
            done = torchrun(Path(__file__).with_name("rank_driver.py"), images, shared)
            assert done.returncode == 0, done.stderr
            (shared / "done").touch()
    first, second = (torch.load(shared / f"rank-{rank}.pt", weights_only=False) for rank in range(2))
    return TwoRanks(shared, (first, second))


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of these tests have in common."""
    own = factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "two-ranks"
