"""Reference files of the losses for wrong labels: corrected by a transition matrix, bounded, with moving targets, abstaining, mixed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import torch
from tests.golden.arrays import Arrays, agree
from torch import Tensor

from holdfast.labels import transition
from holdfast.losses.functional import (
    abstention_loss,
    backward_correction,
    cross_entropy,
    early_learning_regularization,
    early_learning_targets,
    forward_correction,
    generalized_cross_entropy,
    jensen_shannon,
    label_smoothing,
    mean_absolute_error,
    mixup_cross_entropy,
    normalized_cross_entropy,
    reverse_cross_entropy,
    self_adaptive_loss,
    self_adaptive_targets,
)

Loss = Callable[[Tensor], Tensor]
LOG_ZERO = {"A-4": -4.0, "logeps": math.log(1e-4)}
ILL_POSED = {"near_singular", "singular"}


def label_noise_corrected_losses(a: Arrays) -> None:
    logits, labels = a["logits"], a["labels"]
    for name in (key.removeprefix("T/") for key in a if key.startswith("T/")):
        matrix = a[f"T/{name}"]
        rtol = 1e-6 if name in ILL_POSED else 1e-9
        inverse = torch.as_tensor(transition.inverse(matrix.numpy()))
        close(inverse, a[f"Tinv/{name}"], rtol)
        close(transition.rho(matrix.numpy()), a[f"rho/{name}"], rtol)
        assert (f"cond/{name}" not in a) == transition.is_singular(matrix.numpy())
        if f"cond/{name}" in a:
            close(transition.cond(matrix.numpy()), a[f"cond/{name}"], rtol)
        for form, loss, with_matrix in (("backward", backward_correction, inverse), ("forward", forward_correction, matrix)):
            close(loss(logits, labels, with_matrix, reduction="none"), a[f"{form}_per_sample/{name}"], rtol)
            value, gradient = slope(lambda z, loss=loss, with_matrix=with_matrix: loss(z, labels, with_matrix), logits)
            close(value, a[f"{form}_loss/{name}"], rtol)
            close(gradient, a[f"{form}_grad_logits/{name}"], rtol)


def label_noise_robust_losses(a: Arrays) -> None:
    logits = a["logits"]
    for key in (name.removeprefix("loss/") for name in a if name.startswith("loss/")):
        value, gradient = slope(named_loss(key, a), logits)
        close(value, a[f"loss/{key}"], 1e-6 if key.startswith("js_ref") else 1e-9)
        agree(gradient, a[f"grad/{key}"])
    elr(a)
    sat(a)
    dac(a)


def named_loss(key: str, a: Arrays) -> Loss:
    """The loss that a key of the file names, with the numbers in it."""
    labels, partners = a["labels"], a["labels"][a["mixup_perm"]]
    words = [word for word in key.split("_") if not re.fullmatch(r"[0-9.]+", word) and word not in LOG_ZERO]
    numbers = [float(word) for word in key.split("_") if re.fullmatch(r"[0-9.]+", word)]
    log_zero = next((value for word, value in LOG_ZERO.items() if key.endswith(word)), math.nan)
    first, second = (*numbers, math.nan, math.nan)[:2]
    losses: dict[str, Loss] = {
        "ce": lambda z: cross_entropy(z, labels).mean(),
        "label_smoothing": lambda z: label_smoothing(z, labels, smoothing=first),
        "gce": lambda z: generalized_cross_entropy(z, labels, q=first),
        "sce": lambda z: first * cross_entropy(z, labels).mean() + second * reverse_cross_entropy(z, labels, log_zero=log_zero),
        "nce": lambda z: normalized_cross_entropy(z, labels),
        "mae": lambda z: mean_absolute_error(z, labels),
        "apl_nce_rce": lambda z: first * normalized_cross_entropy(z, labels) + second * reverse_cross_entropy(z, labels, log_zero=log_zero),
        "apl_nce_mae": lambda z: first * normalized_cross_entropy(z, labels) + second * mean_absolute_error(z, labels),
        "js_ref": lambda z: jensen_shannon(z, labels, weights=(first, 1 - first)),
        "gjs": lambda z: jensen_shannon(z, labels, weights=numbers, further=[a["logits_view2"]]),
        "mixup_ce": lambda z: mixup_cross_entropy(z, labels, partners, float(a["mixup_lambda"])),
    }
    return losses["_".join(words)]


def elr(a: Arrays) -> None:
    momentum, weight, labels = float(a["elr_beta"]), a["elr_lambda"], a["labels"]
    targets = torch.zeros_like(a["elr/t1"])
    for step, logits in ((1, a["logits_view2"]), (2, a["logits"])):
        targets = early_learning_targets(targets, logits, momentum=momentum)
        value, gradient = slope(
            lambda z, targets=targets: cross_entropy(z, labels).mean() + weight * early_learning_regularization(z, targets), logits
        )
        agree(targets, a[f"elr/t{step}"])
        agree(value, a[f"elr/step{step}_loss"])
        agree(gradient, a[f"elr/step{step}_grad"])


def sat(a: Arrays) -> None:
    targets = torch.nn.functional.one_hot(a["labels"], a["logits"].shape[1]).to(a["logits"].dtype)
    for step, logits in ((1, a["logits_view2"]), (2, a["logits"])):
        targets = self_adaptive_targets(targets, logits, momentum=float(a["sat_momentum"]))
        value, gradient = slope(lambda z, targets=targets: self_adaptive_loss(z, targets), logits)
        agree(targets, a[f"sat/t{step}"])
        agree(value, a[f"sat/step{step}_loss"])
        agree(gradient, a[f"sat/step{step}_grad"])


def dac(a: Arrays) -> None:
    prefix = "dac/loss_alpha"
    for alpha in (key.removeprefix(prefix) for key in a if key.startswith(prefix)):
        value, gradient = slope(lambda z, alpha=alpha: abstention_loss(z, a["labels"], alpha=float(alpha)), a["dac_logits"])
        agree(value, a[f"dac/loss_alpha{alpha}"])
        agree(gradient, a[f"dac/grad_alpha{alpha}"])
        agree(abstention_loss(a["dac_logits"], a["labels"], alpha=float(alpha), reduction="none"), a[f"dac/per_sample_alpha{alpha}"])


def slope(loss: Loss, logits: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def close(actual: Tensor | float, expected: Tensor, rtol: float) -> None:
    torch.testing.assert_close(torch.as_tensor(actual, dtype=expected.dtype).reshape(expected.shape), expected, rtol=rtol, atol=1e-12)
