"""Finished runs as ingredients: that they can be averaged with each other, and what each reached on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from holdfast.errors import RunError
from holdfast.recorded import check_finished
from holdfast.run import Run

__all__ = ["Ingredient", "best_of", "check_alike", "read_ingredients"]


@dataclass(frozen=True)
class Ingredient:
    """A finished run that may go into an average.

    Args:
        run: Its directory.
        method: What it is called in tables.
        val: Metrics on validation, as ``result.json`` has them.
        test: Metrics on the test split, None where there is none.
    """

    run: Run
    method: str
    val: dict[str, Any] = field(repr=False)
    test: dict[str, Any] | None = field(repr=False)

    def weights(self) -> dict[str, Tensor]:
        """Its selected weights, read from disk: many runs together may be larger than memory."""
        return self.run.load_weights()

    def right_on_test(self) -> NDArray[np.bool_]:
        """Whether each test example is classified rightly, in the order of the ids."""
        predictions = self.run.load_predictions()["test"]
        found: NDArray[np.bool_] = predictions.logits.argmax(axis=1) == predictions.labels
        return found


def read_ingredients(runs: Sequence[tuple[str, Run]]) -> list[Ingredient]:
    """The runs by method, which must have been validated.

    Raises:
        RunError: One is not finished, or has no validation split.
    """
    found = []
    for method, run in runs:
        check_finished(run)
        result = run.result
        if result["val"] is None or result["val"]["accuracy"] is None:
            raise RunError(
                f"{str(run.path)!r} has no validation split, and averages are chosen on validation; give --val-fraction, such as 0.1"
            )
        found.append(Ingredient(run, method, result["val"], result["test"]))
    return found


def check_alike(ingredients: Sequence[Ingredient]) -> None:
    """Refuse runs whose weights cannot be averaged or whose examples differ: one that trained on another's test examples, above all.

    Raises:
        RunError: Names two runs and what they do not share.
    """
    first = ingredients[0].run
    for other in (ingredient.run for ingredient in ingredients[1:]):
        for what, read in _SHARED.items():
            if read(first) != read(other):
                raise RunError(
                    f"{str(first.path)!r} and {str(other.path)!r} do not share {what}, so they have no average; give runs that differ in "
                    "method, options of training or --seed alone"
                )


_SHARED: dict[str, Any] = {
    "the pretrained weights": lambda run: run.reference["fingerprint"],
    "the classes": lambda run: run.splits["classes"],
    "the data and their splits": lambda run: run.splits["fingerprint"],
    "the model": lambda run: run.config.get("model"),
    "the size of the images": lambda run: run.config.get("image_size"),
    "the normalization of the images": lambda run: run.config.get("normalization"),
    "the length of the texts": lambda run: run.config.get("max_length"),
}


def best_of(ingredients: Sequence[Ingredient]) -> Ingredient:
    """The best on validation: by accuracy, among equals by loss, then the first."""
    return min(ingredients, key=rank_of)


def rank_of(ingredient: Ingredient) -> tuple[float, float]:
    """Smaller is better on validation."""
    return -ingredient.val["accuracy"], ingredient.val["nll"]
