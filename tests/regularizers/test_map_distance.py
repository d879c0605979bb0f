"""DELTA's formulas against their definitions, written with loops."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from holdfast.errors import ShapeError
from holdfast.regularizers.functional import channel_attention, map_distance

SHAPES = [(3, 4, 2, 5), (3, 6, 1, 1), (3, 2, 3, 3)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(first_seed: int) -> list[Tensor]:
    return [normal(*shape, seed=first_seed + number) for number, shape in enumerate(SHAPES)]


def weights() -> list[Tensor]:
    return [torch.softmax(normal(shape[1], seed=20 + number), dim=0) for number, shape in enumerate(SHAPES)]


def by_loops(live: list[Tensor], frozen: list[Tensor], attention: list[Tensor] | None) -> float:
    total = 0.0
    for number, (mine, theirs) in enumerate(zip(live, frozen, strict=True)):
        _, channels, height, width = mine.shape
        for place in itertools.product(*map(range, mine.shape)):
            scale = 1.0 if attention is None else channels / (height * width) * float(attention[number][place[1]])
            total += 0.5 * scale * (float(mine[place]) - float(theirs[place])) ** 2
    return total


@pytest.mark.parametrize("attended", [False, True])
def test_it_is_half_the_sum_of_squared_differences_over_layers_examples_channels_and_positions(attended: bool) -> None:
    live, frozen, attention = maps(0), maps(10), weights() if attended else None
    expected = torch.tensor(by_loops(live, frozen, attention), dtype=torch.float64)
    torch.testing.assert_close(map_distance(live, frozen, attention=attention), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(map_distance(live, frozen, attention=attention, reduction="mean"), expected / 3, rtol=1e-12, atol=0)


@pytest.mark.parametrize("attended", [False, True])
def test_its_gradient_is_the_weighted_difference_and_none_for_the_pretrained_maps(attended: bool) -> None:
    live, frozen = [map_.requires_grad_() for map_ in maps(0)], [map_.requires_grad_() for map_ in maps(10)]
    attention = [weight.requires_grad_() for weight in weights()] if attended else None
    map_distance(live, frozen, attention=attention).backward()
    for number, (mine, theirs) in enumerate(zip(live, frozen, strict=True)):
        _, channels, height, width = mine.shape
        scale = channels / (height * width) * attention[number][:, None, None] if attention else 1.0
        torch.testing.assert_close(mine.grad, (scale * (mine - theirs)).detach(), rtol=1e-12, atol=1e-15)
        assert theirs.grad is None
    assert all(weight.grad is None for weight in attention or [])


def test_attention_that_evens_out_channels_and_positions_is_the_plain_distance() -> None:
    live, frozen = maps(0), maps(10)
    even = [torch.full((shape[1],), shape[2] * shape[3] / shape[1], dtype=torch.float64) for shape in SHAPES]
    torch.testing.assert_close(map_distance(live, frozen, attention=even), map_distance(live, frozen), rtol=1e-12, atol=0)


def test_channels_are_found_on_their_axis_and_all_other_places_are_positions() -> None:
    live, frozen, attention = maps(0)[:1], maps(10)[:1], weights()[:1]
    expected = map_distance(live, frozen, attention=attention)
    last = [[map_.permute(0, 2, 3, 1) for map_ in side] for side in (live, frozen)]
    tokens = [[map_.flatten(1, 2) for map_ in side] for side in last]
    torch.testing.assert_close(map_distance(*last, attention=attention, channel_axes=[3]), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(map_distance(*tokens, attention=attention, channel_axes=[2]), expected, rtol=1e-12, atol=0)


def test_vectors_are_maps_of_one_position() -> None:
    live, frozen, attention = normal(5, 4), normal(5, 4, seed=1), torch.full((4,), 0.25, dtype=torch.float64)
    torch.testing.assert_close(map_distance([live], [frozen], attention=[attention]), (live - frozen).square().sum() / 2)


def test_equal_maps_have_no_distance_and_no_gradient() -> None:
    live = maps(0)[0].requires_grad_()
    distance = map_distance([live], [live.detach().clone()])
    distance.backward()
    assert distance == 0
    assert not live.grad.any()


def test_the_memory_format_of_either_side_does_not_matter() -> None:
    live, frozen, attention = maps(0)[0], maps(10)[0], weights()[:1]
    for side in (live, live.to(memory_format=torch.channels_last)):
        other = frozen.to(memory_format=torch.channels_last)
        torch.testing.assert_close(map_distance([side], [other]), map_distance([live], [frozen]), rtol=1e-12, atol=0)
        torch.testing.assert_close(
            map_distance([side], [other], attention=attention), map_distance([live], [frozen], attention=attention), rtol=1e-12, atol=0
        )


@pytest.mark.parametrize(
    ("live", "frozen", "attention", "sentence"),
    [
        ([], [], None, "must match one to one and hold at least one layer, got 0 and 0"),
        ([(2, 3)], [(2, 3), (2, 3)], None, "must match one to one and hold at least one layer, got 1 and 2"),
        ([(2, 3, 4, 4)], [(2, 3, 2, 2)], None, r"maps\[0\] \(2, 3, 4, 4\) and reference\[0\] \(2, 3, 2, 2\) must have the same shape"),
        ([(2, 3, 4, 4)], [(2, 3, 4, 4)], [(4,)], r"attention \(4,\) must hold a weight for each channel, axis 1 of maps \(2, 3, 4, 4\)"),
        ([(2, 3, 4, 4)], [(2, 3, 4, 4)], [(3,), (3,)], "attention must hold one vector for each of the 1 layers, got 2"),
    ],
)
def test_what_does_not_match_is_named(live: list, frozen: list, attention: list | None, sentence: str) -> None:
    tensors = [[normal(*shape) for shape in shapes] for shapes in (live, frozen, attention or [])]
    with pytest.raises(ShapeError, match=sentence):
        map_distance(tensors[0], tensors[1], attention=tensors[2] if attention is not None else None)


# ------------------------------------------------------------------------------------------------------------------- attention


def test_attention_is_the_softmax_of_a_fifth_of_the_standardised_gaps() -> None:
    gaps = normal(9)
    mean = sum(map(float, gaps)) / 9
    std = (sum((float(gap) - mean) ** 2 for gap in gaps) / 9) ** 0.5
    exponentials = torch.tensor([(float(gap) - mean) / std / 5 for gap in gaps], dtype=torch.float64).exp()
    found = channel_attention(gaps)
    torch.testing.assert_close(found, exponentials / exponentials.sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(channel_attention(100 * gaps + 7), found, rtol=1e-9, atol=0)


@pytest.mark.parametrize("gap", [0.0, 0.1, -3e5])
def test_equal_gaps_make_equal_channels(gap: float) -> None:
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(channel_attention(torch.full((7,), gap, dtype=dtype)), torch.full((7,), 1 / 7, dtype=dtype))


def test_a_single_channel_has_all_the_attention() -> None:
    assert channel_attention(torch.tensor([0.3])).tolist() == [1.0]
