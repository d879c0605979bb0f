"""How much the loss grows when noise is added to the weights, and what second derivatives predict of it.

For u ~ N(0, I) and a standard deviation σ_i for each layer, S = E[F(w + σu) - F(w)] ≈ ½ Σ σ_i² Tr H_i. Noise comes in pairs ±u, which
cancels the gradient exactly and all odd orders: the next term is of order σ⁴. Where the network has kinks (ReLU, max-pooling) the Hessian
does not see them, and the two numbers differ at any σ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.errors import ConfigError, NonFiniteError, ShapeError
from holdfast.measures.evaluation import evaluated, inputs_and_labels, outputs_of
from holdfast.measures.parameters import WeightBlocks
from holdfast.measures.products import Loss, per_example
from holdfast.models.select import measured_layers
from holdfast.types import Batch, Comm

__all__ = ["NoiseStability", "noise_stability", "relative_sigmas", "second_order_change"]

Sigma = float | Sequence[float]
"""One standard deviation for all weights, or one for each layer."""


@dataclass(frozen=True)
class NoiseStability:
    """Growth of the mean loss under noise of standard deviation ``sigma``.

    ``plus`` and ``minus`` (draws,) are F(w ± σu) - F(w), float64 on the CPU. ``second_order`` is the prediction, None without a trace.
    """

    sigma: Sigma
    plus: Tensor
    minus: Tensor
    second_order: float | None

    @property
    def pairs(self) -> Tensor:
        """Mean of the two of each pair (draws,)."""
        return (self.plus + self.minus) / 2

    @property
    def mean(self) -> float:
        """Estimate of the growth: mean over pairs."""
        return float(self.pairs.mean())

    @property
    def stderr(self) -> float:
        """Its standard error; infinite for a single pair."""
        return float(self.pairs.std()) / math.sqrt(len(self.plus)) if len(self.plus) > 1 else math.inf

    @property
    def ratio(self) -> float | None:
        """Estimate over prediction; near 1 where second derivatives describe the loss at this scale. None where that is 0 or unknown."""
        return self.mean / self.second_order if self.second_order else None


def noise_stability(
    net: nn.Module,
    loss: Loss,
    batches: Iterable[Batch | tuple[Any, Tensor]],
    sigmas: Sequence[Sigma],
    *,
    layers: Sequence[str] | None = None,
    draws: int | Tensor = 50,
    trace: Sigma | None = None,
    seed: int = 0,
    comm: Comm | None = None,
) -> list[NoiseStability]:
    """Estimate the growth of the mean loss under noise on the weights, at several scales.

    The data are read once; each batch meets the same draws at every scale, and so does each rank. The network runs in eval mode with
    other values for its weights: its own are never touched, whatever happens. It takes 1 + 2 · draws · scales forward passes.

    Args:
        net: The bare network.
        loss: Logits (B, K) and labels (B,) to the loss of each example (B,).
        batches: The data; under several ranks this rank's part. The mean is over examples, so a short last batch counts for what it has.
        sigmas: Scales, each a number or one for each layer.
        layers: Names of the weights that get noise; those of :func:`holdfast.models.select.measured_layers` if not given.
        draws: How many pairs, or the draws u themselves (draws, P), flattened in the order of ``layers``.
        trace: Trace of the Hessian over ``layers``, or of each block, for the prediction; scales by layer need the latter.
        seed: Of the draws.
        comm: Communication with the other ranks.

    Returns:
        One result for each scale, in their order. A loss that overflows under noise gives numbers that are not finite.

    Raises:
        ConfigError: A scale is not positive, is not one for each layer, or there is no draw, no scale or no example.
        ShapeError: ``draws`` has another width, or the loss is reduced.
        NonFiniteError: The loss is NaN or infinite without noise.

    Example:
        >>> net = nn.Linear(3, 2, dtype=torch.float64)
        >>> data = [(torch.randn(8, 3, dtype=torch.float64), torch.zeros(8, 2, dtype=torch.float64))]
        >>> halves = lambda outputs, targets: (outputs - targets).square().sum(dim=1) / 2
        >>> (result,) = noise_stability(net, halves, data, [0.1], draws=200, trace=float(2 * data[0][0].square().sum(1).mean()))
        >>> abs(result.mean - result.second_order) < 4 * result.stderr
        True
    """
    weights = WeightBlocks(net, measured_layers(net) if layers is None else layers)
    scales = torch.stack([_by_layer(sigma, len(weights.blocks)) for sigma in sigmas]) if len(sigmas) else torch.empty(0)
    count = draws if isinstance(draws, int) else len(draws)
    if not len(scales) or count < 1:
        raise ConfigError(f"noise stability needs one scale and one draw at least, got {len(scales)} and {count}.")
    sums = torch.zeros(2, count, len(scales), dtype=torch.float64)
    start, examples = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    with evaluated(net), torch.no_grad():
        present = [leaf.detach() for leaf in weights.leaves()]
        for batch in batches:
            inputs, labels = inputs_and_labels(batch, weights.device)
            base = _losses(weights, present, loss, inputs, labels)
            start += base.sum().cpu()
            examples += len(base)
            for draw in range(count):
                noise = weights.split(_noise(weights, draws, seed, draw))
                for number, scale in enumerate(scales.tolist()):
                    for side, sign in enumerate((1, -1)):
                        moved = [value + sign * sigma * part for value, sigma, part in zip(present, scale, noise, strict=True)]
                        sums[side, draw, number] += (_losses(weights, moved, loss, inputs, labels) - base).sum().cpu()
    return _results(sigmas, trace, _over_ranks(torch.cat([sums.flatten(), start[None], examples[None]]), comm, weights), sums.shape)


def _losses(weights: WeightBlocks, values: list[Tensor], loss: Loss, inputs: Any, labels: Tensor) -> Tensor:
    return per_example(loss, outputs_of(weights.net, weights.substitution(values), inputs), labels).double()


def _noise(weights: WeightBlocks, draws: int | Tensor, seed: int, number: int) -> Tensor:
    """Draw ``number``, standard normal (P,), the same for every batch, rank and device."""
    if isinstance(draws, Tensor):
        return draws[number].to(weights.device, weights.dtype)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
    return torch.randn(weights.size, generator=generator, dtype=weights.dtype).to(weights.device)


def _by_layer(sigma: Sigma, layers: int) -> Tensor:
    values = torch.tensor([sigma] * layers if isinstance(sigma, (int, float)) else list(sigma), dtype=torch.float64)
    if len(values) != layers or not bool((values > 0).all()) or not bool(values.isfinite().all()):
        raise ConfigError(f"sigmas: each must be a positive number, or one for each of the {layers} layers, got {sigma}.")
    return values


def _over_ranks(numbers: Tensor, comm: Comm | None, weights: WeightBlocks) -> Tensor:
    return numbers if comm is None else comm.sum(numbers.to(weights.device)).cpu()


def _results(sigmas: Sequence[Sigma], trace: Sigma | None, numbers: Tensor, shape: torch.Size) -> list[NoiseStability]:
    """From sums over examples to means."""
    examples = float(numbers[-1])
    if not examples:
        raise ConfigError("noise stability needs one example at least; the data have none.")
    if not bool(numbers[-2].isfinite()):
        raise NonFiniteError("the loss is NaN or infinite before any noise; check the weights and the inputs.")
    plus, minus = numbers[:-2].reshape(shape) / examples
    predicted = [None if trace is None else second_order_change(sigma, trace) for sigma in sigmas]
    return [NoiseStability(sigma, plus[:, i], minus[:, i], predicted[i]) for i, sigma in enumerate(sigmas)]


def second_order_change(sigma: Sigma, trace: Sigma) -> float:
    """Growth of the loss that second derivatives predict: ½ Σ σ_i² Tr H_i.

    Ju et al., ICML 2022, state the trace without ½; this is the value of the Taylor series.

    Args:
        sigma: Standard deviation of the noise, or one for each layer.
        trace: Trace of the Hessian, or of each layer's block.

    Raises:
        ConfigError: Scales by layer with one trace, or of another number.

    Example:
        >>> second_order_change(0.1, 4.0), second_order_change((0.1, 0.2), (2.0, 1.0))
        (0.02..., 0.03...)
    """
    traces = [float(trace)] if isinstance(trace, (int, float)) else list(trace)
    scales = [float(sigma)] * len(traces) if isinstance(sigma, (int, float)) else list(sigma)
    if len(scales) != len(traces):
        raise ConfigError(f"scales for {len(scales)} layers need as many traces, one for each block, got {len(traces)}.")
    return math.fsum(scale**2 * value for scale, value in zip(scales, traces, strict=True)) / 2


def relative_sigmas(weights: Mapping[str, Tensor], rho: float) -> tuple[float, ...]:
    """Standard deviations in proportion to the weights of each layer: ρ ‖W_i‖ / √p_i, p_i their number.

    Args:
        weights: The weights by layer.
        rho: The proportion.

    Raises:
        ShapeError: A layer has no weights.

    Example:
        >>> relative_sigmas({"head": torch.tensor([[3.0, 4.0], [0.0, 0.0]])}, 0.1)
        (0.25,)
    """
    if not all(weight.numel() for weight in weights.values()):
        raise ShapeError("relative_sigmas needs layers with weights, got an empty one.")
    return tuple(rho * float(weight.detach().double().norm()) / math.sqrt(weight.numel()) for weight in weights.values())
