"""Averages of weights, as functions of state dicts: interpolation, mean, greedy soup, and the ratio of Model Stock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from holdfast.errors import ShapeError

__all__ = ["greedy_soup", "interpolate", "mean_weights", "model_stock", "model_stock_ratio"]

Weights = Mapping[str, Tensor]


def interpolate(start: Weights, end: Weights, share: float) -> dict[str, Tensor]:
    """``(1 - share)·start + share·end``, tensor by tensor: WiSE-FT's line between the network before and after fine-tuning.

    Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, equation 1. Tensors of whole numbers, such as counters, are
    those of ``end``.

    Args:
        start: State dict at share 0.
        end: State dict of the same network at share 1.
        share: How far to go, usually from 0 to 1.

    Raises:
        ShapeError: The two are of different networks.

    Example:
        >>> interpolate({"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])}, 0.25)
        {'w': tensor([1.])}
    """
    _check_same([start, end])
    return {name: torch.lerp(start[name], value, share) if value.is_floating_point() else value for name, value in end.items()}


def mean_weights(states: Sequence[Weights]) -> dict[str, Tensor]:
    """The mean of each tensor: a soup. Tensors of whole numbers are those of the first.

    Raises:
        ShapeError: They are of different networks.
    """
    _check_same(states)
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }


def greedy_soup(order: Sequence[Any], score: Callable[[Sequence[Any]], float]) -> tuple[list[Any], float]:
    """The members of a greedy soup, and its score.

    Wortsman et al., "Model soups", ICML 2022, recipe 1: begin with the best; each further one joins if the soup with it scores at least as
    much as without.

    Args:
        order: All that may join, the best first.
        score: What the soup of some of them reaches on held-out examples; larger is better. It is called with the members in the order in
            which they joined, the new one last.

    Example:
        >>> greedy_soup([5, 1, 4], lambda members: sum(members) / len(members) if 1 not in members else 0)
        ([5], 5.0)
    """
    members, best = [order[0]], score([order[0]])
    for candidate in order[1:]:
        reached = score([*members, candidate])
        if reached >= best:
            members, best = [*members, candidate], reached
    return members, best


def model_stock_ratio(moves: Sequence[Tensor]) -> float:
    """How far to go from the start to the mean of N fine-tuned tensors: ``t = N cos θ / ((N - 1) cos θ + 1)``.

    Jang, Yun and Han, "Model Stock: All we need is just a few fine-tuned models", ECCV 2024, equation 5, which is the foot of the
    perpendicular from the centre of all fine-tuned weights where each pair of moves has the angle θ. Here cos θ is the mean over the
    pairs, and at least 0: moves that point apart say nothing in common, and the start is kept. A tensor that did not move has ratio 1.

    Args:
        moves: What each run added to the start, two or more tensors of one shape.

    Raises:
        ShapeError: There are fewer than two.

    Example:
        >>> model_stock_ratio([torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])])
        0.0
        >>> model_stock_ratio([torch.tensor([2.0, 0.0]), torch.tensor([3.0, 0.0])])
        1.0
    """
    if len(moves) < 2:
        raise ShapeError(f"model_stock_ratio: expected two or more tensors, got {len(moves)}; one run has no angle to another")
    flat = [move.double().flatten() for move in moves]
    if any(not one.any() for one in flat):
        return 1.0
    cosines = [float(cosine_similarity(one, other, dim=0)) for one, other in combinations(flat, 2)]
    cosine = max(0.0, sum(cosines) / len(cosines))
    count = len(moves)
    return min(1.0, count * cosine / ((count - 1) * cosine + 1))


def model_stock(start: Weights, states: Sequence[Weights], *, mean: Collection[str] = ()) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Model Stock: each tensor at its own ratio between the start and the mean of the fine-tuned ones.

    Args:
        start: State dict that all began with.
        states: Fine-tuned state dicts, two or more.
        mean: Names of tensors that began elsewhere in each run, such as fresh heads: they have no angle, and their mean is taken.

    Returns:
        The state dict, and the ratio of each tensor that has one.

    Raises:
        ShapeError: They are of different networks, or fewer than two.
    """
    centre = mean_weights(states)
    names = [name for name, value in centre.items() if value.is_floating_point() and name not in mean]
    ratios = {name: model_stock_ratio([state[name] - start[name] for state in states]) for name in names}
    return centre | {name: torch.lerp(start[name], centre[name], ratio) for name, ratio in ratios.items()}, ratios


def _check_same(states: Sequence[Weights]) -> None:
    """Names and shapes must agree."""
    first = {name: value.shape for name, value in states[0].items()}
    for state in states[1:]:
        other = {name: value.shape for name, value in state.items()}
        if other != first:
            name = next(name for name in {**first, **other} if first.get(name) != other.get(name))
            shapes = " and ".join("absent" if shape is None else str(tuple(shape)) for shape in (first.get(name), other.get(name)))
            raise ShapeError(f"the tensor {name!r} has the shapes {shapes}: these are weights of different networks, which have no average")
