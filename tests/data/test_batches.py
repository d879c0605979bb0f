from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from holdfast.data import decode_image, eval_view
from holdfast.data.normalize import Normalizer
from holdfast.errors import DataError

CLASSES = {"train/a": 11, "train/b": 12, "test/a": 3, "test/b": 4}
AUGMENTATIONS = ["crop", "resized-crop", "none"]


@pytest.fixture
def root(folder):
    return folder(CLASSES)


def by_index(batches):
    """Inputs of each example by its index."""
    return {int(index): image for batch in batches for index, image in zip(batch.index, batch.inputs, strict=True)}


def joined(batches):
    batches = list(batches)
    return (
        torch.cat([batch.inputs for batch in batches]),
        torch.cat([batch.labels for batch in batches]),
        torch.cat([b.index for b in batches]),
    )


def train(data, **options):
    return data.train_batches(**{"epoch": 1, "seed": 4, "batch_size": 8, **options})


def test_batches_have_the_promised_types(load, root):
    batch = next(train(load(root)))
    assert (batch.inputs.shape, batch.inputs.dtype) == ((8, 3, 16, 16), torch.float32)
    assert (batch.labels.dtype, batch.index.dtype) == (torch.int64, torch.int64)
    assert batch.labels.shape == batch.index.shape == (8,)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_un_augmented_batches_are_the_normalised_eval_views_in_the_order_of_ids(load, root, spec, augment):
    data = load(root, augment=augment, val_fraction=0.0)
    for split in ("train", "test"):
        expected = Normalizer(spec)(torch.stack([eval_view(decode_image(root / image), 16) for image in data.ids(split)]))
        inputs, labels, _ = joined(data.batches(split, batch_size=5))
        assert torch.equal(inputs, expected)
        assert labels.tolist() == data.labels(split).tolist()


def test_labels_and_index_belong_to_the_pixels(load, folder, tmp_path):
    root = folder({"train/a": 0, "train/b": 0})
    for number in range(10):
        Image.new("RGB", (20, 20), (number * 20, 0, 0)).save(root / f"train/{'ab'[number % 2]}/{number}.png")
    data = load(root, val_fraction=0.0)
    for batch in train(data, batch_size=5):
        shade = (batch.inputs[:, 0, 0, 0] * 0.2 + 0.5) * 255 / 20
        numbers = [int(data.ids("train")[index].split("/")[-1][:-4]) for index in batch.index]
        assert shade.round().int().tolist() == numbers
        assert batch.labels.tolist() == [number % 2 for number in numbers]


def test_training_uses_the_configured_order_without_repeats(load, root):
    data = load(root, val_fraction=0.0)
    _, _, index = joined(train(data))
    assert len(index) == data.steps_per_epoch(8) * 8 == 16
    assert len(set(index.tolist())) == 16
    assert index.tolist() != sorted(index.tolist())


@pytest.mark.parametrize("augment", ["crop", "resized-crop"])
@pytest.mark.parametrize("options", [{"batch_size": 4}, {"accumulate": 2}, {"accumulate": 4, "size": 2, "rank": 1}, {"start_step": 1}])
def test_augmentation_of_an_example_does_not_depend_on_its_batch(load, root, augment, options):
    data = load(root, augment=augment, val_fraction=0.0)
    whole = by_index(train(data))
    for index, image in by_index(train(data, **options)).items():
        if index in whole:
            assert torch.equal(image, whole[index])


@pytest.mark.parametrize("augment", ["crop", "resized-crop"])
def test_augmentation_changes_with_epoch_and_seed(load, root, augment):
    data = load(root, augment=augment, val_fraction=0.0)
    first, second, other = (by_index(train(data, batch_size=23, **key)) for key in ({}, {"epoch": 2}, {"seed": 5}))
    assert sum(not torch.equal(first[index], second[index]) for index in first) > 15
    assert sum(not torch.equal(first[index], other[index]) for index in first) > 15


def test_a_new_file_changes_no_other_examples_augmentation(load, root):
    before = load(root, val_fraction=0.0)
    whole = {before.ids("train")[i - 7]: image for i, image in by_index(train(before, batch_size=23)).items()}
    Image.new("RGB", (20, 20)).save(root / "train/a/00000.png")
    after = load(root, val_fraction=0.0)
    for index, image in by_index(train(after, batch_size=24)).items():
        name = after.ids("train")[index - 7]
        if name != "train/a/00000.png":
            assert torch.equal(image, whole[name])


