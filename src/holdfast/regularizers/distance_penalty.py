"""The soft form of distance constraints: a penalty on how far each layer is from its start."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal, NamedTuple

from torch import Tensor, nn

from holdfast.models.shards import is_spread, over_ranks, own_part
from holdfast.regularizers.functional import frob_penalty, infop_penalty
from holdfast.regularizers.held_layers import HeldLayer, HeldLayers, Selection, hold
from holdfast.terms import Needs, Regularizer, Scope
from holdfast.types import Step

__all__ = ["DistancePenalty"]


class DistancePenalty(Regularizer):
    """The norm of each layer's difference from its start, and that of the head from 0, as penalties.

    Ju et al., ICML 2022, with the conventions of their release (Robust-Fine-Tuning, commit 55a1e5c): the square of the Frobenius norm
    without a factor ½, or the largest row sum of magnitudes without a square; scales of BatchNorm take part as they are, biases do not. A
    weight without a counterpart of its name and shape in the pretrained network counts as head.

    Args:
        norm: ``frob`` or ``infop``.
        layers: Patterns of names, joined by commas, or ``all``.
        bn: Whether the scales of BatchNorm take part.
        scale_by_depth: Factor on the penalty of layers in the third quarter of the network, squared in the last.
    """

    NEEDS = Needs(reference=True)
    SCOPE = Scope.WEIGHTS

    def __init__(
        self, *, norm: Literal["frob", "infop"] = "frob", layers: str = "all", bn: bool = True, scale_by_depth: float = 1.0
    ) -> None:
        super().__init__()
        self.norm = norm
        self.SHARDED = norm == "frob"  # a sum over entries, of which each rank takes its part
        self.selection = Selection.of_text("1", layers, option="distance-penalty: --method.distance-penalty.layers", bn=bn)
        self.scale_by_depth = scale_by_depth
        self._groups: _Groups | None = None

    def layers(self, net: nn.Module) -> tuple[str, ...]:
        """None to capture; patterns that do not fit the network are refused here.

        Raises:
            ConfigError: A pattern matches nothing.
        """
        self.selection.of(net)
        return ()

    def penalty(self, step: Step) -> dict[str, Tensor]:
        """``backbone``: Σ ‖D‖_F² or Σ max_i ‖D_i‖₁ over layers; ``head``: the same of what is new, with D = W."""
        if self._groups is None:
            self._groups = _group(hold(step, self.selection, scale_by_depth=self.scale_by_depth))
        formula = frob_penalty if self.norm == "frob" else infop_penalty
        backbone = step.logits.new_zeros(())
        for factor, layers in self._groups.backbone.items():
            starts = [_outputs_first(layer, layer.start) for layer in layers if layer.start is not None]
            backbone = backbone + factor * formula([_outputs_first(layer, own_part(layer.weight)) for layer in layers], starts)
        new = [_outputs_first(layer, own_part(layer.weight)) for layer in self._groups.new]
        found = {"backbone": backbone, "head": formula(new) if new else step.logits.new_zeros(())}
        return {name: over_ranks(value, step.comm) for name, value in found.items()} if self._groups.spread else found


class _Groups(NamedTuple):
    """What is penalised: layers of the backbone with their starts by the factor of their penalty, and what is new; whether in parts."""

    backbone: dict[float, list[HeldLayer]]
    new: list[HeldLayer]
    spread: bool


def _group(held: HeldLayers) -> _Groups:
    backbone: dict[float, list[HeldLayer]] = defaultdict(list)
    for layer in held.layers:
        backbone[layer.number].append(layer)
    for batchnorm in held.batchnorms:
        backbone[batchnorm.number].append(HeldLayer(batchnorm.name, batchnorm.weight, batchnorm.start, batchnorm.number))
    return _Groups(
        backbone, list(held.new), spread=any(is_spread(layer.weight) for group in (*backbone.values(), held.new) for layer in group)
    )


def _outputs_first(layer: HeldLayer, tensor: Tensor) -> Tensor:
    # A part of a weight has no rows to be told apart, and the one norm it is used for does not ask for them.
    return layer.by_row(tensor).flatten(0, 1) if layer.groups and not is_spread(layer.weight) else tensor
