"""L2-SP: weights stay near their starting point."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from holdfast.models.shards import is_spread, names_of, over_ranks, own_part, trained_parameters
from holdfast.regularizers.functional import half_squared_distance
from holdfast.terms import Needs, Regularizer, Scope
from holdfast.types import Step

__all__ = ["L2SP"]


class L2SP(Regularizer):
    """Half the squared distance of the backbone's weights from their pretrained values, and half the squared norm of the head.

    Li et al., ICML 2018. All trainable parameters take part, normalisation scales and biases included; buffers do not. A parameter
    without a counterpart of its name and shape in the pretrained network counts as head, as in Transfer-Learning-Library (commit
    c4aa59e). Where FSDP spreads the weights, each rank looks at its parts.
    """

    NEEDS = Needs(reference=True)
    SCOPE = Scope.WEIGHTS
    SHARDED = True

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

    shared: list[nn.Parameter]
    start: list[Tensor]
    new: list[nn.Parameter]


def _pair(step: Step) -> _Pairs:
    weights = step.reference.weights
    head = names_of(step.model, step.head)
    pairs = _Pairs([], [], [])
    for name, parameter in trained_parameters(step.model).items():
        pretrained = weights.get(name)
        if not parameter.requires_grad:
            continue
        if name in head or pretrained is None or pretrained.shape != parameter.shape:
            pairs.new.append(parameter)
        else:
            pairs.shared.append(parameter)
            pairs.start.append(own_part(pretrained))
    return pairs


def _distance(parameters: list[nn.Parameter], start: list[Tensor] | None, step: Step) -> Tensor:
    if not parameters:
        return step.logits.new_zeros(())
    distance = half_squared_distance([own_part(parameter) for parameter in parameters], start)
    return over_ranks(distance, step.comm) if is_spread(parameters[0]) else distance
