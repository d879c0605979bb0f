from __future__ import annotations

import torch
from tests.golden.arrays import Arrays, Toy, agree
from torch import Tensor

from holdfast import attach
from holdfast.regularizers.functional import batch_spectral_shrinkage


def methods_bss(a: Arrays) -> None:
    for form in ("wide", "tall"):
        features = a[f"features_{form}"]
        numbers = sorted(int(name.removeprefix(f"loss_{form}_k")) for name in a if name.startswith(f"loss_{form}_k"))
        for k in numbers:
            value, gradient = shrinkage(features, k)
            agree(value, a[f"loss_{form}_k{k}"])
            agree(gradient, a[f"grad_{form}_k{k}"])
            weighted_in_a_loop(features, k, float(a["trade_off"]), a[f"loss_{form}_k{k}"])
        squares = [batch_spectral_shrinkage(features, k=k + 1) for k in range(min(features.shape))]
        agree(torch.stack(squares).diff(prepend=torch.zeros(1, dtype=torch.float64)).sqrt().flip(0), a[f"singular_values_{form}"])
    value, gradient = shrinkage(a["orth_features"], min(a["orth_features"].shape))
    agree(value, a["orth_loss_kall"])
    agree(gradient, a["orth_grad_kall"])
    for k, rtol in ((1, 0.0), (2, 1e-6)):  # 0 in theory; a finite difference
        for found, name in zip(shrinkage(a["dup_features"], k), ("loss", "grad"), strict=True):
            torch.testing.assert_close(found, a[f"dup_{name}_k{k}"], rtol=rtol, atol=1e-8)


def shrinkage(features: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Value and gradient."""
    features = features.clone().requires_grad_()
    value = batch_spectral_shrinkage(features, k=k)
    value.backward()
    assert features.grad is not None
    return value.detach(), features.grad


def weighted_in_a_loop(features: Tensor, k: int, weight: float, expected: Tensor) -> None:
    width = features.shape[1]
    net = Toy(torch.eye(width, dtype=torch.float64), torch.zeros(2, width, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    terms = attach(net, [{"name": "bss", "k": k, "weight": weight}], num_classes=2)
    total = terms.loss(features, torch.zeros(len(features), dtype=torch.int64))
    agree(total.detach() - terms.values["cross-entropy"], weight * expected)
