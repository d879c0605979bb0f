"""Examples from batches of the user's: drawn, shared between ranks, cut anew."""

from __future__ import annotations

import torch

from holdfast.auditing.batches import GivenExamples, recut
from holdfast.types import Batch


def pairs(sizes: tuple[int, ...] = (4, 3, 5)) -> list[tuple[dict[str, torch.Tensor], torch.Tensor]]:
    """Batches in which every example's input is its label times ten."""
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    labels = [torch.arange(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    return [({"x": 10.0 * y[:, None].expand(-1, 2), "flag": True}, y) for y in labels]


def seen(batches) -> list[int]:
    rows = []
    for batch in batches:
        assert torch.equal(batch.inputs["x"][:, 0], 10.0 * batch.labels)
        assert torch.equal(batch.index, batch.labels)
        assert batch.inputs["flag"] is True
        rows += batch.labels.tolist()
    return rows


def test_every_example_is_seen_once_over_all_ranks():
    data = GivenExamples({"train": pairs(), "test": pairs((2,))})
    assert (data.size("train"), data.size("test"), data.size("val")) == (12, 2, 0)
    assert seen(data.batches("train")) == list(range(12))
    assert seen(data.batches("train", batch_size=2)) == list(range(12))
    assert [row for rank in range(5) for row in seen(data.batches("train", rank=rank, size=5))] == list(range(12))


def test_a_sample_depends_on_the_seed_alone():
    data = GivenExamples({"train": pairs()})
    drawn = seen(data.sample("train", 7, seed=1))
    assert len(set(drawn)) == 7
    assert drawn == sorted(drawn) == seen(data.sample("train", 7, seed=1, batch_size=2))
    assert drawn == [row for rank in range(3) for row in seen(data.sample("train", 7, seed=1, rank=rank, size=3))]
    assert drawn != seen(data.sample("train", 7, seed=2))
    assert seen(data.sample("train", 99, seed=1)) == list(range(12))


def test_cutting_anew_keeps_the_order():
    batches = list(GivenExamples({"train": pairs()}).batches("train"))
    assert [len(batch) for batch in recut(batches, 5)] == [5, 5, 2]
    assert seen(recut(batches, 5)) == list(range(12))
    assert recut([], 5) == []


def test_texts_of_different_lengths_are_cut_but_not_joined():
    batches = [Batch({"ids": torch.ones(3, length)}, torch.zeros(3), index=torch.arange(3)) for length in (4, 6)]
    assert [tuple(batch.inputs["ids"].shape) for batch in recut(batches, 2)] == [(2, 4), (1, 4), (2, 6), (1, 6)]
