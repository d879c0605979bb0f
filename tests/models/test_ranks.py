from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from tests.models.families import FAMILIES, load_family
from torch import Tensor, nn

from holdfast.models.checkpointing import checkpoint_blocks
from holdfast.models.classifier import Classifier, freeze_batchnorm
from holdfast.models.memory_format import to_channels_last

BATCH = 4

MACHINE_OPTIONS = ("demo-glyphnet", "torchvision-densenet")
"""Networks whose ranks keep maps channels last and compute blocks twice, which must make no difference."""


class Loss(nn.Module):
    """A loss on both outputs, inside the module that DDP wraps."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        logits, features = self.classifier(images)
        return nn.functional.cross_entropy(logits, labels) + features["pooled"].square().mean()


def gradients(family: str, *, ranks: int, rank: int) -> list[Tensor]:
    """Gradients of the mean loss over one batch, of which this rank sees its slice."""
    pretrained = load_family(family)
    classifier = Classifier(pretrained.net.double(), pretrained.head_name)
    classifier.reset_head(5, seed=0)
    freeze_batchnorm(classifier)
    if ranks > 1 and family in MACHINE_OPTIONS:
        to_channels_last(classifier.net)
        checkpoint_blocks(classifier.net, classifier.head_name)
    loss = Loss(classifier)
    wrapped = nn.parallel.DistributedDataParallel(loss) if ranks > 1 else loss
    size = pretrained.input.size
    images = torch.randn(BATCH, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    share = slice(rank * BATCH // ranks, (rank + 1) * BATCH // ranks)
    for _ in range(2):  # DDP complains in the second step, if at all
        loss.zero_grad()
        wrapped(images[share], torch.arange(BATCH)[share]).backward()
    return [parameter.grad for parameter in loss.parameters() if parameter.grad is not None]


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    found = {family: gradients(family, ranks=2, rank=rank) for family in FAMILIES}
    if rank == 0:
        torch.save(found, f"{folder}/gradients.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Tensor]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return torch.load(folder / "gradients.pt")


@pytest.mark.ranks
@pytest.mark.parametrize("family", FAMILIES)
def test_two_ranks_with_half_the_batch_have_the_gradients_of_one(two_ranks: dict[str, list[Tensor]], family: str) -> None:
    expected = gradients(family, ranks=1, rank=0)
    assert len(expected) == len(two_ranks[family])
    for one, two in zip(expected, two_ranks[family], strict=True):
        torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-12)
