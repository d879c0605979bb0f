"""The two contrasts of Bi-Tuning against queues of keys sorted by class."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from holdfast.checks import check_labels, check_matrix

__all__ = ["enqueue_by_class", "queue_contrast"]


def queue_contrast(queries: Tensor, own: Tensor, queue: Tensor, labels: Tensor, *, temperature: float = 0.07) -> Tensor:
    """Divergence of the softmax over a query's own key and all queued keys from the uniform distribution over those of its class.

    Zhong et al., 2021 (Bi-Tuning): entry 0 is ``own``, followed by the Q keys of the query's class and by all others; the target is
    1/(Q + 1) on the first Q + 1 entries.

    Args:
        queries: Rows (B, P).
        own: Similarity (B,) of each query with its own key.
        queue: Keys (P, K, Q) by class.
        labels: Class (B,) of each query.
        temperature: Divisor of all similarities.

    Returns:
        One value an example (B,), at least 0.
    """
    check_matrix("queries", queries, symbols="(B, P)")
    check_labels(labels, len(queries))
    similarity = torch.einsum("bp,pkq->bkq", queries, queue) / temperature
    own = own / temperature
    normalizer = torch.logsumexp(torch.cat([own[:, None], similarity.flatten(1)], dim=1), dim=1)
    positives = similarity[torch.arange(len(labels), device=labels.device), labels]  # (B, Q)
    count = queue.shape[2] + 1
    return normalizer - (own + positives.sum(dim=1)) / count - math.log(count)


def enqueue_by_class(queue: Tensor, pointer: Tensor, keys: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Put keys into the ring queues of their classes, one after the other in the order of the batch.

    Args:
        queue: Keys (P, K, Q).
        pointer: Next place (K,) of each class, int64.
        keys: New keys (B, P).
        labels: Their classes (B,).

    Returns:
        The new queue and pointers; the arguments stay as they are. Of more than Q keys of a class the last Q remain.

    Example:
        >>> keys, labels = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1, 0, 1])
        >>> queue, pointer = enqueue_by_class(torch.zeros(1, 2, 2), torch.tensor([0, 1]), keys, labels)
        >>> queue[0].tolist(), pointer.tolist()
        ([[2.0, 0.0], [3.0, 1.0]], [1, 1])
    """
    length = queue.shape[2]
    one_hot = torch.nn.functional.one_hot(labels, queue.shape[1])
    counts = one_hot.sum(dim=0)
    turn = (one_hot.cumsum(dim=0) * one_hot).sum(dim=1) - 1  # how many of its class came before it in this batch
    kept = turn >= counts[labels] - length
    places = ((pointer[labels] + turn) % length)[kept]
    updated = queue.clone()
    updated[:, labels[kept], places] = keys[kept].T.to(queue.dtype)
    return updated, (pointer + counts) % length
