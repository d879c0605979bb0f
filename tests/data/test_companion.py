from __future__ import annotations

import itertools

import pytest
import torch

from holdfast.config.schema import FitConfig
from holdfast.data import load_data
from holdfast.data.companion import Companion, join


@pytest.fixture
def root(folder):
    return folder({"train/a": 5, "train/b": 4, "train/c": 6, "test/a": 3, "test/b": 3, "test/c": 3})


@pytest.fixture
def data(load, root):
    return load(root, val_fraction=0.0)


def rows_of(data, *, step=0, count=8, **options):
    stream = Companion(data).batches(
        **{"step": step, "seed": 3, "batch_size": 4, "accumulate": 1, "rank": 0, "size": 1, "device": "cpu", **options}
    )
    return list(itertools.islice(stream, count))


def test_the_stream_goes_on_and_shows_every_example_once_an_epoch(data):
    batches = rows_of(data, count=6)  # 15 examples are three whole batches an epoch
    for epoch in (batches[:3], batches[3:]):
        shown = torch.cat([batch.index for batch in epoch]).tolist()
        assert len(set(shown)) == 12
    assert not torch.equal(batches[0].index, batches[3].index)


@pytest.mark.parametrize("step", [1, 3, 4])
def test_the_stream_is_a_function_of_the_step(data, step):
    for mine, expected in zip(rows_of(data, step=step, count=4), rows_of(data, count=8)[step:], strict=False):
        assert torch.equal(mine.inputs, expected.inputs)
        assert torch.equal(mine.index, expected.index)


def test_ranks_and_micro_batches_share_out_the_rows_of_a_step(data):
    whole = rows_of(data, count=2)
    parts = [rows_of(data, count=4, rank=rank, size=2, accumulate=2) for rank in (0, 1)]
    for step in range(2):
        mine = [batch.index for part in parts for batch in part[2 * step : 2 * step + 2]]
        assert torch.equal(torch.cat(mine), whole[step].index)


def test_only_the_chosen_classes_are_read(data):
    restricted = data.restricted(torch.tensor([0, 2]))
    assert restricted.size("train") == 11
    assert set(torch.cat([batch.labels for batch in rows_of(restricted, count=4)]).tolist()) == {0, 2}
    assert data.size("train") == 15


def test_each_batch_gets_the_next_rows(data):
    own = list(data.train_batches(epoch=0, seed=0, batch_size=4))
    joined = list(join(iter(own), {"source": iter(rows_of(data, count=8))}))
    assert [len(batch.extra["source"]) for batch in joined] == [4, 4, 4]
    assert torch.equal(joined[1].extra["source"].index, rows_of(data)[1].index)
    assert next(join(iter(own), {})) is own[0]


def test_views_are_other_augmentations_of_the_same_examples(load, root):
    data = load(root, val_fraction=0.0)
    plain = list(data.train_batches(epoch=1, seed=0, batch_size=4))
    seen = list(data.train_batches(epoch=1, seed=0, batch_size=4, views=2))
    for mine, other in zip(seen, plain, strict=True):
        assert torch.equal(mine.inputs, other.inputs)
        assert torch.equal(mine.index, other.index)
        assert len(mine.views) == 2
        shown = [mine.inputs, *mine.views]
        assert all(view.shape == mine.inputs.shape for view in shown)
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(shown, 2))
    again = list(data.train_batches(epoch=1, seed=0, batch_size=4, views=2))
    assert all(torch.equal(a, b) for one, two in zip(seen, again, strict=True) for a, b in zip(one.views, two.views, strict=True))


@pytest.mark.parametrize(
    ("counts", "expected"), [({"a": 3, "b": 2}, 5), ({"train/a": 3, "train/b": 2, "val/a": 2, "test/b": 4}, 5)], ids=["flat", "splits"]
)
def test_a_dataset_that_is_read_whole_is_all_trained_on(folder, spec, counts, expected):
    data = load_data(FitConfig(data=str(folder(counts)), val_fraction=0.0), spec, whole=True)
    assert data.size("train") == expected
    assert not data.has("val")
    assert not data.has("test")
