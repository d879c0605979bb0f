from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import beta, kstest
from torch import Tensor

from holdfast import attach
from holdfast.losses.core_tuning import CoreTuning, project
from holdfast.losses.functional import focal_contrastive_loss, hard_pairs, mix_hard_pairs, soft_label_positives
from holdfast.testing import SmallNet


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("make", [lambda z: z, torch.relu, lambda z: -z.abs()], ids=["any sign", "not negative", "not positive"])
def test_hard_pairs_are_extrema_over_the_sets(make: object) -> None:
    features = make(random(12, 4)) + 1e-3
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 0, 1, 3])  # class 3 has one example
    positives, negatives = hard_pairs(features, labels)
    for i in range(12):
        similar = [float(F.cosine_similarity(features[i], features[j], dim=0)) for j in range(12)]
        same = [j for j in range(12) if j != i and labels[j] == labels[i]]
        other = [j for j in range(12) if labels[j] != labels[i]]
        assert positives[i] == (min(same, key=lambda j: similar[j]) if same else i)
        assert negatives[i] == max(other, key=lambda j: similar[j])


def test_without_another_class_an_example_is_its_own_negative() -> None:
    _, negatives = hard_pairs(random(4, 3), torch.zeros(4, dtype=torch.int64))
    assert negatives.tolist() == [0, 1, 2, 3]


def test_rows_are_mixed_example_by_example() -> None:
    features, labels = random(5, 3), torch.tensor([0, 1, 0, 1, 1])
    targets = F.one_hot(labels, 2).double()
    partner, share, other_share = torch.tensor([1, 0, 2, 4, 3]), random(5, seed=1).abs(), random(5, seed=2).abs()
    rows, soft = mix_hard_pairs(features, targets, permutation=partner, negative_share=share, positive_share=other_share)
    positives, negatives = hard_pairs(features, labels)
    for source, mixed in ((features, rows), (targets, soft)):
        for i in range(5):
            torch.testing.assert_close(mixed[i], source[i])
            torch.testing.assert_close(mixed[5 + i], (1 - share[i]) * source[i] + share[i] * source[partner[i]])
            expected = other_share[i] * source[positives[i]] + (1 - other_share[i]) * source[negatives[i]]
            torch.testing.assert_close(mixed[10 + i], expected)


@pytest.mark.parametrize("detach", [True, False])
def test_originals_carry_gradient_only_when_asked_for(detach: bool) -> None:
    features = random(4, 3).requires_grad_()
    targets = F.one_hot(torch.tensor([0, 1, 0, 1]), 2).double()
    shares = torch.full((4,), 0.5)
    rows, _ = mix_hard_pairs(
        features, targets, permutation=torch.arange(4), negative_share=shares, positive_share=shares, detach_originals=detach
    )
    (whole,) = torch.autograd.grad(rows.sum(), features, retain_graph=True)
    (mixed,) = torch.autograd.grad(rows[4:].sum(), features)
    torch.testing.assert_close(whole, mixed if detach else mixed + 1)


@pytest.mark.parametrize("normalize", ["rows", "positives"])
def test_focal_contrast_is_its_definition(normalize: str) -> None:
    rows = F.normalize(random(7, 4), dim=1)
    labels = [0, 0, 1, 1, 1, 2, 0]  # class 2 has one row, which has no positive
    positives = torch.tensor([[i != j and labels[i] == labels[j] for j in range(7)] for i in range(7)])
    total, counted = 0.0, 0
    for m in range(7):
        others = [n for n in range(7) if n != m]
        normalizer = sum(math.exp(float(rows[m] @ rows[n]) / 0.3) for n in others)
        mine = [n for n in others if positives[m, n]]
        for n in mine:
            p = math.exp(float(rows[m] @ rows[n]) / 0.3) / normalizer
            total -= (1 - p) * math.log(p) / (7 if normalize == "rows" else len(mine))
        counted += bool(mine)
    loss = focal_contrastive_loss(rows, positives, temperature=0.3, normalize=normalize)
    assert float(loss) == pytest.approx(total / counted, rel=1e-12)


def test_focal_contrast_has_the_right_gradient_and_survives_certainty() -> None:
    positives = soft_label_positives(torch.eye(3, dtype=torch.float64)[[0, 0, 1, 1, 2]])
    rows = random(5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: focal_contrastive_loss(F.normalize(v, dim=1), positives), rows)
    certain = torch.eye(2, dtype=torch.float64)[[0, 0, 1, 1]].requires_grad_()
    focal_contrastive_loss(certain, soft_label_positives(certain.detach()), temperature=1e-3).backward()
    assert bool(certain.grad.isfinite().all())


def test_without_positives_the_contrast_is_zero_with_a_gradient() -> None:
    rows = random(3, 4).requires_grad_()
    for count in (3, 1):
        loss = focal_contrastive_loss(rows[:count], torch.zeros(count, count, dtype=torch.bool))
        assert float(loss.detach()) == 0
        (grad,) = torch.autograd.grad(loss, rows)
        assert not bool(grad.any())


def test_soft_labels_are_compared_entry_by_entry() -> None:
    targets = torch.zeros(4, 30, dtype=torch.float64)  # beyond what a sum of powers of ten could tell apart
    targets[0, 28], targets[1, 29], targets[2, 28], targets[3, 28] = 1, 1, 1 - 5e-7, 1 - 5e-6
    assert soft_label_positives(targets).int().tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("alpha", [0.4, 1.0, 3.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    uniform = torch.rand(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert kstest(CoreTuning(alpha=alpha)._beta(uniform).numpy(), beta(alpha, alpha).cdf).pvalue > 0.01


def test_the_projection_has_unit_rows_and_starts_like_a_linear_layer() -> None:
    term = CoreTuning(width=7)
    attach(SmallNet(3, width=400), [term], [(torch.randn(4, 6), torch.tensor([0, 1, 2, 0]))], num_classes=3)
    assert term.outer_weight.shape == (7, 400)
    assert float(term.inner_weight.detach().abs().max()) == pytest.approx(1 / 20, rel=0.01)
    rows = project(torch.randn(5, 400), (term.inner_weight, term.inner_bias, term.outer_weight, term.outer_bias))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(5))


def test_steps_draw_other_shares_and_partners() -> None:
    batch = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    terms = attach(SmallNet(3), "core-tuning", [batch], num_classes=3)
    values = []
    for _ in range(2):
        terms.loss(*batch)
        values.append(terms.values["core-tuning/cross-entropy"])
        terms.after_step()
    assert values[0] != values[1]


def test_one_example_has_no_contrast() -> None:
    batch = torch.randn(1, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([1])
    terms = attach(SmallNet(3), "core-tuning", [batch], num_classes=3)
    terms.loss(*batch).backward()
    assert terms.values["core-tuning/contrastive"] == 0
    assert terms.values["core-tuning/cross-entropy"] > 0