@pytest.mark.parametrize(("size", "accumulate"), [(2, 1), (1, 4), (2, 2), (4, 2)])
def test_ranks_and_micro_batches_join_to_the_batches_of_one_process(load, root, size, accumulate):
    data = load(root, val_fraction=0.0)
    whole = list(train(data))
    ranks = [list(train(data, rank=rank, size=size, accumulate=accumulate)) for rank in range(size)]
    for step, batch in enumerate(whole):
        inputs, labels, index = joined(part for rank in ranks for part in rank[step * accumulate : (step + 1) * accumulate])
        assert torch.equal(inputs, batch.inputs)
        assert torch.equal(labels, batch.labels)
        assert torch.equal(index, batch.index)


def test_starting_late_gives_the_later_steps_and_renders_no_others(load, root, monkeypatch):
    data = load(root, val_fraction=0.0)
    expected = list(train(data))[1]
    rendered = []
    render = type(data._reader.fetcher._renderer).render
    monkeypatch.setattr(type(data._reader.fetcher._renderer), "render", lambda self, *asked: rendered.append(asked) or render(self, *asked))
    (late,) = train(data, start_step=1)
    assert torch.equal(late.inputs, expected.inputs)
    assert len(rendered) == 1


@pytest.mark.parametrize("size", [2, 3, 5])
def test_every_example_of_a_split_is_seen_once_over_all_ranks(load, root, size):
    data = load(root)
    whole = joined(data.batches("test"))
    ranks = [list(data.batches("test", batch_size=2, rank=rank, size=size)) for rank in range(size)]
    for one, many in zip(whole, joined(batch for rank in ranks for batch in rank), strict=True):
        assert torch.equal(one, many)


def test_batches_have_the_size_asked_for_and_else_that_of_training(load, root):
    data = load(root, batch_size=4)
    assert [len(batch) for batch in data.batches("test", batch_size=3)] == [3, 3, 1]
    assert [len(batch) for batch in data.batches("test")] == [4, 3]


def test_a_rank_may_have_nothing_to_do(load, root):
    data = load(root)
    assert [len(list(data.batches("test", rank=rank, size=8))) for rank in range(8)].count(0) == 1


@pytest.mark.parametrize("size", [1, 3])
def test_a_sample_is_the_same_for_any_number_of_ranks_and_changes_with_the_seed(load, root, size):
    data = load(root, val_fraction=0.0)
    drawn = joined(data.sample("train", 9, seed=1))
    assert drawn[2].tolist() == sorted(set(drawn[2].tolist()))
    assert len(drawn[2]) == 9
    whole = by_index(data.batches("train"))
    assert all(torch.equal(image, whole[int(index)]) for image, index in zip(drawn[0], drawn[2], strict=True))
    ranks = [list(data.sample("train", 9, seed=1, batch_size=2, rank=rank, size=size)) for rank in range(size)]
    for one, many in zip(drawn, joined(batch for rank in ranks for batch in rank), strict=True):
        assert torch.equal(one, many)
    assert joined(data.sample("train", 9, seed=2))[2].tolist() != drawn[2].tolist()


def test_a_sample_of_more_than_there_are_is_everything(load, root):
    data = load(root)
    for one, other in zip(joined(data.sample("test", 100, seed=0)), joined(data.batches("test")), strict=True):
        assert torch.equal(one, other)


def test_few_examples_make_one_smaller_batch(load, root):
    data = load(root, shots=3, val_fraction=0.0)
    (only,) = train(data, batch_size=64)
    assert len(only) == data.effective_batch_size(64) == 6
    assert data.steps_per_epoch(64) == 1


def test_serving_leaves_the_global_random_states_alone(load, root):
    data = load(root)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(train(data))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_without_the_cache_the_pixels_are_the_same(load, root, augment):
    cached, fresh = (load(root, augment=augment, cache=cache, workers=0) for cache in ("memory", "off"))
    for one, other in zip(train(cached), train(fresh), strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.index, other.index)
    for split in ("train", "val", "test"):
        assert torch.equal(joined(cached.batches(split))[0], joined(fresh.batches(split))[0])


def test_an_image_that_breaks_during_training_is_named(load, root):
    data = load(root, cache="off", workers=0)
    (root / "test/a/001.png").unlink()
    with pytest.raises(DataError, match=r"the image test/a/001\.png cannot be read \(no such file"):
        list(data.batches("test"))


