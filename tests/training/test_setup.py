"""What terms may look at before the first step: batches in a new order each epoch, and a classifier trained as the run is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from holdfast.config.schema import FitConfig
from holdfast.data import load_data
from holdfast.distributed import SingleProcess
from holdfast.models.load import load_pretrained
from holdfast.models.reference import FrozenReference
from holdfast.models.target_classifier import SGD
from holdfast.step import SourceView
from holdfast.training.optim import classifier_sgd
from holdfast.training.setup import source_of


def source(images: Path, *, rank: int = 0, size: int = 1, **options: Any) -> SourceView:
    pretrained = load_pretrained("demo:glyphnet")
    config = FitConfig(data=str(images), seed=4, **options)
    comm = SingleProcess() if size == 1 else SimpleNamespace(rank=rank, size=size)
    engine = SimpleNamespace(comm=comm, device=torch.device("cpu"))
    data = load_data(config, pretrained.input)
    reference = FrozenReference.from_pretrained(pretrained)
    job: Any = SimpleNamespace(config=config, data=data, engine=engine, reference=reference, source_data=None)
    return source_of(job, total_steps=6)


def order(view: SourceView, batch_size: int, epoch: int) -> list[list[int]]:
    return [batch.index.tolist() for batch in view.shuffled(batch_size, epoch)]


def test_each_epoch_has_an_order_of_its_own(images: Path) -> None:
    view = source(images)
    first, second = order(view, 6, 0), order(view, 6, 1)
    everything = sorted(index for batch in view.batches() for index in batch.index.tolist())
    assert [len(batch) for batch in first] == [6, 6, 6]
    for epoch in (first, second):
        assert sorted(index for batch in epoch for index in batch) == everything
    assert first != second
    assert order(source(images), 6, 0) == first


def test_ranks_share_each_batch(images: Path) -> None:
    halves = [order(source(images, rank=rank, size=2), 6, 0) for rank in range(2)]
    assert [first + second for first, second in zip(*halves, strict=True)] == order(source(images), 6, 0)


def test_a_batch_that_ranks_do_not_divide_is_made_smaller(images: Path) -> None:
    # 18 images: of batches of 32 and of 7, four ranks take 16 and 4.
    assert [len(batch) for batch in order(source(images, rank=3, size=4), 32, 0)] == [4]
    assert [len(batch) for batch in order(source(images, rank=3, size=4), 7, 0)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("options", "sgd"),
    [
        ({"lr": 0.02, "momentum": 0.8, "weight_decay": 1e-4}, SGD(0.02, 0.02, 0.8, 1e-4)),
        ({"lr": 0.02, "head_lr": 0.3}, SGD(0.02, 0.3)),
        ({"lr": 0.02, "head_lr_factor": 5.0, "batchnorm": "frozen"}, SGD(0.02, 0.1, train_batchnorm=False)),
        ({"optimizer": "adamw", "lr": 1e-4, "batchnorm": "frozen"}, SGD(train_batchnorm=False)),
    ],
)
def test_the_classifier_is_trained_by_the_sgd_of_the_run(options: dict[str, Any], sgd: SGD) -> None:
    assert classifier_sgd(FitConfig(**options)) == sgd


def test_a_classifier_of_the_target_starts_from_the_pretrained_network(images: Path) -> None:
    view = source(images, lr=0.05)
    start = {name: tensor.clone() for name, tensor in view.reference.weights.items()}
    untrained, net = (view.fit_classifier(epochs=epochs, batch_size=6) for epochs in (0, 1))
    assert net.state_dict()["fc.weight"].shape == (3, 64)
    for name, tensor in untrained.state_dict().items():
        assert name.startswith("fc") or torch.equal(tensor, start[name])
    assert not torch.equal(net.state_dict()["stem.0.weight"], start["stem.0.weight"])
    assert not torch.equal(net.state_dict()["stem.1.running_mean"], start["stem.1.running_mean"])
    torch.testing.assert_close(dict(view.reference.weights), start, rtol=0, atol=0)
    again = source(images, lr=0.05).fit_classifier(epochs=1, batch_size=6)
    torch.testing.assert_close(dict(net.state_dict()), dict(again.state_dict()), rtol=0, atol=0)
