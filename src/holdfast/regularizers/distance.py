"""Distance constraints: after each step every layer is brought back into a ball around its start."""

from __future__ import annotations

import logging
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor, nn

from holdfast.errors import ConfigError
from holdfast.regularizers.balls import Balls, Norm
from holdfast.regularizers.held_layers import Selection, hold
from holdfast.terms import Needs, Regularizer, Scope
from holdfast.types import Step, Update

__all__ = ["Distance"]

log = logging.getLogger("holdfast")

RATIO = "0.1"
"""Where neither radius nor ratio is given."""

DISTANCE, RADIUS, ACTIVE, UPDATES = range(4)
"""Rows of ``record``."""


class Distance(Regularizer):
    """Projects the weights of each layer onto a ball around their pretrained values after each update, those of the head around 0.

    Gouk et al., ICLR 2021; Ju et al., ICML 2022. There is no penalty: the gradient is that of the other terms. The optimizer knows nothing
    of the projection, so its momentum goes on pushing outwards, as in the release of Ju et al. (Robust-Fine-Tuning, commit 55a1e5c).
    Weights are projected in the precision they are trained in; biases and statistics stay as they are. A weight without a counterpart of
    its name and shape in the pretrained network counts as head. Exact up to rounding: in float32 a distance may exceed its radius by 1e-5
    of it.

    Args:
        norm: ``frob`` bounds the Frobenius norm of a layer's difference D; ``infop`` the sum of magnitudes in each of its rows, by scaling
            rows; ``infop_exact`` the same by the nearest point.
        radius: The bound: a number, several by pattern as ``encoder=1,layer4=0.5``, or ``none``.
        ratio: The bound as a multiple of the norm of the pretrained weight (of its row for the norms of rows), in the same forms; ``auto``
            for 0.1 where no radius is given.
        head_radius: The bound of the head, which is around 0, or ``none``.
        layers: Patterns of names, joined by commas, or ``all``; where the bounds are by pattern they say which layers.
        bn: ``diagonal`` to bound the scales of BatchNorm too, see :func:`~holdfast.regularizers.projections.project_batchnorm`.
        scale_by_depth: Factor on the bounds in the third quarter of the network, squared in the last.
        embeddings: Whether tables of embeddings are bounded too.

    Raises:
        ConfigError: Two options contradict each other.
    """

    NEEDS = Needs(reference=True)
    SCOPE = Scope.WEIGHTS
    STATE = ("record",)  # (4, L): distance and radius after the last update; over the epoch, sums of the active share and of 1
    record: Tensor | None

    def __init__(
        self,
        *,
        norm: Norm = "frob",
        radius: str | float = "none",
        ratio: str | float = "auto",
        head_radius: str | float = "1",
        layers: str = "all",
        bn: Literal["off", "diagonal"] = "off",
        scale_by_depth: float = 1.0,
        embeddings: bool = False,
    ) -> None:
        super().__init__()
        radius, ratio, head_radius = str(radius), str(ratio), str(head_radius)
        if radius != "none" and ratio != "auto":
            raise ConfigError(f"distance: --method.distance.radius {radius} and --method.distance.ratio {ratio}: give one of them.")
        self.norm: Norm = norm
        self.SHARDED = norm == "frob" and bn == "off"  # sums over entries, of which each rank takes its part
        self.relative = radius == "none"
        text, name = (RATIO if ratio == "auto" else ratio, "ratio") if self.relative else (radius, "radius")
        option = f"distance: --method.distance.{name}"
        self.selection = Selection.of_text(text, layers, option=option, embeddings=embeddings, bn=bn != "off")
        self.head_radius = None if head_radius == "none" else float(head_radius)
        self.scale_by_depth = scale_by_depth
        self._balls: Balls | None = None
        self._names: tuple[str, ...] = ()
        self._epoch = 0  # of the last update

    def layers(self, net: nn.Module) -> tuple[str, ...]:
        """None to capture; patterns that do not fit the network are refused here.

        Raises:
            ConfigError: A pattern matches nothing, or two the same layer.
        """
        self.selection.of(net)
        return ()

    def penalty(self, step: Step) -> dict[str, Tensor]:
        """None: this is where the weights and their starts are seen for the first time."""
        if self._balls is None:
            held = hold(step, self.selection, scale_by_depth=self.scale_by_depth)
            self._balls = Balls(held, self.norm, relative=self.relative, head_radius=self.head_radius, comm=step.comm)
            self._names = self._balls.names
            if not self._names:
                log.warning("distance: no layer that it bounds is trained, so it does nothing.")
            if self.record is None:
                self.record = torch.zeros(4, len(self._names), dtype=torch.float64, device=step.logits.device)
        return {}

    def after_step(self, update: Update) -> None:
        """Project every layer."""
        record = self.record
        assert self._balls is not None, "a forward pass comes before an update"
        if record is None or not self._names:
            return
        if update.epoch != self._epoch:
            record[ACTIVE:], self._epoch = 0, update.epoch
        found = self._balls.project(update.comm).to(record)
        record[:ACTIVE] = found[:ACTIVE]
        record[ACTIVE] += found[ACTIVE]
        record[UPDATES] += 1

    def metrics(self) -> dict[str, Tensor | float]:
        """How much the balls hold back, mean over layers.

        ``active``: the share of the layer, all or its rows, that updates of this epoch took out of its ball; ``of_radius``: its distance
        over its radius after the last update.
        """
        rows = self.by_layer().values()
        if not rows:
            return {}
        used = [row["distance"] / row["radius"] if row["radius"] else 1.0 for row in rows]
        return {"active": fmean(row["active"] for row in rows), "of_radius": fmean(used)}

    def by_layer(self) -> dict[str, dict[str, float]]:
        """For each layer by name its ``distance`` and ``radius`` after the last update, and the ``active`` share over the epoch's updates.

        For the norms of rows the first two are the largest over rows, for BatchNorm over channels.
        """
        if self.record is None or not self.record[UPDATES:].any():
            return {}
        distance, radius, active, updates = self.record.tolist()
        shares = [share / count for share, count in zip(active, updates, strict=True)]
        rows = zip(self._names, distance, radius, shares, strict=True)
        return {name: {"distance": d, "radius": r, "active": share} for name, d, r, share in rows}

    def get_extra_state(self) -> dict[str, Any]:
        """With what ``record`` is of, so that a resumed run can report before its first step."""
        return {**super().get_extra_state(), "names": list(self._names), "epoch": self._epoch}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take it over."""
        self._names, self._epoch = tuple(state["names"]), state["epoch"]
