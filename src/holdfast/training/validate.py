"""What is measured after each epoch to choose between epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from holdfast.training.loop import Trainer

__all__ = ["validate"]


def validate(trainer: Trainer, row: dict[str, float | int | None]) -> list[str]:
    """Evaluate the trained weights and their average on validation, and with ``--track test`` on the test split too.

    Args:
        trainer: At the end of an epoch, before the clock moves on.
        row: The epoch's row of ``history.csv``, which gets the columns.

    Returns:
        The forms of the weights (``raw``, ``ema``) that are better than in any epoch before, by some criterion.
    """
    splits = [split for split in ("val", "test") if trainer.job.data.has(split) and (split == "val" or "test" in trainer.job.config.track)]
    epoch, step, better = trainer.clock.epoch + 1, trainer.clock.step, []
    for form, selection in trainer.candidates.selections.items():
        prefix, improved = "" if form == "raw" else f"{form}_", []
        for split in splits:
            with trainer.candidates.using(form):
                accuracy, loss, further = _measured(trainer, split)
            row |= {f"{prefix}{split}_accuracy": accuracy, f"{prefix}{split}_loss": loss}
            row |= {f"{prefix}{by.replace('-', '_')}": value for by, value in further.items()}
            if split == "val":
                improved.append(selection.offer(epoch, step, accuracy=accuracy, loss=loss, further=further))
            else:
                improved.append(selection.offer_test(epoch, step, accuracy=accuracy))
        if any(improved):
            better.append(form)
    return better


def _measured(trainer: Trainer, split: str) -> tuple[float, float, dict[str, float]]:
    """Accuracy, loss and on validation further criteria of the network as it is now.

    They are rank 0's numbers for all, so that ranks on unlike processors choose alike and stop together.
    """
    predictions, engine = trainer.predict(split), trainer.job.engine
    criteria = trainer.job.criteria if split == "val" else {}
    values = [predictions.accuracy, predictions.loss, *(criterion(predictions) for criterion in criteria.values())]
    measured = torch.tensor(values, dtype=torch.float64, device=engine.device)
    accuracy, loss, *further = engine.comm.broadcast(measured).tolist()
    return accuracy, loss, dict(zip(criteria, further, strict=True))
