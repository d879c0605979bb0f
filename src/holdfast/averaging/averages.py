"""The averages of some runs, each chosen on validation: WiSE-FT, the greedy soup, Model Stock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from holdfast.averaging.batchnorm import differing_statistics
from holdfast.averaging.bench import Bench
from holdfast.averaging.functional import greedy_soup, interpolate, model_stock
from holdfast.averaging.runs import Ingredient, best_of, rank_of
from holdfast.training.evaluate import measure

__all__ = ["SHARES", "Averaged", "all_averages", "greedy", "stock", "wise_ft"]

SHARES = tuple(step / 10 for step in range(11))
"""Where the line of WiSE-FT is looked at."""


@dataclass(frozen=True)
class Averaged:
    """Weights that were averaged, and how.

    Args:
        kind: ``wise-ft``, ``greedy-soup`` or ``model-stock``.
        methods: The methods whose runs were looked at.
        members: The runs that went in.
        weights: The result, None where it is one of the runs as it is.
        val: Metrics on validation.
        details: What was found on the way, for the record.
    """

    kind: str
    methods: tuple[str, ...]
    members: tuple[Ingredient, ...]
    weights: Mapping[str, Tensor] | None = field(repr=False)
    val: dict[str, Any] = field(repr=False)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_single(self) -> bool:
        """Whether it is one of the runs as it is."""
        return self.weights is None


def all_averages(bench: Bench, ingredients: Sequence[Ingredient]) -> list[Averaged]:
    """Those of each method, and the greedy soup over all where there are several."""
    by_method: dict[str, list[Ingredient]] = {}
    for ingredient in ingredients:
        by_method.setdefault(ingredient.method, []).append(ingredient)
    found = []
    for group in by_method.values():
        found.append(wise_ft(bench, best_of(group)))
        if len(group) > 1:
            found += [greedy(bench, group), stock(bench, group)]
    if len(by_method) > 1:
        found.append(greedy(bench, ingredients))
    return found


def wise_ft(bench: Bench, ingredient: Ingredient, shares: Sequence[float] = SHARES) -> Averaged:
    """The best point on the line from the pretrained network with a probed head to a run; of equals the one nearest to the run.

    At share 1 it is the run as it is; at 0 the linear probe.
    """
    start, end = bench.probed_start(), ingredient.weights()
    moving = differing_statistics([start, end])
    curve, best, kept = [], (float("-inf"), float("-inf")), None
    val = ingredient.val
    for share in sorted(shares, reverse=True):
        if share == 1:
            weights, measured = None, ingredient.val
        else:
            # The start has its own statistics, which belong to it.
            mixed = interpolate(start, end, share)
            weights = bench.settled(mixed, moving) if share > 0 else mixed
            measured = measure(bench.predict(weights, "val"))
        curve.append({"share": share, "val_accuracy": measured["accuracy"], "val_loss": measured["nll"]})
        if (score := (measured["accuracy"], -measured["nll"])) > best:
            best, kept, val, chosen = score, weights, measured, share
    return Averaged("wise-ft", (ingredient.method,), (ingredient,), kept, val, {"share": chosen, "curve": curve[::-1]})


def greedy(bench: Bench, ingredients: Sequence[Ingredient]) -> Averaged:
    """The greedy soup; runs whose network has another form than the best one's are left out."""
    order = sorted(ingredients, key=rank_of)
    form = _form(order[0])
    fitting = [ingredient for ingredient in order if _form(ingredient) == form]
    methods = tuple(dict.fromkeys(ingredient.method for ingredient in ingredients))
    soups = _Soups(bench)
    members, _ = greedy_soup(fitting, soups.score)
    weights, val = soups.of(members)
    details = {"looked_at": len(fitting), "left_out": len(order) - len(fitting)}
    return Averaged("greedy-soup", methods, tuple(members), weights, val, details)


def stock(bench: Bench, ingredients: Sequence[Ingredient]) -> Averaged:
    """Model Stock of all runs of a method."""
    states = [ingredient.weights() for ingredient in ingredients]
    start = bench.probed_start()
    heads = {ingredient.run.reference["head"].get("fingerprint") for ingredient in ingredients}
    fresh = set() if len(heads) == 1 and None not in heads else bench.head_names
    weights, ratios = model_stock(start, states, mean=fresh | bench.buffer_names)
    weights = bench.settled(weights, differing_statistics([start, *states]))
    details = {"ratio": _spread(list(ratios.values())), "head": "mean" if fresh else "ratio"}
    return Averaged("model-stock", (ingredients[0].method,), tuple(ingredients), weights, measure(bench.predict(weights, "val")), details)


@dataclass(frozen=True)
class _Soup:
    """The sum of its members' weights, the BatchNorm layers in which they differ, and what their mean reaches."""

    total: Mapping[str, Tensor]
    moving: set[str]
    weights: Mapping[str, Tensor] | None
    val: dict[str, Any]


class _Soups:
    """Soups of growing lists of members; the one before the last is kept, so that each run is read once or twice."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._first: Mapping[str, Tensor] = {}
        self._made: dict[tuple[str, ...], _Soup] = {}

    def score(self, members: Sequence[Ingredient]) -> float:
        """Accuracy on validation of the mean of some runs, all but the last of which have joined."""
        return float(self.of(members)[1]["accuracy"])

    def of(self, members: Sequence[Ingredient]) -> tuple[Mapping[str, Tensor] | None, dict[str, Any]]:
        """Weights (None for a run as it is) and metrics on validation."""
        key = tuple(str(member.run.path) for member in members)
        if key not in self._made:
            before = self._made.get(key[:-1])
            made = self._begun(members[0]) if before is None else self._joined(before, members)
            self._made = {key: made} | ({} if before is None else {key[:-1]: before})
        return self._made[key].weights, self._made[key].val

    def _begun(self, member: Ingredient) -> _Soup:
        self._first = member.weights()
        return _Soup(self._first, set(), None, member.val)

    def _joined(self, before: _Soup, members: Sequence[Ingredient]) -> _Soup:
        new = members[-1].weights()
        total = {name: tensor + new[name] if tensor.is_floating_point() else tensor for name, tensor in before.total.items()}
        moving = before.moving | differing_statistics([self._first, new])
        mean = {name: tensor / len(members) if tensor.is_floating_point() else tensor for name, tensor in total.items()}
        weights = self._bench.settled(mean, moving)
        return _Soup(total, moving, weights, measure(self._bench.predict(weights, "val")))


def _form(ingredient: Ingredient) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in ingredient.weights().items()}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": sum(values) / len(values), "least": min(values), "most": max(values)}
