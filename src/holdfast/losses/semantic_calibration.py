"""Formulas of DR-Tune: pretrained features are turned and shifted to where the network's own features have gone meanwhile.

``Q`` entries of a queue, ``D`` feature dimensions, ``K`` classes. Nothing here has a gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from holdfast.checks import check_labels, check_matrix, check_same_shape
from holdfast.errors import ShapeError

__all__ = ["align_rigidly", "calibrate_queue", "enqueue", "shift_to_classes"]


@torch.no_grad()
def align_rigidly(rows: Tensor, towards: Tensor) -> Tensor:
    """Rotate and shift rows as one rigid body so that they come as near to others, row by row, as they can.

    Kabsch's solution of ``min_R,t Σ_q ‖R x_q + t - y_q‖²`` over proper rotations. Where the rows do not span the space, the rotation is
    one of several that are as good.

    Args:
        rows: x (Q, D), float32 or wider.
        towards: y (Q, D).

    Returns:
        R x + t (Q, D).

    Raises:
        ShapeError: The inputs are not matrices of one shape.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
        >>> turned = rows @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]]) + 5
        >>> bool(torch.allclose(align_rigidly(rows, turned), turned, atol=1e-5))
        True
    """
    check_matrix("rows", rows, symbols="(Q, D)")
    check_same_shape("rows", rows, "towards", towards)
    mean, target_mean = rows.mean(dim=0), towards.mean(dim=0)
    centred = rows - mean
    # The columns of ``centred`` sum to 0, so the other side need not be centred. A network that has diverged must reach the check of the
    # loss, which names the step; a decomposition would fail on NaN before.
    covariance = (centred.T @ towards).nan_to_num()
    left, _, right = torch.linalg.svd(covariance)
    # A determinant is ±1 here; the last direction is turned round where the best fit would be a reflection.
    left[:, -1] *= torch.linalg.slogdet(left @ right).sign
    return torch.addmm(target_mean, centred, left @ right)


@torch.no_grad()
def shift_to_classes(rows: Tensor, towards: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Move the rows of each class by one vector, from their centre to that of the class's other rows.

    Zhou et al., DR-Tune, ICCV 2023, the semantic part of its calibration. The centre aimed at weighs each row of ``towards`` by its
    agreement with the classifier: ``Σ a_q y_q - mean x_q`` is added, with a the softmax over the class of the cosine between y_q and w_c.
    Unlike in the release, a class with one entry is treated as any other.

    Args:
        rows: x (Q, D).
        towards: y (Q, D), rows of unit norm.
        labels: Classes (Q,).
        weight: Weight of the head (K, D).

    Returns:
        The shifted rows (Q, D).

    Raises:
        ShapeError: The inputs do not fit each other.
    """
    check_matrix("rows", rows, symbols="(Q, D)")
    check_same_shape("rows", rows, "towards", towards)
    check_labels(labels, len(rows))
    if weight.ndim != 2 or weight.shape[1] != rows.shape[1]:
        raise ShapeError(f"weight must be (K, {rows.shape[1]}), one column for each column of rows, got {tuple(weight.shape)}.")
    directions = F.normalize(weight, dim=1)
    # One matrix of the size of the queue is used for everything: fresh memory would cost more than what is computed in it.
    wide = directions[labels]
    # Cosines lie in [-1, 1], so their exponentials need no shift.
    agreement = torch.linalg.vecdot(towards, wide).exp()
    totals = agreement.new_zeros(len(weight), 2).index_add_(0, labels, torch.stack([agreement, torch.ones_like(agreement)], dim=1))
    shifts = torch.zeros_like(directions)
    shifts.index_add_(0, labels, torch.mul(towards, (agreement / totals[labels, 0])[:, None], out=wide))
    shifts.index_add_(0, labels, torch.div(rows, totals[labels, 1][:, None], out=wide), alpha=-1)
    return torch.index_select(shifts, 0, labels, out=wide).add_(rows)


@torch.no_grad()
def calibrate_queue(
    pretrained: Tensor, live: Tensor, labels: Tensor, weight: Tensor, mean_norm: Tensor | float, *, rotate: bool = True
) -> Tensor:
    """Pretrained features as the present network would place them.

    Zhou et al., DR-Tune, ICCV 2023; release weeknan/DR-Tune. Both queues are made of unit length, the pretrained one is turned to the
    other and shifted class by class, and all of it gets the length of the present features.

    Args:
        pretrained: Pretrained features V (Q, D), float32 or wider.
        live: The network's features U (Q, D) of the same examples, as they were when these entered the queue.
        labels: Classes (Q,).
        weight: Weight of the head (K, D).
        mean_norm: Mean length s of the features of the present batch.
        rotate: Whether to turn; without, only classes are shifted.

    Returns:
        Calibrated features (Q, D), all of length s.

    Raises:
        ShapeError: The inputs do not fit each other.
    """
    unit, towards = F.normalize(pretrained, dim=1, eps=1e-12), F.normalize(live, dim=1, eps=1e-12)
    if rotate:
        unit = align_rigidly(unit, towards)
    calibrated = shift_to_classes(unit, towards, labels, weight)
    return calibrated.mul_(mean_norm / calibrated.norm(dim=1, keepdim=True).clamp_min(1e-12))


@torch.no_grad()
def enqueue(queue: Tensor, rows: Tensor, pointer: Tensor) -> None:
    """Write rows into a ring, from the slot ``pointer`` on and over its end; the last ones stay where there are more than slots.

    Args:
        queue: (Q, …), changed in place.
        rows: (B, …), any B.
        pointer: The slot of the first row, an integer tensor on the device of the queue; the caller advances it by B, modulo Q.

    Example:
        >>> queue = torch.zeros(3)
        >>> enqueue(queue, torch.tensor([1.0, 2.0]), torch.tensor(2))
        >>> queue
        tensor([2., 0., 1.])
    """
    skipped = max(0, len(rows) - len(queue))
    slots = (pointer + torch.arange(skipped, len(rows), device=queue.device)) % len(queue)
    queue[slots] = rows[skipped:].to(queue.dtype)
