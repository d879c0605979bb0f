"""Averages of weights by their definitions."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

from holdfast.averaging.functional import greedy_soup, interpolate, mean_weights, model_stock, model_stock_ratio
from holdfast.errors import ShapeError


def state(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: torch.randn(3, 4, generator=generator, dtype=torch.float64) for name in ("one", "two")}
    return {**drawn, "count": torch.tensor(seed)}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_interpolation_is_the_weighted_sum_and_leaves_counters_alone(share: float):
    start, end = state(1), state(2)
    found = interpolate(start, end, share)
    for name in ("one", "two"):
        torch.testing.assert_close(found[name], (1 - share) * start[name] + share * end[name], rtol=0, atol=1e-12)
    assert int(found["count"]) == 2


def test_the_mean_of_weights_is_their_mean():
    states = [state(seed) for seed in range(3)]
    found = mean_weights(states)
    torch.testing.assert_close(found["two"], (states[0]["two"] + states[1]["two"] + states[2]["two"]) / 3)
    assert int(found["count"]) == 0


@pytest.mark.parametrize(
    "other", [{"w": torch.zeros(3)}, {"w": torch.zeros(2), "b": torch.zeros(1)}, {"v": torch.zeros(2)}], ids=["shape", "more", "name"]
)
def test_weights_of_different_networks_are_refused_by_the_tensor_at_fault(other: dict[str, Tensor]):
    with pytest.raises(ShapeError, match=r"the tensor '[wb]' has the shapes .* different networks"):
        interpolate({"w": torch.zeros(2)}, other, 0.5)


def test_a_soup_takes_in_what_does_not_make_it_worse_in_the_order_given():
    scores = {("a",): 0.5, ("a", "b"): 0.4, ("a", "c"): 0.5, ("a", "c", "d"): 0.7, ("a", "c", "d", "e"): 0.69}
    asked: list[tuple[str, ...]] = []

    def score(members: list[str]) -> float:
        asked.append(tuple(members))
        return scores[tuple(members)]

    assert greedy_soup(["a", "b", "c", "d", "e"], score) == (["a", "c", "d"], 0.7)
    assert asked == list(scores)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_ratio_of_model_stock_is_its_formula_for_equal_angles(count: int):
    # Moves with the same angle to each other: one direction in common, and one of its own each.
    moves = [torch.zeros(count + 1, dtype=torch.float64) for _ in range(count)]
    for place, move in enumerate(moves):
        move[0], move[place + 1] = 2.0, 1.0 + 0.0 * place
    cosine = 4 / 5
    assert model_stock_ratio(moves) == pytest.approx(count * cosine / (1 + (count - 1) * cosine), rel=1e-12)


def test_with_equal_angles_and_lengths_model_stock_is_the_point_nearest_to_the_centre_of_all_fine_tuned_weights():
    # Weights are drawn around a centre; the start, the drawn ones and the centre make right angles, as in high dimensions.
    centre, noise = 3.0, 2.0
    moves = [torch.tensor([centre, noise, 0.0, 0.0]), torch.tensor([centre, 0.0, noise, 0.0]), torch.tensor([centre, 0.0, 0.0, noise])]
    mean = torch.stack(moves).mean(dim=0)
    goal = torch.tensor([centre, 0.0, 0.0, 0.0])
    best = float(mean @ goal / mean.square().sum())  # the foot of the perpendicular on the line from the start to the mean
    assert model_stock_ratio(moves) == pytest.approx(best, rel=1e-6)


def test_moves_at_different_angles_enter_by_the_mean_of_their_cosines():
    generator = torch.Generator().manual_seed(3)
    common = torch.randn(20, generator=generator, dtype=torch.float64)
    moves = [common + torch.randn(20, generator=generator, dtype=torch.float64) for _ in range(4)]
    pairs = [float(a @ b / math.sqrt(a @ a * (b @ b))) for a, b in combinations(moves, 2)]
    cosine = sum(pairs) / 6
    assert model_stock_ratio(moves) == pytest.approx(4 * cosine / (3 * cosine + 1), rel=1e-12)


def test_moves_that_point_apart_keep_the_start_and_a_tensor_that_stood_still_is_the_mean():
    assert model_stock_ratio([torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.1])]) == 0
    assert model_stock_ratio([torch.zeros(2), torch.tensor([1.0, 0.0])]) == 1
    with pytest.raises(ShapeError, match="two or more tensors, got 1"):
        model_stock_ratio([torch.ones(2)])


def test_model_stock_goes_its_own_way_in_each_tensor_and_takes_the_mean_where_it_is_told_to():
    start = {name: torch.zeros(2, dtype=torch.float64) for name in ("apart", "alike", "head")}
    first = {"apart": torch.tensor([1.0, 0.0]), "alike": torch.tensor([1.0, 1.0]), "head": torch.tensor([1.0, 0.0])}
    second = {"apart": torch.tensor([0.0, 1.0]), "alike": torch.tensor([3.0, 3.0]), "head": torch.tensor([0.0, 1.0])}
    states = [{name: value.double() for name, value in one.items()} for one in (first, second)]
    found, ratios = model_stock(start, states, mean={"head"})
    assert ratios == {"apart": pytest.approx(0.0), "alike": pytest.approx(1.0)}
    torch.testing.assert_close(found["apart"], torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(found["alike"], torch.tensor([2.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(found["head"], torch.tensor([0.5, 0.5], dtype=torch.float64))
