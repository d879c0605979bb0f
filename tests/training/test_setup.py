"""What terms may look at before the first step: batches in a new order each epoch, and a classifier trained as the run is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.training.small_runs import METHODS
from torch import Tensor

from holdfast.attach import build_terms
from holdfast.catalog import parse_methods
from holdfast.config.schema import FitConfig
from holdfast.data import load_data
from holdfast.distributed import SingleProcess
from holdfast.models.load import load_pretrained
from holdfast.models.reference import FrozenReference
from holdfast.models.target_classifier import SGD
from holdfast.step import SourceView
from holdfast.training.optim import classifier_sgd
from holdfast.training.setup import source_of


class Threads:
    """Ranks that are threads of this process: each hands in its tensor, then all read what all have handed in."""

    def __init__(self, size: int) -> None:
        self.handed: list[Tensor] = [torch.empty(0)] * size
        self.barrier = threading.Barrier(size, timeout=60)

    def rank(self, rank: int) -> Any:
        size = len(self.handed)

        def exchange(combine: Callable[[list[Tensor]], Tensor], tensor: Tensor) -> Tensor:
            self.handed[rank] = tensor
            self.barrier.wait()
            combined = combine(list(self.handed))
            self.barrier.wait()
            return combined

        return SimpleNamespace(
            rank=rank,
            size=size,
            sum=lambda tensor: exchange(lambda all_ranks: torch.stack(all_ranks).sum(0), tensor),
            gather=lambda tensor: exchange(torch.cat, tensor),
            broadcast=lambda tensor: exchange(lambda all_ranks: all_ranks[0].clone(), tensor),
        )


def source(images: Path, *, rank: int = 0, size: int = 1, comm: Any = None, **options: Any) -> SourceView:
    pretrained = load_pretrained("demo:glyphnet")
    config = FitConfig(data=str(images), seed=4, **options)
    comm = comm or (SingleProcess() if size == 1 else SimpleNamespace(rank=rank, size=size))
    engine = SimpleNamespace(comm=comm, device=torch.device("cpu"))
    data = load_data(config, pretrained.input)
    reference = FrozenReference.from_pretrained(pretrained)
    job: Any = SimpleNamespace(config=config, data=data, engine=engine, reference=reference, source_data=None, terms=[])
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


def set_up(images: Path, method: Any, comm: Any) -> tuple[dict[str, Tensor], int]:
    """What a method keeps after its setup on one rank, and how many images the pretrained network saw there."""
    view = source(images, comm=comm, batch_size=4)
    seen = []
    plain = view.reference.features

    def counted(inputs: Tensor) -> dict[str, Tensor]:
        seen.append(len(inputs))
        return plain(inputs)

    view.reference.features = counted  # type: ignore[method-assign]
    (weighted,) = build_terms(parse_methods(method if isinstance(method, str) else [method], task_loss=False))
    weighted.term.setup(view)
    return {name: tensor.clone() for name, tensor in weighted.term.state_dict().items() if isinstance(tensor, Tensor)}, sum(seen)


@pytest.mark.parametrize("method", ["randreg-pretrained", "randreg-cp", "adarand"])
def test_each_rank_looks_at_its_share_and_all_keep_what_one_would(images: Path, method: str) -> None:
    alone, images_seen = set_up(images, METHODS[method], SingleProcess())
    assert images_seen == 18
    ranks = Threads(3)
    with ThreadPoolExecutor(3) as pool:
        shared = list(pool.map(lambda rank: set_up(images, METHODS[method], ranks.rank(rank)), range(3)))
    assert [seen for _, seen in shared] == [6, 6, 6]
    for state, _ in shared:
        torch.testing.assert_close(state, alone, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(state, shared[0][0], rtol=0, atol=0)
    assert any(tensor.is_floating_point() and tensor.std() > 0 for tensor in alone.values())
