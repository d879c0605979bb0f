from __future__ import annotations

import torch
import torch.nn.functional as F
from tests.golden.arrays import Arrays, agree
from torch import nn

from holdfast import attach
from holdfast.losses.core_tuning import CoreTuning, project
from holdfast.losses.functional import focal_contrastive_loss, hard_pairs, mix_hard_pairs, soft_label_positives


def methods_core_focal(a: Arrays) -> None:
    positives = soft_label_positives(a["soft_labels"])
    agree(positives, a["positive_mask"])
    for normalize in ("rows", "positives"):
        projections = a["projections"].clone().requires_grad_()
        loss = focal_contrastive_loss(projections, positives, temperature=float(a["tau"]), normalize=normalize)
        loss.backward()
        agree(loss.detach(), a[f"loss_{normalize}"])
        agree(projections.grad, a[f"grad_{normalize}"])


class Stored:
    """Uniform draws whose order gives the permutation and whose values, for alpha 1, are the shares."""

    def __init__(self, a: Arrays) -> None:
        keys = torch.empty(len(a["perm"]), dtype=torch.float64)
        keys[a["perm"]] = torch.arange(len(keys), dtype=torch.float64)
        self.draws = torch.stack([a["beta_draws_negative"], a["lam_positive"], keys], dim=1)

    def uniform(self, *row_shape: int) -> torch.Tensor:
        assert row_shape == (3,)
        return self.draws


def methods_core_tuning(a: Arrays) -> None:
    features, labels = a["features"], a["labels"]
    classes, width = a["weight"].shape
    one_hot = F.one_hot(labels, classes).to(features)
    positives, negatives = hard_pairs(features, labels)
    agree(positives, a["hard_positive_index"])
    agree(negatives, a["hard_negative_index"])
    rows, targets = mix_hard_pairs(
        features, one_hot, permutation=a["perm"], negative_share=a["lam_negative"], positive_share=a["lam_positive"]
    )
    agree(rows, a["mixed_features"])
    agree(targets, a["mixed_soft_labels"])
    agree(soft_label_positives(targets), a["positive_mask"])
    projection = a["proj_in_weight"], a["proj_in_bias"], a["proj_out_weight"], a["proj_out_bias"]
    agree(
        focal_contrastive_loss(project(rows, projection), soft_label_positives(targets), temperature=float(a["tau"])), a["loss_contrastive"]
    )

    for detach in (True, False):
        term = CoreTuning(temperature=float(a["tau"]), floor=float(a["lam_floor"]), width=len(a["proj_out_bias"]), detach_originals=detach)
        net = nn.Sequential(nn.Identity(), nn.Linear(width, classes, bias=False, dtype=torch.float64))
        net[1].weight.data = a["weight"].clone()
        terms = attach(net, [term], [(features, labels)], num_classes=classes, draws=lambda name, step: Stored(a))
        for name, value in zip(term.STATE, projection, strict=True):
            getattr(term, name).data = value.clone()
        inputs = features.clone().requires_grad_()
        values = term.loss(_step_of(terms, inputs, labels))
        agree(values["cross-entropy"].detach(), a["loss_ce"])
        agree(values["contrastive"].detach(), a["loss_contrastive"])
        total = values["cross-entropy"] + a["eta"] * values["contrastive"]
        total.backward()
        agree(total.detach(), a["loss_total"])
        agree(inputs.grad, a["grad_features_detached" if detach else "grad_features_attached"])
        agree(net[1].weight.grad, a["grad_weight"])
        for name, stored in zip(term.STATE, ("in_weight", "in_bias", "out_weight", "out_bias"), strict=True):
            agree(getattr(term, name).grad, a[f"grad_proj_{stored}"])


def _step_of(terms: object, inputs: torch.Tensor, labels: torch.Tensor) -> object:
    """What the term sees when these features are the inputs of the network."""
    from holdfast.types import Batch

    batch = Batch(inputs, labels, torch.full_like(labels, -1))
    return terms._context.step(batch, terms.objective.model(inputs), {})
