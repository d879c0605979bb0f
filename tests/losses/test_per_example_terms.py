"""The task losses without state: what they return is the mean of their formula, under the names of their weights."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tests.losses.plain_loop import examples, logits_of, started

from holdfast.losses import functional
from holdfast.losses.label_smoothing import LabelSmoothing


def value(name: str, inputs: torch.Tensor, labels: torch.Tensor, **options) -> torch.Tensor:
    return getattr(functional, name)(logits_of(started("plain"), inputs), labels, **options)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ({"name": "label-smoothing", "smoothing": 0.3}, [(1, "label_smoothing", {"smoothing": 0.3})]),
        ({"name": "sce", "weight": 0.5, "reverse_weight": 2.0}, [(0.5, "cross_entropy", {}), (2, "reverse_cross_entropy", {})]),
        ({"name": "sce", "log_zero": -9.0}, [(0.1, "cross_entropy", {}), (1, "reverse_cross_entropy", {"log_zero": -9.0})]),
        ("apl", [(1, "normalized_cross_entropy", {}), (1, "reverse_cross_entropy", {})]),
        (
            {"name": "apl", "weight": 10, "passive": "mae", "passive_weight": 0.1},
            [(10, "normalized_cross_entropy", {}), (0.1, "mean_absolute_error", {})],
        ),
        ({"name": "js", "label_weight": 0.3}, [(1, "jensen_shannon", {"weights": (0.3, 0.7)})]),
    ],
)
def test_total_is_the_weighted_sum_of_the_formulas(method, expected) -> None:
    inputs, labels = examples()
    found = float(started(method).loss(inputs, labels).detach())
    assert found == pytest.approx(sum(weight * float(value(name, inputs, labels, **more).mean()) for weight, name, more in expected))


def test_parts_are_logged_by_name() -> None:
    inputs, labels = examples()
    for method, names in (("sce", ["sce/cross-entropy", "sce/reverse"]), ("apl", ["apl/active", "apl/passive"])):
        terms = started(method)
        terms.loss(inputs, labels)
        assert list(terms.values) == names


def test_js_compares_views_of_an_example() -> None:
    inputs, labels = examples()
    views = [inputs + 0.3, inputs - 0.3]
    terms = started({"name": "js", "label_weight": 0.4, "views": 2})
    first, *further = (logits_of(terms, view) for view in (inputs, *views))
    expected = functional.jensen_shannon(first, labels, weights=(0.4, 0.2, 0.2, 0.2), further=further)
    total = terms.loss(inputs, labels, views=views)
    assert float(total.detach()) == pytest.approx(float(expected), rel=1e-12)
    total.backward()
    head = terms.objective.model.net.head.weight.grad
    assert bool(head.any())


def test_gradients_reach_the_network_through_every_view() -> None:
    """With the first view held constant, what is left comes through the others."""
    inputs, labels = examples()
    totals = []
    for views in ([inputs + 1.0], [torch.zeros_like(inputs)]):
        terms = started({"name": "js", "views": 1})
        terms.loss(inputs, labels, views=views).backward()
        totals.append(terms.objective.model.net.body[0].weight.grad.clone())
    assert not torch.allclose(*totals)


def test_label_smoothing_takes_soft_targets() -> None:
    soft = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    step = SimpleNamespace(logits=torch.tensor([[0.0, 1.0]]).double(), labels=torch.tensor([0]), targets=soft, weights=None)
    expected = torch.nn.functional.cross_entropy(step.logits, soft, label_smoothing=0.1)
    assert float(LabelSmoothing().loss(step)) == pytest.approx(float(expected))
