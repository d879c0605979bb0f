"""L2-SP: weights stay near their starting point."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from holdfast.regularizers.functional import half_squared_distance
from holdfast.terms import Needs, Regularizer, Scope
from holdfast.types import Step

__all__ = ["L2SP"]


class L2SP(Regularizer):
    """Half the squared distance of the backbone's weights from their pretrained values, and half the squared norm of the head.

    Li et al., ICML 2018. All trainable parameters take part, normalisation scales and biases included; buffers do not. A parameter
    without a counterpart of its name and shape in the pretrained network counts as head, as in Transfer-Learning-Library (commit
    c4aa59e).
    """

    NEEDS = Needs(reference=True)
    SCOPE = Scope.WEIGHTS

    def __init__(self) -> None:
        super().__init__()
        self._pairs: _Pairs | None = None

    def penalty(self, step: Step) -> dict[str, Tensor]:
        """``backbone``: ½ Σ ‖p - p⁰‖²; ``head``: ½ Σ ‖p‖² over the new parameters."""
        if self._pairs is None:
            self._pairs = _pair(step)
        pairs = self._pairs
        return {"backbone": _distance(pairs.shared, pairs.start, step), "head": _distance(pairs.new, None, step)}


class _Pairs(NamedTuple):
    """Parameters with their pretrained values, and those that are new."""

    shared: list[Tensor]
    start: list[Tensor]
    new: list[Tensor]


def _pair(step: Step) -> _Pairs:
    weights = step.reference.weights
    head = {id(parameter) for parameter in step.head.parameters()}
    pairs = _Pairs([], [], [])
    for name, parameter in step.model.named_parameters():
        pretrained = weights.get(name)
        if not parameter.requires_grad:
            continue
        if id(parameter) in head or pretrained is None or pretrained.shape != parameter.shape:
            pairs.new.append(parameter)
        else:
            pairs.shared.append(parameter)
            pairs.start.append(pretrained)
    return pairs


def _distance(parameters: list[Tensor], start: list[Tensor] | None, step: Step) -> Tensor:
    return half_squared_distance(parameters, start) if parameters else step.logits.new_zeros(())
