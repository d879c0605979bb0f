"""Pull logits towards zero, against overconfident predictions."""

from __future__ import annotations

from torch import Tensor

from holdfast import Regularizer, register
from holdfast.types import Step

__all__ = ["LogitNorm", "logit_norm"]


def logit_norm(logits: Tensor, *, centred: bool = False) -> Tensor:
    """Mean square of the logits (B, K) over examples and classes.

    Args:
        logits: Scores before softmax (B, K).
        centred: Subtract each example's mean first, which softmax does not see.
    """
    if centred:
        logits = logits - logits.mean(dim=1, keepdim=True)
    return logits.square().mean()


@register("logit-norm", summary="pulls logits towards zero", weight=0.01)
class LogitNorm(Regularizer):
    """Penalty on the size of the logits."""

    def __init__(self, *, centred: bool = False) -> None:
        super().__init__()
        self.centred = centred

    def penalty(self, step: Step) -> Tensor:
        """``(1/(B·K)) Σ_i ‖logits_i‖²``."""
        return logit_norm(step.logits, centred=self.centred)
