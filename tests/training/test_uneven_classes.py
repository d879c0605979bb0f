"""Balanced sampling and weights of examples in a whole run: exact to resume, and the same in micro-batches."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.small_runs import CLASSES, assert_same_run, write_images

import holdfast
from holdfast.errors import ConfigError
from holdfast.run import Run
from holdfast.training.events import Event, StepDone

Fit = Callable[..., Run]

UNEVEN = {"sampling": "balanced", "class_weights": "balanced"}


class Crash(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2, 6 and 6 training images of the three classes, as a table that weighs some of them more."""
    root = write_images(tmp_path_factory.mktemp("uneven"))
    rows = [("path", "label", "split", "weight")]
    for split in ("train", "val", "test"):
        for name in CLASSES:
            images = sorted((root / split / name).iterdir())[: 2 if (split, name) == ("train", CLASSES[0]) else None]
            rows += [(image.relative_to(root).as_posix(), name, split, str(1 + number % 2)) for number, image in enumerate(images)]
    with (root / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root / "table.csv"


@pytest.mark.parametrize("options", [{"sampling": "balanced"}, {"class_weights": "balanced"}, UNEVEN], ids=str)
def test_a_crash_inside_an_epoch_changes_nothing(options: dict[str, Any], uneven: Path, fit: Fit, tmp_path: Path) -> None:
    seen: list[Event] = []

    def crash_at_the_second_step(event: Event) -> None:
        if isinstance(event, StepDone):
            seen.append(event)
            if len(seen) == 2:
                raise Crash

    options = {"data": uneven, "batch_size": 4, "augment": "resized-crop", **options}
    undisturbed = fit("undisturbed", **options)
    with pytest.raises(Crash):
        fit(**options, checkpoint_minutes=0.0, listener=crash_at_the_second_step)
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), undisturbed)


def test_micro_batches_add_up_to_the_balanced_and_weighted_batch(uneven: Path, fit: Fit) -> None:
    options = {"data": uneven, "batch_size": 4, "model": "demo:glyphnet", "image_size": None, "batchnorm": "frozen", **UNEVEN}
    whole, parts = fit("whole", **options), fit("parts", **options, accumulate=4)
    torch.testing.assert_close(parts.load_weights(), whole.load_weights(), rtol=1e-4, atol=1e-5)
    # And both options matter.
    for left_out in UNEVEN:
        other = fit(f"without {left_out}", **{key: value for key, value in options.items() if key != left_out})
        assert not np.allclose(other.load_weights()["fc.weight"], whole.load_weights()["fc.weight"], rtol=1e-3)


PLUGIN = """
from holdfast import TaskLoss, register
from holdfast.losses.functional import cross_entropy

@register("deaf-loss", summary="knows nothing of weights")
class Deaf(TaskLoss):
    def loss(self, step):
        return cross_entropy(step.logits, step.labels).mean()
"""


@pytest.mark.usefixtures("own_catalog")
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"class_weights": "balanced"}, "--class-weights balanced: method 'deaf-loss' takes no weights of examples; leave the option out"),
        ({}, "table.csv gives weights to its examples: method 'deaf-loss' takes no weights of examples; give a table without"),
    ],
    ids=["option", "table"],
)
def test_a_loss_that_takes_no_weights_is_refused_before_the_run(
    options: dict[str, Any], sentence: str, uneven: Path, fit: Fit, tmp_path: Path
) -> None:
    plugin = tmp_path / "deaf.py"
    plugin.write_text(PLUGIN)
    with pytest.raises(ConfigError, match=sentence):
        fit(data=uneven, method="deaf-loss", plugin=[str(plugin)], batch_size=4, **options)
    assert not (tmp_path / "run").exists()
