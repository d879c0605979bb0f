"""Hard pairs of a batch, mixed into new examples at the level of features: the data of Core-tuning."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from holdfast.checks import check_labels, check_matrix

__all__ = ["hard_pairs", "mix_hard_pairs"]


def hard_pairs(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The hardest positive and the hardest negative of each example, by cosine similarity within the batch.

    Zhang et al., NeurIPS 2021 (Core-tuning), section 4.1. The hardest positive is the least similar other example of the same class, the
    hardest negative the most similar one of another class; an example without any takes itself. The authors' release masks by
    multiplying similarities with zero, so that with non-negative features it often finds the wrong ones; this takes the extrema over
    the sets.

    Args:
        features: Features (B, D).
        labels: Classes (B,).

    Returns:
        Positions (B,) of the positives and of the negatives.

    Raises:
        ShapeError: The features are no matrix, or labels do not fit them.

    Example:
        >>> positives, negatives = hard_pairs(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]]), torch.tensor([0, 0, 1]))
        >>> positives.tolist(), negatives.tolist()
        ([1, 0, 2], [2, 2, 0])
    """
    check_matrix("features", features)
    check_labels(labels, len(features))
    directions = F.normalize(features.detach(), dim=1)
    similarity = directions @ directions.T
    same = labels[:, None] == labels
    own = torch.arange(len(labels), device=labels.device)
    others = same & (own[:, None] != own)
    positives = similarity.masked_fill(~others, torch.inf).argmin(dim=1)
    negatives = similarity.masked_fill(same, -torch.inf).argmax(dim=1)
    return torch.where(others.any(dim=1), positives, own), torch.where(same.all(dim=1), own, negatives)


def mix_hard_pairs(
    features: Tensor,
    targets: Tensor,
    *,
    permutation: Tensor,
    negative_share: Tensor,
    positive_share: Tensor,
    detach_originals: bool = True,
) -> tuple[Tensor, Tensor]:
    """The batch, followed by semi-hard negatives and hard positives mixed from it.

    Zhang et al., NeurIPS 2021 (Core-tuning), Eq. 4-6: ``z⁻ = (1 - λ⁻) z + λ⁻ z_π`` and ``z⁺ = λ⁺ z_hp + (1 - λ⁺) z_hn``, labels mixed
    alike. As in the authors' release the originals are detached, so that the network learns from the mixed rows alone.

    Args:
        features: Features (B, D).
        targets: One-hot classes (B, K).
        permutation: Partner π of each example (B,).
        negative_share: λ⁻ of each example (B,).
        positive_share: λ⁺ of each example (B,).
        detach_originals: Whether the first B rows carry no gradient.

    Returns:
        Features (3B, D) and soft labels (3B, K), in the order originals, negatives, positives.
    """
    positives, negatives = hard_pairs(features, targets.argmax(dim=1))

    def mixed(rows: Tensor) -> Tensor:
        semi_hard = torch.lerp(rows, rows[permutation], negative_share[:, None].to(rows.dtype))
        hard = torch.lerp(rows[negatives], rows[positives], positive_share[:, None].to(rows.dtype))
        return torch.cat([semi_hard, hard])

    originals = features.detach() if detach_originals else features
    return torch.cat([originals, mixed(features)]), torch.cat([targets, mixed(targets)])
