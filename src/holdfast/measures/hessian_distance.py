"""How sharp the loss is along the way that fine-tuning went: vᵀ H v of each layer and its form without negative curvature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.errors import ConfigError, ShapeError
from holdfast.measures.evaluation import inputs_and_labels
from holdfast.measures.lanczos import Lanczos, Operator, keeping
from holdfast.measures.measurement import Budget, Measurement, Meter
from holdfast.measures.operators import CurvatureOperator, Mode

__all__ = ["HessianDistance", "LayerHessianDistance", "Over", "hessian_distance", "positive_quadratic"]

Over = Literal["mean", "batch", "sample"]
"""Of which losses the Hessian is taken: the mean over all data, or each batch's mean or each example's, and then the maximum."""

QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class LayerHessianDistance:
    """The measure of one layer.

    ``value`` is the maximum over units (batches, examples, or the one mean) of v_iᵀ H_i⁺ v_i, or of max(0, v_iᵀ H_i v_i) where that was
    asked for; never negative. ``plain`` is the maximum of v_iᵀ H_i v_i as it is, ``negative`` whether it was negative for some unit.
    ``argmax`` is the number of the unit with the largest value, ``met`` whether every unit's value reached the accuracy.
    """

    name: str
    value: float
    plain: float
    negative: bool
    argmax: int
    met: bool


@dataclass(frozen=True)
class HessianDistance:
    """Hessian distances of the ``layers``; ``plain`` and ``values`` (units, L) are those of every unit, in the order of the data.

    ``complete`` says whether every unit of this rank was measured within the budget.
    """

    layers: tuple[LayerHessianDistance, ...]
    over: Over
    mode: Mode
    psd: bool
    plain: NDArray[np.float64]
    values: NDArray[np.float64]
    products: int
    seconds: float
    complete: bool

    def quantiles(self) -> dict[float, NDArray[np.float64]]:
        """Quantiles of the values over units, for each layer (L,): the median, 0.9, 0.99 and the maximum."""
        return {level: np.quantile(self.values, level, axis=0) for level in QUANTILES}


@dataclass
class _Unit:
    """What is found for one batch, example or mean: numbers (L,)."""

    plain: Tensor
    value: Tensor
    met: Tensor


def hessian_distance(
    operator: CurvatureOperator,
    displacements: Mapping[str, Tensor],
    *,
    over: Over = "mean",
    mode: Mode = "block",
    psd: bool = True,
    rtol: float = 0.02,
    max_steps: int = 30,
    budget: Budget | None = None,
) -> HessianDistance:
    """v_iᵀ H_i⁺ v_i of each layer by Lanczos started at v_i, where H_i⁺ is the layer's Hessian with negative eigenvalues set to 0.

    Ju et al., ICML 2022. Their release computes v_iᵀ Σ_j H_ij v_j, the full row with its terms across layers, without positive part, as the
    maximum over batches: ``mode="full_row", psd=False, over="batch"``.

    Args:
        operator: The Hessian, in exactly the layers to measure.
        displacements: v_i by layer, of the weight's shape or flat; see :func:`holdfast.measures.distance.displacements` for where the
            head is measured from.
        over: Which losses; ``sample`` is the theory's, on the examples given.
        mode: ``block`` or ``full_row``.
        psd: Whether negative curvature is taken out; otherwise a negative v_iᵀ H_i v_i counts as 0.
        rtol: The recursion ends when two further steps each change the value by less than this.
        max_steps: Most products for a layer and unit.
        budget: Limit in products or seconds; units that it leaves no room for are left out.

    Raises:
        ConfigError: Names differ, the full row is asked for without ``psd=False``, or the budget allows nothing.
        ShapeError: A displacement does not fit its weight.
    """
    if mode == "full_row" and psd:
        raise ConfigError("mode 'full_row' is no quadratic form of one matrix and has no positive part; add psd=False.")
    moves = _flat_moves(operator, displacements)
    # Batches and examples are each rank's own affair: ranks may have different numbers of them.
    meter = Meter(budget, operator, comm=operator.comm if over == "mean" else None)
    units: list[_Unit] = []
    complete = True
    for part in _parts(operator, over):
        if not meter.allows(1 if mode == "full_row" else len(moves)):
            complete = False
            break
        units.append(_measure(part, moves, mode, psd, rtol, max_steps, meter))
    if not units and (operator.comm is None or operator.comm.size == 1):
        raise ConfigError("hessian distance: nothing was measured; give at least one batch and a budget of one product for each layer.")
    table = _of_all_ranks(units, len(moves), operator, over)
    return _summary(operator, table, over, mode, psd, meter, complete)


def positive_quadratic(
    operator: Operator, vector: Tensor, *, rtol: float = 0.02, max_steps: int = 30, budget: Budget | None = None
) -> Measurement:
    """vᵀ A⁺ v by Lanczos from v, A⁺ the symmetric matrix with its negative eigenvalues set to 0.

    The value after k steps is neither an upper nor a lower bound; its error is at most about 0.14·‖v‖²·max|λ| / k.

    Example:
        >>> matrix = torch.diag(torch.tensor([-1.0, 2.0, 3.0]).double())
        >>> round(positive_quadratic(matrix, torch.ones(3).double()).value, 9)
        5.0
    """
    meter = Meter(budget, operator, comm=getattr(operator, "comm", None))
    if not vector.any():
        return Measurement(0.0, 0.0, 0, meter.seconds, True)
    search = _PositivePart(vector, rtol, max_steps)
    with keeping(operator):
        while not search.done and meter.allows():
            search.advance(operator @ search.lanczos.vector)
            meter.add()
    if not search.values:
        raise ConfigError("budget: it does not allow a single product.")
    return Measurement(search.values[-1], 0.0, meter.products, meter.seconds, search.met)


class _PositivePart:
    """One layer's recursion: the values after each step, and whether they have settled."""

    def __init__(self, vector: Tensor, rtol: float, max_steps: int) -> None:
        self.lanczos = Lanczos(vector)
        self.square = float(vector.double().square().sum())
        self.rtol, self.max_steps = rtol, max_steps
        self.values: list[float] = []

    def advance(self, product: Tensor) -> None:
        self.lanczos.advance(product)
        self.values.append(self.square * self.lanczos.positive_part())

    @property
    def plain(self) -> float:
        """vᵀ A v, which the first step finds."""
        return self.square * self.lanczos.alpha[0]

    @property
    def met(self) -> bool:
        """Two changes in a row within the tolerance, or an invariant space."""
        if self.lanczos.exhausted:
            return True
        if len(self.values) < 3:
            return False
        changes = np.abs(np.diff(self.values[-3:]))
        return bool((changes <= self.rtol * np.abs(self.values[-2:])).all())

    @property
    def done(self) -> bool:
        return self.met or len(self.values) >= self.max_steps


