"""DR-Tune: the head is trained on pretrained features too, which are brought to where the network's own have gone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from holdfast.errors import DataError
from holdfast.losses.functional import cross_entropy
from holdfast.losses.semantic_calibration import calibrate_queue, enqueue
from holdfast.terms import Needs, Scope, TaskLoss
from holdfast.types import Comm, Source, Step, Update

__all__ = ["DRTune"]


class DRTune(TaskLoss):
    """Mean cross-entropy over the batch and a queue of calibrated pretrained features.

    Zhou et al., ICCV 2023; release weeknan/DR-Tune. The network learns from the batch alone, the head from both. We differ from the
    release where it goes wrong: a class with one entry in the queue has a centre, and batches need not divide the queue. The first
    entries are un-augmented examples in random order.

    With several ranks all hold the same queues. Under accumulation the calibrated features have the mean length of a micro-batch, not
    that of the batch.

    Args:
        queue_size: Q; the queue's share in the loss is Q / (B + Q).
        rotation_every: Steps from one rotation of the queue to the next, counted in each epoch; between them it is not rotated.
    """

    NEEDS = Needs(layers=("pooled",), reference=True, hard_labels=True)
    SCOPE = Scope.BATCH
    SHARDED = True
    STATE = ("live", "pretrained", "queue_labels", "pointer")

    live: Tensor  # (Q, D), the network's features as they were when they entered
    pretrained: Tensor  # (Q, D), of the same inputs
    queue_labels: Tensor  # (Q,)
    pointer: Tensor  # scalar, the slot written next

    def __init__(self, *, queue_size: int = 2048, rotation_every: int = 10) -> None:
        super().__init__()
        self.queue_size = queue_size
        self.rotation_every = rotation_every
        self._collected: list[_Rows] = []
        self._last: dict[str, Tensor] = {}

    def setup(self, source: Source) -> None:
        """Fill both queues with pretrained features of training examples."""
        features, labels = _random_examples(source, self.queue_size)
        slots = torch.arange(self.queue_size, device=labels.device) % len(labels)
        self.set_queues(features[slots], features[slots], labels[slots])

    def set_queues(self, live: Tensor, pretrained: Tensor, labels: Tensor) -> None:
        """Start with these entries (Q, D), (Q, D), (Q,); the first is the oldest."""
        self.live, self.pretrained, self.queue_labels = live.clone(), pretrained.clone(), labels.clone()
        self.pointer = torch.zeros((), dtype=torch.int64, device=labels.device)

    def loss(self, step: Step) -> Tensor:
        """``(Σ_i CE(z_i) + Σ_q CE(calibrated v_q)) / (B + Q)``, B being the rows of the whole step."""
        features, head = step.features["pooled"], step.head
        mean_norm = _mean_norm(features.detach(), step.comm)
        calibrated = calibrate_queue(
            self.pretrained, self.live, self.queue_labels, head.weight, mean_norm, rotate=step.step_in_epoch % self.rotation_every == 0
        )
        of_queue = cross_entropy(F.linear(calibrated, head.weight, head.bias), self.queue_labels).sum()
        of_batch = cross_entropy(step.logits, step.labels).mean() * step.batch_size
        if step.collect:
            reference = step.reference.features(step.inputs)["pooled"]
            self._collected.append((features.detach(), reference.detach(), step.labels))
        self._last = {"queue": of_queue.detach() / len(calibrated), "feature_norm": mean_norm}
        return (of_batch + of_queue) / (step.batch_size + len(calibrated))

    def after_step(self, update: Update) -> None:
        """Enqueue the step's features, in the order of the global batch."""
        if not self._collected:
            return
        # Each rank holds a contiguous slice of the batch, in order of its micro-batches.
        live, pretrained, labels = (update.comm.gather(torch.cat(rows)) for rows in zip(*self._collected, strict=True))
        self.enqueue(live, pretrained, labels)
        self._collected = []

    def enqueue(self, live: Tensor, pretrained: Tensor, labels: Tensor) -> None:
        """Write these rows over the oldest ones, wherever the ring ends."""
        for queue, rows in ((self.live, live), (self.pretrained, pretrained), (self.queue_labels, labels)):
            enqueue(queue, rows, self.pointer)
        self.pointer = (self.pointer + len(labels)) % self.queue_size

    def discard_step(self) -> None:
        """Forget the features collected since the last update."""
        self._collected = []

    def metrics(self) -> dict[str, Tensor | float]:
        """At the last step: the mean cross-entropy of the queue, and the mean length of features."""
        return dict(self._last)


_Rows = tuple[Tensor, Tensor, Tensor]
"""Live features (B, D), pretrained features (B, D), labels (B,)."""


def _mean_norm(features: Tensor, comm: Comm) -> Tensor:
    """Mean length of the rows of all ranks."""
    norms = features.norm(dim=1)
    total, count = comm.sum(torch.stack([norms.sum(), norms.new_tensor(len(norms))]))
    return total / count


def _random_examples(source: Source, count: int) -> tuple[Tensor, Tensor]:
    """Pretrained features and labels of up to ``count`` training examples in random order.

    Those whose scrambled index comes first, so that the choice does not depend on how ranks share the split. One pass in which no more
    than ``count`` rows are kept.
    """
    salt = int(torch.randint(2**62, (), generator=source.generator("dr-tune")))
    kept: tuple[Tensor, ...] = ()
    seen = 0
    for batch in source.batches():
        positions = torch.arange(seen, seen + len(batch), device=batch.index.device) * source.comm.size + source.comm.rank
        seen += len(batch)
        order = _scrambled(torch.where(batch.index >= 0, batch.index, positions), salt)
        if len(kept) and len(kept[0]) == count and bool((order > kept[0][-1]).all()):
            continue
        rows = (order, source.reference.features(batch.inputs)["pooled"], batch.labels)
        kept = _first(tuple(torch.cat(pair) for pair in zip(kept, rows, strict=True)) if kept else rows, count)
    if not kept:
        raise DataError("this rank's share of the training split is empty, so DR-Tune has nothing to fill its queue with. Use fewer ranks.")
    _, features, labels = _first(tuple(source.comm.gather(rows) for rows in kept), count)
    return features.detach(), labels


def _first(rows: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
    """The ``count`` rows that come first by the numbers in ``rows[0]``, in order."""
    chosen = rows[0].argsort()[:count]
    return tuple(tensor[chosen] for tensor in rows)


def _scrambled(index: Tensor, salt: int) -> Tensor:
    """A number (B,) for each index, different for each, in no order: rounds of shifts and odd factors, as in splitmix64."""
    mixed = index ^ salt
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        mixed = (mixed ^ (mixed >> shift)) * factor
    return mixed
