"""Class statistics against a second pass over all features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from holdfast.errors import DataError
from holdfast.regularizers.priors import ClassStatistics


def examples(offset: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 6, generator=generator, dtype=torch.float64) + offset
    labels = torch.randint(4, (50,), generator=generator)
    features[:, 2] = 0.3  # a unit that never changes
    labels[0] = 5  # a class with one example; class 4 has none
    return features, labels


def statistics(features: Tensor, labels: Tensor, sizes: int) -> ClassStatistics:
    result = ClassStatistics(6)
    for part in zip(features.split(sizes), labels.split(sizes), strict=True):
        result.update(*part)
    return result


@pytest.mark.parametrize("sizes", [1, 7, 50])
def test_batches_merge_to_the_statistics_of_the_whole(sizes: int) -> None:
    features, labels = examples()
    prior = statistics(features, labels, sizes).prior()
    for label in (0, 1, 2, 3, 5):
        rows = features[labels == label]
        torch.testing.assert_close(prior.mean[label], rows.mean(0), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(prior.std[label], rows.std(0, correction=0), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(prior.mean[4], features.mean(0), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(prior.std[4], features.std(0, correction=0), rtol=1e-12, atol=1e-14)
    assert prior.active.tolist() == [True] * 4 + [False, True]


def test_one_example_and_constant_units_have_no_spread() -> None:
    prior = statistics(*examples(), 7).prior()
    assert not prior.std[5].any()
    assert prior.std[:, 2].max() < 1e-15


def test_a_large_offset_does_not_swallow_the_variance() -> None:
    features, labels = examples(offset=1e4)
    prior = statistics(features.float(), labels, 7).prior()
    rows = features.float().double()[labels == 1]
    torch.testing.assert_close(prior.std[1].double(), rows.std(0, correction=0), rtol=1e-6, atol=1e-9)
    assert prior.std.dtype is torch.float32


def test_ranks_reduce_to_the_statistics_of_the_whole() -> None:
    features, labels = examples()
    shares = [statistics(features[:20], labels[:20], 6), statistics(features[20:], labels[20:], 6)]

    class Both:
        """Adds up what the two shares would send, one call after the other."""

        rank, size = 0, 2

        def __init__(self) -> None:
            self.calls = 0

        def sum(self, tensor: Tensor) -> Tensor:
            first, second = shares
            self.calls += 1
            if self.calls == 1:
                self.count = first.count + second.count
                return self.count
            if self.calls == 2:
                self.mean = first.count * first.mean + second.count * second.mean
                return self.mean
            mean = self.mean / self.count.clamp_min(1)
            return sum(share.deviation + share.count * (share.mean - mean).square() for share in shares)

    whole, reduced = statistics(features, labels, 50).prior(), shares[0].prior(Both())
    torch.testing.assert_close(reduced.mean, whole.mean, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(reduced.std, whole.std, rtol=1e-12, atol=1e-13)


def test_no_example_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="features have no statistics"):
        ClassStatistics(3).prior()


def test_a_batch_touches_the_rows_of_its_classes_alone() -> None:
    many = ClassStatistics(20_000)
    many.update(torch.tensor([[1.0], [3.0]]), torch.tensor([7, 7]))
    before = [tensor.clone() for tensor in (many.count, many.mean, many.deviation) if tensor is not None]
    many.update(torch.tensor([[5.0]]), torch.tensor([19_999]))
    for tensor, kept in zip((many.count, many.mean, many.deviation), before, strict=True):
        assert tensor is not None
        assert torch.equal(tensor[:19_999], kept[:19_999])
    prior = many.prior()
    assert (prior.mean[7].item(), prior.std[7].item(), prior.mean[19_999].item()) == (2.0, 1.0, 5.0)
    assert prior.active.sum() == 2


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_no_other_class(label: int) -> None:
    with pytest.raises((IndexError, RuntimeError), match="out of range"):
        ClassStatistics(3).update(torch.ones(1, 2), torch.tensor([label]))
