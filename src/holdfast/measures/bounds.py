"""What Hessian-based generalization bounds give for measured numbers: terms, sums, and under which assumptions they hold.

Ju, Li and Zhang, ICML 2022. With probability at least 0.99 over the draw of the n training examples the expected loss is at most
(1 + ε)(empirical loss + Σ_i √(C h_i / n)) + ξ. The sum goes over the layers of weights; h_i is the largest value of v_iᵀ H_i⁺ v_i over
examples, v_i how far the weights of layer i moved from their start and H_i⁺ the positive part of the Hessian of one example's loss; C is
the largest possible loss, and ξ = O(n^(-3/4)) is not computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.linalg import inv_ex

from holdfast.errors import ConfigError, ShapeError

__all__ = [
    "Bound",
    "BoundSetting",
    "cross_entropy_ceiling",
    "distance_bound",
    "hessian_bound",
    "isotropic_variance",
    "label_noise_factor",
    "rank_one_scale",
]

GENERAL = (
    "The activations and the loss are twice differentiable, with Lipschitz first and second derivatives; ReLU and max-pooling are not.",
    "The training examples are independent draws from the distribution on which the loss is to be expected; "
    "the bound then holds with probability 0.99 at least.",
    "A remainder of order n^(-3/4) is left out because nobody can compute it; it grows without limit as eps goes to 0.",
    "The distribution of weights behind the bound was chosen after the training; a proof without a gap would have to pay for that choice.",
)

CLIPPED = "Negative curvature was counted as 0 for {names}: v'Hv was given, not its positive part, so the bound may be too small."

MAXIMUM = {
    "sample": "The largest value over the measured examples stands for the largest over all possible ones.",
    "batch": "The largest value over batches stands for the largest over all examples, which usually is above that of any mean.",
    "mean": "The value for the mean loss stands where the bound has the largest over all possible examples, so it may be far too small.",
}


@dataclass(frozen=True)
class BoundSetting:
    """What a bound depends on beside the layers.

    Args:
        n: Number of training examples, however few of them the curvature was measured on.
        ceiling: C, the largest possible loss of one example.
        empirical_loss: Mean loss over the training examples.
        eps: Slack ε of the factor 1 + ε, at least 0.
        ceiling_observed: Whether ``ceiling`` is only the largest loss that was seen; the cross-entropy has no largest one.

    Raises:
        ConfigError: A number is out of range.
    """

    n: int
    ceiling: float
    empirical_loss: float
    eps: float = 0.1
    ceiling_observed: bool = False

    def __post_init__(self) -> None:
        if self.n < 1 or self.n != int(self.n):
            raise ConfigError(f"n must be the number of training examples, 1 or more, got {self.n}.")
        if not 0 < self.ceiling < math.inf:
            raise ConfigError(f"ceiling must be a positive number, the largest possible loss of an example, got {self.ceiling}.")
        if not 0 <= self.empirical_loss < math.inf:
            raise ConfigError(f"empirical_loss must be 0 or a positive number, got {self.empirical_loss}.")
        if not 0 <= self.eps < math.inf:
            raise ConfigError(f"eps must be 0 or a small positive number, got {self.eps}.")


@dataclass(frozen=True)
class Bound:
    """A bound on the expected loss, and how it comes about.

    ``terms`` has one number a layer, by name; their sum is ``measure``, and (1 + ε) times that and the empirical loss is ``value``,
    the bound itself. ``clipped`` names layers whose negative curvature was set to 0, ``assumptions`` says in sentences when it holds.
    """

    form: Literal["hessian", "distance"]
    setting: BoundSetting
    terms: Mapping[str, float]
    measure: float
    value: float
    clipped: tuple[str, ...]
    assumptions: tuple[str, ...]

    @property
    def shares(self) -> dict[str, float]:
        """Part of each layer in ``measure``; 0 for all where that is 0."""
        return {name: term / self.measure if self.measure else 0.0 for name, term in self.terms.items()}

    @property
    def vacuous(self) -> bool:
        """Whether the bound is no smaller than the largest possible loss."""
        return self.value >= self.setting.ceiling

    @property
    def gap_vacuous(self) -> bool:
        """Whether the sum over layers alone is no smaller than the largest possible loss."""
        return self.measure >= self.setting.ceiling

    @property
    def tight(self) -> float:
        """``measure`` with the smaller constant 1/√2 to which the proof leads; for information, ``value`` keeps the published one."""
        return self.measure / math.sqrt(2)

    @property
    def verdict(self) -> str:
        """The bound in a sentence, which says plainly when it tells nothing."""
        if self.vacuous:
            return f"Vacuous: the bound {self.value:.4g} is not below the largest loss {self.setting.ceiling:.4g}, so it says nothing."
        return f"Under the assumptions, the expected loss is at most {self.value:.4g}, of at most {self.setting.ceiling:.4g} possible."


def hessian_bound(
    hessian_distances: Mapping[str, float],
    setting: BoundSetting,
    *,
    psd: bool = True,
    over: Literal["sample", "batch", "mean"] = "sample",
) -> Bound:
    """The bound from curvature along the move: terms √(C h_i / n).

    Args:
        hessian_distances: h_i by layer.
        setting: The numbers beside the layers.
        psd: Whether h_i was taken with the positive part of the Hessian, as the bound demands. Otherwise it may be negative: it is set
            to 0 then, and the layer is named in ``clipped``.
        over: What h_i is the largest value of: single examples, batches, or nothing (the mean loss).

    Raises:
        ConfigError: A number is not finite, or negative with ``psd``; there is no layer.

    Example:
        >>> hessian_bound({"head": 0.5}, BoundSetting(n=100, ceiling=2.0, empirical_loss=0.3, eps=0.0)).value
        0.4
    """
    clipped = tuple(name for name, value in hessian_distances.items() if not psd and -math.inf < value < 0)
    values = {name: max(value, 0.0) if name in clipped else value for name, value in hessian_distances.items()}
    _check("hessian_distances", values, "; pass psd=False if the positive part was not taken")
    terms = {name: math.sqrt(setting.ceiling * value / setting.n) for name, value in values.items()}
    words = [MAXIMUM[over], *([CLIPPED.format(names=", ".join(clipped))] if clipped else [])]
    return _bound("hessian", setting, terms, 1.0, clipped, words)


def distance_bound(
    distances: Mapping[str, float],
    traces: Mapping[str, float],
    setting: BoundSetting,
    *,
    noise_factor: float = 1.0,
    over: Literal["sample", "batch", "mean"] = "sample",
) -> Bound:
    """The bound from distance and trace: terms α_i √(C t_i / n), never smaller than those of :func:`hessian_bound` for the same examples.

    With labels that are wrong at a known rate and a corrected loss, the sum is multiplied by :func:`label_noise_factor`; ``traces`` are
    then sums of the eigenvalues' magnitudes for the clean loss, the largest over classes too, and the empirical loss is the corrected one.
    Whether the paper has the factor itself or its square root could not be verified; it enters as it is given here.

    Args:
        distances: α_i by layer, Frobenius norms of the moves or the radii they were held in.
        traces: t_i by layer, the largest trace of the positive part of a Hessian over examples.
        setting: The numbers beside the layers.
        noise_factor: At least 1; 1 for clean labels.
        over: What t_i is the largest value of, as in :func:`hessian_bound`.

    Raises:
        ConfigError: A number is not finite or negative, the two do not name the same layers, or ``noise_factor`` is below 1.

    Example:
        >>> distance_bound({"head": 0.5}, {"head": 2.0}, BoundSetting(n=100, ceiling=2.0, empirical_loss=0.3, eps=0.0)).value
        0.4
    """
    _check("distances", distances)
    _check("traces", traces, "; take the trace of the positive part")
    if distances.keys() != traces.keys():
        raise ConfigError(f"distances and traces must name the same layers, but only one has {sorted(distances.keys() ^ traces.keys())}.")
    if not 1 <= noise_factor < math.inf:
        raise ConfigError(f"noise_factor must be 1 for clean labels and larger for noisy ones, got {noise_factor}.")
    terms = {name: noise_factor * alpha * math.sqrt(setting.ceiling * traces[name] / setting.n) for name, alpha in distances.items()}
    words = [MAXIMUM[over]]
    if noise_factor > 1:
        words.append(
            f"A label is wrong with a probability that depends on its true class alone, and those probabilities are known; "
            f"the sum is multiplied by {noise_factor:.4g} for that."
        )
    return _bound("distance", setting, terms, noise_factor, (), words)


def _bound(
    form: Literal["hessian", "distance"],
    setting: BoundSetting,
    terms: Mapping[str, float],
    noise_factor: float,
    clipped: tuple[str, ...],
    words: list[str],
) -> Bound:
    """Sum up; ``words`` are the assumptions of the form."""
    before = ", before it is corrected for noise" if noise_factor > 1 else ""
    largest = f"The loss of an example lies between 0 and {setting.ceiling:.4g}{before}."
    if setting.ceiling_observed:
        largest += " That is only the largest loss seen, an estimate: the loss has no known largest value."
    measure = math.fsum(terms.values())
    value = (1 + setting.eps) * (setting.empirical_loss + measure)
    return Bound(form, setting, dict(terms), measure, value, clipped, (largest, *words, *GENERAL))


def _check(what: str, values: Mapping[str, float], hint: str = "") -> None:
    if not values:
        raise ConfigError(f"{what} must have a number for one layer at least, got none.")
    for name, value in values.items():
        if not math.isfinite(value):
            raise ConfigError(f"{what}: {name} must be finite, got {value}.")
        if value < 0:
            raise ConfigError(f"{what}: {name} must be at least 0, got {value}{hint}.")


def cross_entropy_ceiling(smallest_probability: float) -> float:
    """The largest cross-entropy where probabilities are clipped from below: C = -ln p.

    Raises:
        ConfigError: The probability is not between 0 and 1.

    Example:
        >>> round(cross_entropy_ceiling(0.001), 3)
        6.908
    """
    if not 0 < smallest_probability < 1:
        raise ConfigError(f"smallest_probability must lie between 0 and 1, got {smallest_probability}.")
    return -math.log(smallest_probability)


def label_noise_factor(transition: Tensor) -> float:
    """How many times larger a loss corrected for label noise can be: the largest absolute row sum of the inverse transition matrix.

    Args:
        transition: Probabilities (K, K) that a label of the row's class is observed as the column's; rows sum to 1.

    Returns:
        At least 1; 1 for labels that are never wrong.

    Raises:
        ShapeError: It is no square matrix whose rows are probabilities, or it has no inverse.

    Example:
        >>> import torch
        >>> round(label_noise_factor(torch.tensor([[0.6, 0.4], [0.4, 0.6]], dtype=torch.float64)), 6)
        5.0
    """
    if transition.ndim != 2 or transition.shape[0] != transition.shape[1]:
        raise ShapeError(f"transition must be (K, K), true classes by observed ones, got {tuple(transition.shape)}.")
    wide = transition.double()
    if not ((wide >= 0).all() and bool(((wide.sum(dim=1) - 1).abs() < 1e-5).all())):
        raise ShapeError("transition must have rows of probabilities that sum to 1; true classes are the rows, observed ones the columns.")
    inverse, failed = inv_ex(wide)
    factor = float(inverse.abs().sum(dim=1).max())
    if int(failed) or not factor < 1 / (len(wide) * 2.0**-52):
        raise ShapeError("transition has no inverse: two classes get the same labels, so no correction can tell them apart.")
    return max(factor, 1.0)


def isotropic_variance(distance: float, trace: float, setting: BoundSetting) -> float:
    """Variance of equal noise on all weights of a layer at which the distance form of the bound is reached.

    σ² = (α / (1 - β)) √(C / (2 n t)) with 1/β = 1 + ε.

    Args:
        distance: α, how far the layer moved.
        trace: t, trace of the positive part of its Hessian.
        setting: The numbers beside the layers; ``eps`` above 0.

    Returns:
        Infinite where the trace is 0: noise costs nothing there.

    Raises:
        ConfigError: A number is negative or not finite, or ``eps`` is 0.
    """
    _check("isotropic_variance", {"distance": distance, "trace": trace})
    return _smoothing(setting) * distance * math.sqrt(setting.ceiling / (2 * setting.n * trace)) if trace else math.inf


def rank_one_scale(hessian_distance: float, setting: BoundSetting) -> float:
    """Scale s of noise with covariance s v vᵀ along the move v of a layer at which the Hessian form of the bound is reached.

    s = √(C / (2 n h)) / (1 - β) with 1/β = 1 + ε.

    Args:
        hessian_distance: h of the layer.
        setting: The numbers beside the layers; ``eps`` above 0.

    Returns:
        Infinite where h is 0.

    Raises:
        ConfigError: A number is negative or not finite, or ``eps`` is 0.
    """
    _check("rank_one_scale", {"hessian_distance": hessian_distance})
    return _smoothing(setting) * math.sqrt(setting.ceiling / (2 * setting.n * hessian_distance)) if hessian_distance else math.inf


def _smoothing(setting: BoundSetting) -> float:
    """1 / (1 - β), which is (1 + ε) / ε."""
    if not setting.eps:
        raise ConfigError("eps must be above 0: the best noise is infinite at 0.")
    return (1 + setting.eps) / setting.eps
