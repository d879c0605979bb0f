"""AdaRand: class-conditional random reference vectors whose means follow the features and spread apart."""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from torch import Tensor

from holdfast.regularizers.class_directions import PriorObjective, adam_update, prior_objective
from holdfast.regularizers.functional import class_sums, random_reference_loss, sample_reference
from holdfast.regularizers.priors import ClassPrior, class_prior
from holdfast.schedules import cosine_factor
from holdfast.terms import Needs, Regularizer
from holdfast.types import Comm, Source, Step, Update

__all__ = ["AdaRand"]

log = logging.getLogger("holdfast")


class AdaRand(Regularizer):
    """Adaptive random feature regularization (Yamaguchi et al., CVPR 2024; release commit 25cc27d).

    The penalty is that of RandReg-CP. After every update the running class means μ̄ take in the batch, and the means μ of the
    prior take one Adam step on L_intra + L_inter; their standard deviations stay. Gradients are orthogonal to each μ_k, so
    directions are compared, not lengths.

    We differ from the release in what it leaves undone: the running means are part of the checkpoint, empty classes are left out of
    both losses, and no K x K x D tensor is formed.

    Args:
        alpha: Momentum of the running means: 0 keeps the last batch's means, 1 the initial ones.
        intra: Whether L_intra is used.
        inter: Whether L_inter is used.
        prior_lr: Learning rate of the prior's Adam.
        prior_schedule: ``cosine`` lets it fall as cos(7π/16 · t/T), ``constant`` keeps it.
        prior_beta1: Adam's decay of the first moment.
        prior_beta2: Adam's decay of the second moment.
        prior_eps: Adam's addition to the denominator.
        distance: ``squared-cosine`` as released, or ``cosine`` as the paper words it.
    """

    NEEDS = Needs(layers=("pooled",), hard_labels=True)
    SHARDED = True
    STATE = ("mean", "std", "running_mean", "active", "exp_avg", "exp_avg_sq")  # (K, D), but active (K,)
    mean: Tensor
    std: Tensor
    running_mean: Tensor
    active: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor

    def __init__(
        self,
        *,
        alpha: float = 0.5,
        intra: bool = True,
        inter: bool = True,
        prior_lr: float = 0.01,
        prior_schedule: Literal["cosine", "constant"] = "cosine",
        prior_beta1: float = 0.9,
        prior_beta2: float = 0.999,
        prior_eps: float = 1e-8,
        distance: Literal["squared-cosine", "cosine"] = "squared-cosine",
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.intra = intra
        self.inter = inter
        self.prior_lr = prior_lr
        self.prior_schedule = prior_schedule
        self.betas = (prior_beta1, prior_beta2)
        self.prior_eps = prior_eps
        self.updates = 0  # a plain number: Adam's bias correction must not wait for the device
        self.distance: Literal["squared-cosine", "cosine"] = distance
        self._sums: Tensor | None = None
        self._last: PriorObjective | None = None

    def setup(self, source: Source) -> None:
        """Estimate the class statistics of the pretrained features."""
        if self.prior_schedule == "cosine" and source.total_steps is None:
            log.warning(
                "adarand: the length of the run is unknown, so the prior's learning rate stays at %g; pass attach(..., total_steps=N).",
                self.prior_lr,
            )
        self.set_prior(class_prior(source))

    def set_prior(self, prior: ClassPrior) -> None:
        """Start from these class statistics; running means begin at the prior's means."""
        self.mean, self.std = prior.mean.clone(), prior.std.clone()
        self.running_mean, self.active = prior.mean.clone(), prior.active.clone()
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        self.updates = 0

    def penalty(self, step: Step) -> Tensor:
        """``(1/(B·D)) Σ_i ‖z_i - r_i‖²``,  r_i ~ N(μ_{y_i}, σ_{y_i}²), with μ from the end of the previous step."""
        features = step.features["pooled"]
        if step.collect:
            sums = class_sums(features.detach(), step.labels, len(self.mean))
            self._sums = sums if self._sums is None else self._sums + sums
        noise = step.rng("adarand").normal(features.shape[1])
        return random_reference_loss(features, sample_reference(self.mean[step.labels], self.std[step.labels], noise))

    def after_step(self, update: Update) -> None:
        """Take the update's features into the running means, then move the prior's means."""
        if self._sums is None:
            return
        self._follow(self._sums, update.comm)
        self._sums = None
        self._last = self.objective()
        self.updates += 1
        lr = self.prior_lr
        if self.prior_schedule == "cosine" and update.total_steps is not None:
            lr *= cosine_factor(update.step, update.total_steps)
        beta1, beta2 = self.betas
        adam_update(
            self.mean, self._last.gradient, self.exp_avg, self.exp_avg_sq, self.updates, lr=lr, beta1=beta1, beta2=beta2, eps=self.prior_eps
        )

    def _follow(self, sums: Tensor, comm: Comm) -> None:
        """Running means of the classes present, over all ranks; a class seen for the first time becomes active."""
        total = comm.sum(sums)
        totals, counts = total[:, :-1], total[:, -1:]
        share = (counts > 0).to(totals.dtype) * (1 - self.alpha)  # of the batch's mean; absent classes stay as they are
        self.running_mean.mul_(1 - share).addcmul_(totals, share / counts.clamp_min(1))
        self.active |= counts[:, 0] > 0

    def objective(self) -> PriorObjective:
        """L_intra, L_inter and the gradient at the present means."""
        return prior_objective(self.mean, self.running_mean, self.active, intra=self.intra, inter=self.inter, distance=self.distance)

    def discard_step(self) -> None:
        """Forget the features collected since the last update."""
        self._sums = None

    def metrics(self) -> dict[str, Tensor | float]:
        """The prior's losses at the last update."""
        return {} if self._last is None else {"intra": self._last.intra, "inter": self._last.inter}

    def get_extra_state(self) -> dict[str, Any]:
        """The number of updates of the prior, beside what every term saves."""
        return {**super().get_extra_state(), "updates": self.updates}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the number of updates."""
        self.updates = int(state["updates"])
