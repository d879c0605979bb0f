"""The focal supervised contrastive loss over rows with soft labels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from holdfast.checks import check_matrix

__all__ = ["focal_contrastive_loss", "soft_label_positives"]


def soft_label_positives(targets: Tensor, *, tolerance: float = 1e-6) -> Tensor:
    """Which pairs of rows have the same soft label.

    The authors' release compares Σ_k 10^k Y_k in float32, which cannot tell classes apart beyond a few; this compares the labels.

    Args:
        targets: Soft labels (M, K).
        tolerance: Largest difference of an entry that still counts as the same.

    Returns:
        Mask (M, M), False on the diagonal.

    Example:
        >>> soft_label_positives(torch.tensor([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]])).int().tolist()
        [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    """
    # The largest difference by rows, without an M x M x K tensor.
    same = torch.cdist(targets, targets, p=torch.inf) <= tolerance
    return same & ~torch.eye(len(targets), dtype=torch.bool, device=targets.device)


def focal_contrastive_loss(
    projections: Tensor, positives: Tensor, *, temperature: float = 0.07, normalize: Literal["rows", "positives"] = "rows"
) -> Tensor:
    """Contrast of rows with the same label against all rows, where pairs that are told apart already count less.

    Zhang et al., NeurIPS 2021 (Core-tuning), Eq. 7: ``ℓ_m = -(1/M) Σ_{n ∈ P(m)} (1 - p_mn) log p_mn`` with p_mn the softmax of
    ``v_m·v_n / τ`` over all other rows; the factor is not detached. Averaged over the rows that have a positive.

    Args:
        projections: Unit rows (M, P).
        positives: Mask (M, M) of the pairs P(m), False on the diagonal.
        temperature: τ.
        normalize: Division of each row by M, as in the authors' release (so that their weight is 10), or by its number of positives,
            as usual in contrastive losses.

    Returns:
        Scalar; 0 with a gradient of 0 where no row has a positive.

    Raises:
        ShapeError: The projections are no matrix.
    """
    check_matrix("projections", projections, symbols="(M, P)")
    rows = len(projections)
    if rows < 2:
        return 0 * projections.sum()
    own = torch.eye(rows, dtype=torch.bool, device=projections.device)
    similarity = (projections @ projections.T / temperature).masked_fill(own, -torch.inf)
    log_probs = similarity.log_softmax(dim=1).masked_fill(~positives, 0.0)  # a pair of no interest counts as certain, which is 0 below
    counts = positives.sum(dim=1)
    terms = -((-torch.expm1(log_probs)) * log_probs).sum(dim=1)
    total = (terms / (rows if normalize == "rows" else counts.clamp(min=1))).sum()
    return total / (counts > 0).sum().clamp(min=1)