def _flat_moves(operator: CurvatureOperator, displacements: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if set(displacements) != set(operator.names):
        different = sorted(set(displacements) ^ set(operator.names))
        raise ConfigError(f"displacements and operator must have the same layers; only one of them has {', '.join(different)}.")
    for block in operator.blocks:
        if displacements[block.name].numel() != block.size:
            found = tuple(displacements[block.name].shape)
            raise ShapeError(f"the displacement of {block.name} must have shape {tuple(block.shape)}, got {found}.")
    return {name: displacements[name].detach().flatten().to(operator.device, operator.dtype) for name in operator.names}


def _parts(operator: CurvatureOperator, over: Over) -> Iterator[CurvatureOperator]:
    """The Hessian of each unit of this rank's data."""
    if over == "mean":
        yield operator
        return
    for batch in operator.batches:
        if over == "batch":
            yield operator.on(batch)
        else:
            inputs, labels = inputs_and_labels(batch, operator.device)
            yield from (operator.on((_row(inputs, number), labels[number : number + 1])) for number in range(len(labels)))


def _row(inputs: object, number: int) -> object:
    """One example of a batch, as a batch."""
    if isinstance(inputs, Mapping):
        return {name: _row(value, number) for name, value in inputs.items()}
    return inputs[number : number + 1] if isinstance(inputs, Tensor) else inputs


def _measure(
    part: CurvatureOperator, moves: Mapping[str, Tensor], mode: Mode, psd: bool, rtol: float, max_steps: int, meter: Meter
) -> _Unit:
    with part.keeping():
        if not psd:
            plain = part.layer_quads(torch.cat(list(moves.values())), mode=mode).cpu()
            meter.add(1 if mode == "full_row" else len(moves))
            return _Unit(plain, plain.clamp_min(0), torch.ones(len(plain), dtype=torch.bool))
        searches = {name: _PositivePart(move, rtol, max_steps) for name, move in moves.items() if move.any()}
        # All layers take their step in the same pass over the data; those that have settled drop out.
        while (going := [name for name, search in searches.items() if not search.done]) and meter.allows(len(going)):
            products = part.block_products({name: searches[name].lanczos.vector for name in going})
            meter.add(len(going))
            for name in going:
                searches[name].advance(products[name])
    found = []
    for name in moves:
        search = searches.get(name)
        # No search: the layer did not move. No value: the budget ended before its first step.
        found.append((search.plain, search.values[-1], search.met) if search and search.values else (0.0, 0.0, search is None))
    plains, values, met = zip(*found, strict=True)
    return _Unit(torch.tensor(plains, dtype=torch.float64), torch.tensor(values, dtype=torch.float64), torch.tensor(met))


def _of_all_ranks(units: Iterable[_Unit], layers: int, operator: CurvatureOperator, over: Over) -> Tensor:
    """Plain values, values and ``met`` of all units (units, 3, L), float64 on the CPU, in rank order."""
    rows = [torch.stack([unit.plain, unit.value, unit.met.double()]) for unit in units]
    table = torch.stack(rows) if rows else torch.zeros(0, 3, layers, dtype=torch.float64)
    if over == "mean" or operator.comm is None or operator.comm.size == 1:
        return table
    return operator.comm.gather(table.to(operator.device)).cpu()


def _summary(
    operator: CurvatureOperator, table: Tensor, over: Over, mode: Mode, psd: bool, meter: Meter, complete: bool
) -> HessianDistance:
    plain, values, met = table.numpy().transpose(1, 0, 2)
    layers = tuple(
        LayerHessianDistance(
            name,
            float(values[:, i].max()),
            float(plain[:, i].max()),
            bool((plain[:, i] < 0).any()),
            int(values[:, i].argmax()),
            bool(met[:, i].all()),
        )
        for i, name in enumerate(operator.names)
    )
    return HessianDistance(layers, over, mode, psd, plain, values, meter.products, meter.seconds, complete)
