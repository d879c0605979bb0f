from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from holdfast.errors import DataError
from holdfast.losses.example_state import RowUpdates, rows_of, write_rows

ALONE = SimpleNamespace(gather=lambda tensor: tensor)


def test_rows_are_found_by_the_rank_of_the_id() -> None:
    assert rows_of(torch.tensor([2, 3, 7, 11]), torch.tensor([11, 2, 7])).tolist() == [3, 0, 2]


@pytest.mark.parametrize("index", [-1, 4, 12])
def test_an_index_of_no_training_example_is_refused(index: int) -> None:
    with pytest.raises(DataError, match=rf"index: {index} is none of the 4 training examples.*from 2 to 11"):
        rows_of(torch.tensor([2, 3, 7, 11]), torch.tensor([3, index]))


def test_the_last_of_equal_rows_counts() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, values = torch.randint(5, (40,), generator=generator), torch.randn(40, 3, generator=generator)
    state = torch.zeros(6, 3)
    write_rows(state, rows, values)
    expected = torch.zeros(6, 3)
    for row, value in zip(rows.tolist(), values, strict=True):
        expected[row] = value
    assert torch.equal(state, expected)


def test_collected_rows_are_written_once_and_in_order() -> None:
    updates, state = RowUpdates(), torch.zeros(3)
    updates.add(torch.tensor([0, 1]), torch.tensor([1.0, 2.0]))
    updates.add(torch.tensor([1]), torch.tensor([3.0]))
    updates.apply(state, ALONE)
    assert state.tolist() == [1, 3, 0]
    state.zero_()
    updates.apply(state, ALONE)
    assert not bool(state.any())


def test_cleared_rows_are_not_written() -> None:
    updates, state = RowUpdates(), torch.zeros(2)
    updates.add(torch.tensor([0]), torch.ones(1))
    updates.clear()
    updates.apply(state, ALONE)
    assert not bool(state.any())
