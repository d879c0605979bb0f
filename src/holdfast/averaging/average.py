"""``holdfast.average``: what averaging the weights of finished runs gives, chosen on validation and judged on test."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from holdfast.averaging.paired import PairedAccuracies, paired_accuracies
from holdfast.averaging.record import FILE, AverageRow, Averages, Group, SingleRun, to_json
from holdfast.compare.statistics import Verdict, holm, verdict
from holdfast.errors import ConfigError
from holdfast.run import Run
from holdfast.run.files import atomic_write

if TYPE_CHECKING:
    from holdfast.averaging.averages import Averaged
    from holdfast.averaging.runs import Ingredient
    from holdfast.training.evaluate import Predictions

__all__ = ["average", "average_group", "corrected", "write_averages"]

log = logging.getLogger("holdfast")

Runs = Sequence["Run | str | Path"]


def average(runs: Runs | Mapping[str, Runs], *, out: str | Path, device: str = "auto", data: str | None = None) -> Averages:
    """Average the weights of finished runs in every way that is known here, and say whether it helped.

    Of each method WiSE-FT from its best run, the greedy soup and Model Stock of all its runs, and the greedy soup over all methods. They
    are chosen on validation; the test split is read once for each, after all choices. BatchNorm statistics are estimated anew, on
    training images that are not augmented. The best average is saved as a run directory in ``out``, unless no average beats every single
    run on validation.

    Args:
        runs: Finished runs that share data, splits, classes and pretrained network, such as seeds of one method; or several such lists by
            the name of a method.
        out: New directory, for ``averages.json`` and the best average.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        data: Where the data are now, if they were moved.

    Returns:
        What was found, with one group.

    Raises:
        ConfigError: There is no run.
        RunError: The runs cannot be averaged with each other, are not finished, or were not validated.
        HoldfastError: Network or data cannot be had again.

    Example::

        found = holdfast.average(["runs/seed0", "runs/seed1", "runs/seed2"], out="runs/soup")
        for row in found.groups[0].averages:
            print(row.kind, row.val["accuracy"], row.difference, row.verdict)
    """
    by_method = runs if isinstance(runs, Mapping) else {"": runs}
    named = [(method, one if isinstance(one, Run) else Run.open(one)) for method, some in by_method.items() for one in some]
    if not named:
        raise ConfigError("average: no run is given, and an average needs one at least")
    Run.check_vacant(out)
    began = time.monotonic()
    group, evaluations = average_group(named, Path(out) / "best", root=Path(out), device=device, data=data)
    found = Averages(corrected([group]), evaluations, time.monotonic() - began)
    write_averages(Path(out), found)
    return found


def average_group(
    runs: Sequence[tuple[str, Run]], saved: Path, *, root: Path, device: str = "auto", data: str | None = None
) -> tuple[Group, int]:
    """The averages of runs by method, and how many evaluations they took. P values are not corrected yet.

    Args:
        runs: Method and run.
        saved: Directory that the best average is written to.
        root: Directories below this one are named from there on.
        device: As for :func:`average`.
        data: Where the data are now.
    """
    from holdfast.averaging.averages import all_averages
    from holdfast.averaging.bench import Bench
    from holdfast.averaging.runs import check_alike, read_ingredients
    from holdfast.averaging.saved import save_average

    ingredients = read_ingredients(runs)
    check_alike(ingredients)
    bench = Bench(ingredients[0].run, device=device, data=data)
    found = all_averages(bench, ingredients)
    # Every choice is made: what follows only reads the test split.
    chosen = _chosen(found, ingredients)
    rows, tested = [], None
    for place, averaged in enumerate(found):
        predictions = bench.predict(averaged.weights, "test") if averaged.weights is not None and bench.data.has("test") else None
        rows.append(_row(averaged, ingredients, predictions, root))
        tested = predictions if place == chosen else tested
    path = None if chosen is None else _below(save_average(saved, found[chosen], bench, tested).path, root)
    config = bench.config
    singles = tuple(_single(ingredient, root) for ingredient in ingredients)
    group = Group(config.data, config.model, config.train_fraction, config.data_seed, singles, tuple(rows), chosen, path)
    return group, bench.evaluations


def corrected(groups: Sequence[Group]) -> tuple[Group, ...]:
    """The groups with p values after Holm's correction over all their averages, and the verdicts that follow."""
    tested = [(place, at) for place, group in enumerate(groups) for at, row in enumerate(group.averages) if row.p is not None]
    p = np.array([groups[place].averages[at].p for place, at in tested], dtype=np.float64)
    p_holm = holm(p) if tested else p
    rows = [list(group.averages) for group in groups]
    for (place, at), value in zip(tested, p_holm.tolist(), strict=True):
        row = rows[place][at]
        assert row.difference is not None  # it comes with p
        rows[place][at] = dataclasses.replace(row, p_holm=value, verdict=cast(Verdict, str(verdict(row.difference, value))))
    return tuple(dataclasses.replace(group, averages=tuple(found)) for group, found in zip(groups, rows, strict=True))


def write_averages(folder: Path, averages: Averages) -> None:
    """Write ``averages.json``, as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / FILE) as stream:
        stream.write(to_json(averages).encode())


def _chosen(found: Sequence[Averaged], ingredients: Sequence[Ingredient]) -> int | None:
    """The average that is best on validation, if one is better than every single run."""
    best = max(ingredient.val["accuracy"] for ingredient in ingredients)
    places = [place for place, averaged in enumerate(found) if not averaged.is_single and averaged.val["accuracy"] > best]
    return min(places, key=lambda place: (-found[place].val["accuracy"], found[place].val["nll"]), default=None)


def _row(averaged: Averaged, ingredients: Sequence[Ingredient], predictions: Predictions | None, root: Path) -> AverageRow:
    from holdfast.averaging.runs import best_of
    from holdfast.training.evaluate import measure

    group = [ingredient for ingredient in ingredients if ingredient.method in averaged.methods]
    best = best_of(group)
    test: dict[str, Any] | None = averaged.members[0].test if averaged.is_single else None
    compared: PairedAccuracies | None = None
    if predictions is not None:
        test = measure(predictions)
        right = (predictions.logits.argmax(dim=1) == predictions.labels).numpy()
        compared = paired_accuracies(right, best.right_on_test())
    tests = [ingredient.test["accuracy"] for ingredient in group if ingredient.test is not None]
    return AverageRow(
        kind=cast(Any, averaged.kind),
        methods=averaged.methods,
        members=tuple(_below(member.run.path, root) for member in averaged.members),
        single=averaged.is_single,
        val=averaged.val,
        test=test,
        best=_single(best, root),
        mean_val=float(np.mean([ingredient.val["accuracy"] for ingredient in group])),
        mean_test=float(np.mean(tests)) if len(tests) == len(group) else None,
        difference=compared.difference if compared else 0.0 if averaged.is_single and test else None,
        ci95=compared.ci95 if compared else None,
        p=compared.p if compared else None,
        p_holm=None,
        verdict="no difference shown",
        details=averaged.details,
    )


def _single(ingredient: Ingredient, root: Path) -> SingleRun:
    seed = ingredient.run.config.get("seed")
    return SingleRun(_below(ingredient.run.path, root), ingredient.method, seed, ingredient.val, ingredient.test)


def _below(path: Path, root: Path) -> str:
    """A path from ``root`` on, where it lies there: a directory that is moved takes its own along."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
