"""A loss at work in a plain loop, for tests: sixteen examples, a small network, SGD."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from holdfast import attach
from holdfast.attach import Attached
from holdfast.testing import SmallNet

EXAMPLES = 16


def examples(classes: int = 3) -> tuple[Tensor, Tensor]:
    """Float64 inputs (N, 6) and classes (N,)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(EXAMPLES, 6, generator=generator, dtype=torch.float64), torch.randint(classes, (EXAMPLES,), generator=generator)


def started(method: Any, *, classes: int = 3, outputs: int | None = None, total_steps: int | None = 8) -> Attached:
    """The method on a fresh float64 network."""
    net = SmallNet(outputs or classes).double()
    return attach(net, [method], [examples(classes)], num_classes=classes, total_steps=total_steps)


def term_of(terms: Attached) -> Any:
    """The task loss at work."""
    return terms.objective.weighted[0].term


def logits_of(terms: Attached, inputs: Tensor) -> Tensor:
    """What the network says now, without gradient."""
    with torch.no_grad():
        return terms.objective.model(inputs).logits


def step(terms: Attached, index: Tensor, *, lr: float = 0.1, classes: int = 3) -> float:
    """One update on these examples; the loss before it."""
    inputs, labels = examples(classes)
    total = terms.loss(inputs[index], labels[index], index)
    total.backward()
    with torch.no_grad():
        for parameter in terms.objective.model.parameters():
            parameter.sub_(lr * parameter.grad)
            parameter.grad = None
    terms.after_step()
    return float(total.detach())
