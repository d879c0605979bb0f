from __future__ import annotations

import pytest
import torch
from torch import Tensor

from holdfast import attach
from holdfast.losses.functional import class_costs, unbalanced_plan
from holdfast.losses.uot import UOTFineTuning
from holdfast.testing import SmallNet


def rows(labels: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(labels), 6, generator=generator), torch.tensor(labels)


def test_classes_are_selected_by_the_transport_between_pretrained_class_means() -> None:
    net, target, source = SmallNet(3), rows([0, 0, 1, 2, 2, 1]), rows([0, 1, 2, 3, 4, 0, 1, 2, 3, 4], seed=1)
    term = UOTFineTuning(classes=2)
    attach(net, [term], [target], num_classes=3, source=[source])
    with torch.no_grad():
        means = [torch.stack([net.body(x[y == k]).mean(0) for k in y.unique()]).double() for x, y in (source, target)]
    importance = unbalanced_plan(class_costs(*means)).plan.sum(dim=1)
    assert term.extra_classes()["source"].tolist() == sorted(importance.argsort(descending=True)[:2].tolist())


def test_batches_of_the_source_may_be_cut_anywhere() -> None:
    source = rows([0, 1, 2, 3, 4, 0, 1, 2, 3, 4], seed=1)
    chosen = []
    for parts in ([source], [(x, y) for x, y in zip(source[0].split(3), source[1].split(3), strict=True)]):
        term = UOTFineTuning(classes=3)
        attach(SmallNet(3), [term], [rows([0, 1, 2])], num_classes=3, source=parts)
        chosen.append(term.selected.tolist())
    assert chosen[0] == chosen[1]


def test_classes_without_images_are_neither_selected_nor_compared() -> None:
    term = UOTFineTuning(classes=5)
    attach(SmallNet(4), [term], [rows([0, 0, 3])], num_classes=4, source=[rows([0, 2, 2, 5], seed=1)])
    assert term.selected.tolist() == [0, 2, 5]
    assert term.head_weight.shape == (6, 5)
    assert bool(term.head_weight.isfinite().all())


def test_the_source_head_starts_as_the_paper_says() -> None:
    term = UOTFineTuning()
    attach(SmallNet(2, width=300), [term], [rows([0, 1])], num_classes=2, source=[rows(list(range(40)), seed=1)])
    assert float(term.head_weight.detach().std()) == pytest.approx((2 / 300) ** 0.5, rel=0.03)
    assert not bool(term.head_bias.any())
