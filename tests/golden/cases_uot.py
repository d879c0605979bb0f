from __future__ import annotations

import torch
from tests.golden.arrays import Arrays, agree
from torch import Tensor, nn

from holdfast import attach
from holdfast.losses.functional import class_costs, select_source_classes, unbalanced_plan
from holdfast.losses.uot import UOTFineTuning
from holdfast.objective import WeightedTerm


def methods_uot_selection(a: Arrays) -> None:
    costs = class_costs(a["source_class_means"], a["target_class_means"], scale=float(a["cost_scale"]))
    agree(costs, a["cost"])
    options = {"epsilon": float(a["epsilon"]), "rho_source": float(a["rho_source"]), "rho_target": float(a["rho_target"])}
    plan, iterations = unbalanced_plan(costs, **options)
    assert iterations == int(a["n_iter"])
    agree(plan, a["plan"])
    agree(plan.sum(dim=1), a["importance"])
    converged = unbalanced_plan(costs, tolerance=1e-14, **options).plan
    agree(converged, a["plan_converged"])
    agree(converged.sum(dim=1), a["importance_converged"])
    agree(select_source_classes(plan.sum(dim=1), int(a["top"])), a["selected"])
    # The same through a training: class means of these features are the means themselves.
    term = UOTFineTuning(classes=int(a["top"]), cost_scale=float(a["cost_scale"]), **options)
    rows = [(means, torch.arange(len(means))) for means in (a["target_class_means"], a["source_class_means"])]
    width = rows[0][0].shape[1]
    net = nn.Sequential(nn.Identity(), nn.Linear(width, len(rows[0][0]), dtype=torch.float64))
    attach(net, [term], [rows[0]], num_classes=len(rows[0][0]), source=[rows[1]])
    agree(term.extra_classes()["source"], a["selected"])


class Inputs(nn.Module):
    """Features are the inputs, plus a zero that collects their gradient."""

    def __init__(self, weight: Tensor, bias: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros_like(shift))
        self.head = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
        self.head.weight.data, self.head.bias.data = weight.clone(), bias.clone()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(inputs + self.shift[: len(inputs)])


def methods_uot_joint(a: Arrays) -> None:
    target, source = (a["target_features"], a["target_labels"]), (a["source_features"], a["source_labels"])
    net = Inputs(a["target_weight"], a["target_bias"], torch.cat([target[0], source[0]]))
    term = UOTFineTuning()
    weighted = WeightedTerm("uot", term, {"source_weight": float(a["lambda_u"])})
    terms = attach(net, [term], [target], num_classes=len(a["target_bias"]), source=[source])
    terms.objective.configured = terms.objective.weighted = (weighted,)
    term.head_weight, term.head_bias = nn.Parameter(a["source_weight"].clone()), nn.Parameter(a["source_bias"].clone())
    total = terms.loss(*target, extra={"source": source})
    total.backward()
    agree(terms.values["uot/target"], a["loss_target"])
    agree(terms.values["uot/source"], a["loss_source"])
    agree(total.detach(), a["loss_total"])
    count = len(target[0])
    agree(net.shift.grad[:count], a["grad_target_features"])
    agree(net.shift.grad[count:], a["grad_source_features"])
    agree(net.head.weight.grad, a["grad_target_weight"])
    agree(net.head.bias.grad, a["grad_target_bias"])
    agree(term.head_weight.grad, a["grad_source_weight"])
    agree(term.head_bias.grad, a["grad_source_bias"])
