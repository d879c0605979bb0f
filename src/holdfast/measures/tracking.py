"""Measuring the features of a fixed part of the training split after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from holdfast.data import RunData
from holdfast.measures.features import (
    conditional_entropy,
    differential_entropy,
    feature_norm,
    gradient_norm,
    norm_of_mean_feature,
)
from holdfast.models.classifier import Classifier
from holdfast.run import Run
from holdfast.types import Batch, Comm

__all__ = ["MOST_EXAMPLES", "FeatureTracking", "measure_features"]

MOST_EXAMPLES = 4096
"""Entropies depend on the number of examples and cost its square, so it has a limit."""


def measure_features(features: Tensor, labels: Tensor, logits: Tensor) -> dict[str, float | int]:
    """The row of numbers that ``features.csv`` holds for each epoch.

    Args:
        features: Features (N, D).
        labels: Classes (N,).
        logits: Scores before softmax (N, K) that the head made of the features.

    Returns:
        ``examples`` N; ``feature_norm``, ``norm_of_mean_feature``; ``entropy``, ``conditional_entropy`` and their difference
        ``mutual_information`` in nats; ``left_out``, the examples alone in their class, which conditional entropy leaves out;
        ``gradient_norm`` of the mean cross-entropy with respect to the weight of the head.

    Example:
        >>> row = measure_features(torch.eye(2), torch.tensor([0, 1]), torch.zeros(2, 2))
        >>> row["examples"], row["feature_norm"], row["left_out"]
        (2, 1.0, 2)
    """
    entropy, (conditional, left_out) = differential_entropy(features), conditional_entropy(features, labels)
    return {
        "examples": len(features),
        "feature_norm": feature_norm(features),
        "norm_of_mean_feature": norm_of_mean_feature(features),
        "entropy": entropy,
        "conditional_entropy": conditional,
        "mutual_information": entropy - conditional,
        "left_out": left_out,
        "gradient_norm": gradient_norm(logits, labels, features),
    }


def _all_count(batches: Iterable[Batch]) -> Iterator[tuple[Batch, bool]]:
    return ((batch, True) for batch in batches)


@dataclass(frozen=True)
class FeatureTracking:
    """Writes ``features.csv``: a row for the pretrained network with its new head, epoch 0, and one after each epoch.

    Features are those of un-augmented images in eval mode, of at most :data:`MOST_EXAMPLES` training examples drawn by ``seed``, the
    same in every epoch. Training goes on as if nothing had been measured: modes and random states are put back.

    Args:
        run: Where the rows go; rank 0 writes them.
        data: The images of the run.
        classifier: The network that is trained, on its device once training has begun.
        comm: Communication between ranks, which share the forward passes.
        device: Where to compute.
        autocast: The precision of forward passes.
        seed: Seed of the choice of examples.
        in_step: This rank's batches as they are to be passed through the network, and whether each counts.
    """

    run: Run
    data: RunData
    classifier: Classifier
    comm: Comm
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]
    seed: int
    in_step: Callable[[Iterable[Batch]], Iterable[tuple[Batch, bool]]] = _all_count

    @property
    def name(self) -> str:
        """What is measured."""
        return "features"

    def rewind(self, step: int) -> None:
        """Forget the rows beyond ``step`` optimizer steps, from which training goes on."""
        if self.comm.rank == 0:
            self.run.truncate_features(step)

    def measure(self, epoch: int, step: int) -> dict[str, float | int]:
        """Measure the network as it is now, on all ranks, and write its row.

        Args:
            epoch: Whole epochs done.
            step: Optimizer steps done.

        Returns:
            What was measured; empty on ranks other than 0.
        """
        columns = self._forward()
        if self.comm.rank != 0:
            return {}
        row = measure_features(*columns)
        self.run.append_features({"epoch": epoch, "step": step, **row})
        return row

    @torch.no_grad()
    def _forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, D), labels (N,) and logits (N, K) over all ranks, in the order of the ids."""
        classifier = self.classifier
        was_training = classifier.training
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        # A network of one's own may draw numbers in eval mode too.
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []), self.autocast():
            classifier.eval()
            try:
                batches = self.data.sample(
                    "train", MOST_EXAMPLES, seed=self.seed, rank=self.comm.rank, size=self.comm.size, device=self.device
                )
                for batch, counts in self.in_step(batches):
                    outputs = classifier(batch.inputs)
                    if counts:
                        rows.append((outputs.features["pooled"].float(), batch.labels, outputs.logits.float()))
            finally:
                classifier.train(was_training)
        features, labels, logits = (torch.cat(column) for column in zip(*rows, strict=True))
        return self.comm.gather(features), self.comm.gather(labels), self.comm.gather(logits)