UNEVEN = {"train/a": 2, "train/b": 20, "test/a": 3, "test/b": 4}


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_repeats_in_an_epoch_of_balanced_sampling_look_different(load, folder, augment):
    data = load(folder(UNEVEN), augment=augment, val_fraction=0.0, sampling="balanced")
    inputs, labels, index = joined(train(data, batch_size=6))
    assert np.bincount(labels).tolist() == [9, 9]
    small = index[labels == 0]
    assert np.bincount(np.unique(small, return_inverse=True)[1]).tolist() == [5, 4]
    for example in small.unique():
        views = inputs[index == example]
        distinct = len({view.numpy().tobytes() for view in views})
        # Images this small have a dozen crops, so that two may be the same by chance.
        assert distinct == len(views) if augment == "resized-crop" else (distinct > 1) == (augment == "crop")


def test_balanced_sampling_changes_no_augmentation_of_what_is_shown_once(load, folder):
    root, augment = folder(UNEVEN), "resized-crop"
    uniform, balanced = (load(root, augment=augment, val_fraction=0.0, sampling=sampling) for sampling in ("uniform", "balanced"))
    whole = by_index(train(uniform, batch_size=22))
    inputs, _, index = joined(train(balanced, batch_size=6))
    for example in index.unique():
        # One of the views of each example is that of uniform sampling, and the only one where it is shown once.
        assert sum(torch.equal(view, whole[int(example)]) for view in inputs[index == example]) == 1


@pytest.mark.parametrize(("size", "accumulate"), [(2, 1), (1, 4), (2, 2)])
def test_ranks_and_micro_batches_join_to_a_balanced_and_weighted_batch(load, folder, size, accumulate):
    data = load(folder(UNEVEN), val_fraction=0.0, sampling="balanced", class_weights="balanced")
    whole = list(train(data, batch_size=8))
    ranks = [list(train(data, batch_size=8, rank=rank, size=size, accumulate=accumulate)) for rank in range(size)]
    for step, batch in enumerate(whole):
        parts = [part for rank in ranks for part in rank[step * accumulate : (step + 1) * accumulate]]
        assert torch.equal(torch.cat([part.inputs for part in parts]), batch.inputs)
        assert torch.equal(torch.cat([part.weights for part in parts]), batch.weights)


def test_balanced_sampling_through_workers_is_that_of_the_cache(load, folder):
    root = folder(UNEVEN)
    cached, worked = (load(root, sampling="balanced", cache=cache, workers=workers) for cache, workers in (("memory", 0), ("off", 1)))
    for one, other in zip(train(cached, batch_size=6), train(worked, batch_size=6), strict=True):
        assert torch.equal(one.inputs, other.inputs)


def test_train_batches_carry_weights_and_others_do_not(load, folder):
    data = load(folder(UNEVEN), val_fraction=0.0, class_weights="balanced")
    assert data.weighted
    for batch in train(data, batch_size=6):
        assert batch.weights.dtype == torch.float32
        assert torch.equal(batch.weights, torch.where(batch.labels == 0, 22 / (2 * 2), 22 / (2 * 20)).float())
    assert all(batch.weights is None for split in ("train", "test") for batch in data.batches(split))


def test_equal_weights_are_left_out(load, root, folder):
    data = load(root, val_fraction=0.0)
    assert not data.weighted
    assert all(batch.weights is None for batch in train(data))


@pytest.mark.gpu
def test_batches_arrive_on_the_gpu_with_the_same_values(load, root):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for options in ({}, {"cache": "off", "workers": 1}):
        data = load(root, augment="resized-crop", **options)
        for one, other in zip(train(data), train(data, device="cuda"), strict=True):
            assert other.inputs.device.type == other.labels.device.type == other.index.device.type == "cuda"
            torch.testing.assert_close(other.inputs.cpu(), one.inputs, rtol=1e-6, atol=1e-6)
            assert torch.equal(other.index.cpu(), one.index)


def test_training_batches_that_are_not_augmented_hold_the_same_examples_as_the_eval_views(load, root):
    data = load(root, augment="resized-crop")
    plain, augmented = list(train(data, augmented=False)), list(train(data))
    views = by_index(data.batches("train"))
    for one, other in zip(plain, augmented, strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.inputs, torch.stack([views[int(index)] for index in one.index]))
        assert not torch.equal(one.inputs, other.inputs)
