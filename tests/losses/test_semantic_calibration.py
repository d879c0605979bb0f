"""The calibration of pretrained features against definitions written with loops, and its queue."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from holdfast.errors import ShapeError
from holdfast.losses.functional import align_rigidly, calibrate_queue, shift_to_classes
from holdfast.losses.semantic_calibration import enqueue


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(width: int, seed: int = 3) -> Tensor:
    turned, _ = torch.linalg.qr(draw(width, width, seed=seed))
    return turned * turned.det().sign() if width % 2 else torch.cat([turned[:, :1] * turned.det().sign(), turned[:, 1:]], dim=1)


def distances(rows: Tensor) -> Tensor:
    return (rows[:, None] - rows[None]).norm(dim=2)


@pytest.mark.parametrize("width", [2, 5])
def test_a_rigid_motion_is_found_again(width: int) -> None:
    rows = draw(12, width)
    moved = rows @ rotation(width) + draw(width, seed=4)
    torch.testing.assert_close(align_rigidly(rows, moved), moved)


@pytest.mark.parametrize("towards", ["a reflection", "noise"])
def test_the_motion_is_never_a_reflection(towards: str) -> None:
    rows = draw(12, 3)
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    target = rows @ mirror if towards == "a reflection" else draw(12, 3, seed=9) @ mirror
    moved = align_rigidly(rows, target)
    matrix = torch.linalg.lstsq(rows - rows.mean(0), moved - moved.mean(0)).solution
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(3, dtype=torch.float64))
    assert float(matrix.det()) == pytest.approx(1.0)


def test_no_rotation_comes_nearer() -> None:
    rows, target = draw(12, 4), draw(12, 4, seed=1)
    best = (align_rigidly(rows, target) - target).square().sum()
    centred, aim = rows - rows.mean(0), target - target.mean(0)
    for seed in range(50):
        assert (centred @ rotation(4, seed) - aim).square().sum() >= best


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_fewer_rows_than_dimensions_keep_their_distances(dtype: torch.dtype) -> None:
    rows, target = draw(4, 20).to(dtype), draw(4, 20, seed=1).to(dtype)
    moved = align_rigidly(rows, target)
    torch.testing.assert_close(distances(moved), distances(rows))
    torch.testing.assert_close(moved.mean(0), target.mean(0))


def test_rows_that_are_all_the_same_are_moved_onto_the_target() -> None:
    target = draw(6, 3)
    torch.testing.assert_close(align_rigidly(torch.ones(6, 3, dtype=torch.float64), target), target.mean(0).expand(6, 3))


def shifted_by_definition(rows: Tensor, towards: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    result = rows.clone()
    for c in range(len(weight)):
        members = [q for q in range(len(rows)) if labels[q] == c]
        if not members:
            continue
        cosines = torch.stack([towards[q] @ weight[c] / weight[c].norm() for q in members])
        attention = cosines.exp() / cosines.exp().sum()
        centre = sum(a * towards[q] for a, q in zip(attention, members, strict=True))
        own = sum(rows[q] for q in members) / len(members)
        for q in members:
            result[q] = rows[q] + centre - own
    return result


@pytest.mark.parametrize("labels", [[0, 0, 1, 3, 3, 3], [2] * 6, [0, 1, 2, 3, 4, 0]], ids=["one alone", "one class", "many alone"])
def test_each_class_is_shifted_to_its_centre(labels: list[int]) -> None:
    rows, towards, weight = draw(6, 4), torch.nn.functional.normalize(draw(6, 4, seed=1), dim=1), draw(5, 4, seed=2)
    found = shift_to_classes(rows, towards, torch.tensor(labels), weight)
    torch.testing.assert_close(found, shifted_by_definition(rows, towards, torch.tensor(labels), weight))


def test_calibrated_features_have_one_length_and_no_gradient() -> None:
    weight = draw(3, 4).requires_grad_()
    found = calibrate_queue(draw(8, 4), draw(8, 4, seed=1), torch.arange(8) % 3, weight, 2.5)
    torch.testing.assert_close(found.norm(dim=1), torch.full((8,), 2.5, dtype=torch.float64))
    assert not found.requires_grad


def test_the_lengths_of_both_queues_do_not_matter() -> None:
    pretrained, live, labels, weight = draw(8, 4), draw(8, 4, seed=1), torch.arange(8) % 3, draw(3, 4, seed=2)
    lengths = draw(8, 1, seed=5).exp()
    found, scaled = (calibrate_queue(v, u, labels, weight, 1.0) for v, u in ((pretrained, live), (pretrained * lengths, live / lengths)))
    torch.testing.assert_close(found, scaled)


def test_features_that_are_zero_stay_finite() -> None:
    found = calibrate_queue(torch.zeros(4, 3), torch.zeros(4, 3), torch.tensor([0, 0, 1, 1]), torch.zeros(2, 3), 1.0)
    assert bool(found.isfinite().all())


def test_what_has_diverged_shows_in_the_result_and_stops_nothing_before() -> None:
    live = draw(4, 3)
    live[1, 2] = torch.nan
    assert bool(calibrate_queue(draw(4, 3), live, torch.tensor([0, 0, 1, 1]), draw(2, 3), 1.0).isnan().any())


def test_a_head_of_another_width_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"weight must be \(K, 3\)"):
        calibrate_queue(draw(4, 3), draw(4, 3), torch.tensor([0, 0, 1, 1]), draw(2, 4), 1.0)


@pytest.mark.parametrize(
    ("rows", "start", "expected"),
    [
        ([1, 2], 0, [1, 2, 0, 0, 0]),
        ([1, 2, 3], 3, [3, 0, 0, 1, 2]),
        ([1, 2, 3, 4, 5], 2, [4, 5, 1, 2, 3]),
        ([1, 2, 3, 4, 5, 6, 7], 4, [7, 3, 4, 5, 6]),
        ([], 4, [0, 0, 0, 0, 0]),
    ],
    ids=["inside", "over the end", "all", "more than all", "none"],
)
def test_rows_go_round_the_ring(rows: list[int], start: int, expected: list[int]) -> None:
    queue = torch.zeros(5, dtype=torch.int64)
    enqueue(queue, torch.tensor(rows, dtype=torch.int64), torch.tensor(start))
    assert queue.tolist() == expected
