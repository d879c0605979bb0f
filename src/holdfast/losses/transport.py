"""Which source classes resemble the target: unbalanced optimal transport between class means."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from holdfast.checks import check_matrix

__all__ = ["Plan", "class_costs", "select_source_classes", "unbalanced_plan"]


class Plan(NamedTuple):
    """A transport plan (K_s, K) and the scaling iterations it took."""

    plan: Tensor
    iterations: int


def class_costs(source_means: Tensor, target_means: Tensor, *, scale: float = 0.1) -> Tensor:
    """Cost of moving each source class to each target class: ``(1 - cos(s_i, t_j)) / scale``.

    Args:
        source_means: Mean features (K_s, D) of the source classes.
        target_means: Mean features (K, D) of the target classes.
        scale: Divisor of the cosine distance.

    Returns:
        Costs (K_s, K), which do not depend on the lengths of the means.
    """
    check_matrix("source_means", source_means, symbols="(K_s, D)")
    check_matrix("target_means", target_means, symbols="(K, D)")
    return (1 - F.normalize(source_means, dim=1) @ F.normalize(target_means, dim=1).T) / scale


def unbalanced_plan(
    costs: Tensor,
    *,
    epsilon: float = 1.0,
    rho_source: float = 1.0,
    rho_target: float = 100.0,
    tolerance: float = 1e-6,
    iterations: int = 1000,
) -> Plan:
    """Entropic transport between unit masses, which may be left behind at a price, by scaling iterations in the log domain.

    Liu et al., NeurIPS 2022 (unbalanced optimal transport for fine-tuning); the scaling of Chizat et al., 2018. Minimises
    ``⟨Γ, M⟩ + ε Σ Γ (log Γ - 1) + ρ₁ KL(Γ1 ‖ 1) + ρ₂ KL(Γᵀ1 ‖ 1)``.

    Args:
        costs: M (K_s, K), float64 for a plan that is exact to many digits.
        epsilon: Weight ε of the entropy.
        rho_source: Price ρ₁ of leaving the masses of the source classes.
        rho_target: Price ρ₂ of leaving those of the target classes.
        tolerance: The iterations end when the mean relative change of both scalings is below this.
        iterations: They end after this many in any case.

    Returns:
        The plan Γ, and how many iterations it took.
    """
    check_matrix("costs", costs, symbols="(K_s, K)")
    kernel = -costs / epsilon
    powers = rho_source / (rho_source + epsilon), rho_target / (rho_target + epsilon)
    log_u, log_v = (torch.full_like(kernel.select(axis, 0), -math.log(kernel.shape[1 - axis])) for axis in (1, 0))
    for done in itertools.count(1):
        before = log_u, log_v
        log_u = -powers[0] * torch.logsumexp(kernel + log_v, dim=1)
        log_v = -powers[1] * torch.logsumexp(kernel + log_u[:, None], dim=0)
        settled = float(_change(log_u, before[0]) + _change(log_v, before[1])) / 2 < tolerance
        if settled or done >= iterations:
            break
    return Plan((log_u[:, None] + kernel + log_v).exp(), done)


def _change(log_now: Tensor, log_before: Tensor) -> Tensor:
    """``max|x - x'| / max(max|x|, max|x'|, 1)`` from logarithms, which cannot overflow."""
    largest = torch.cat([log_now, log_before, log_now.new_zeros(1)]).max()
    return ((log_now - largest).exp() - (log_before - largest).exp()).abs().max()


def select_source_classes(importance: Tensor, top: int) -> Tensor:
    """The ``top`` classes of largest importance (all, where there are fewer), sorted by number; among equals the first.

    Example:
        >>> select_source_classes(torch.tensor([0.1, 0.7, 0.2, 0.7]), 2)
        tensor([1, 3])
    """
    order = importance.argsort(descending=True, stable=True)
    return order[:top].sort().values
