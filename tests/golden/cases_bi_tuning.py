from __future__ import annotations

import torch
from tests.golden.arrays import Arrays, Toy, agree
from torch import nn

from holdfast import attach
from holdfast.losses.bi_tuning import BiTuning
from holdfast.objective import WeightedTerm


def methods_bituning(a: Arrays) -> None:
    term = BiTuning(queue_length=int(a["K"]), momentum=float(a["m"]), temperature=float(a["T"]), width=len(a["proj_bias0"]))
    net = Toy(a["backbone0"], a["head_weight0"], a["head_bias0"])
    classes = len(a["head_bias0"])
    terms = attach(net, [term], [(a["inputs_q"][0], a["labels"][0])], num_classes=classes)
    terms.objective.configured = terms.objective.weighted = (
        WeightedTerm("bi-tuning", term, {"contrastive_weight": float(a["trade_off"])}),
    )
    term.projector_weight, term.projector_bias = nn.Parameter(a["proj_weight0"].clone()), nn.Parameter(a["proj_bias0"].clone())
    term.key_projector_weight, term.key_projector_bias = a["proj_weight0"].clone(), a["proj_bias0"].clone()
    term.queue_features, term.queue_projections = a["queue_h0"].clone(), a["queue_z0"].clone()
    trained = {
        "backbone": net.extractor.weight,
        "proj_weight": term.projector_weight,
        "proj_bias": term.projector_bias,
        "head_weight": net.head.weight,
        "head_bias": net.head.bias,
    }
    optimizer = torch.optim.SGD(trained.values(), lr=float(a["lr"]))
    for t in range(len(a["labels"])):
        total = terms.loss(a["inputs_q"][t], a["labels"][t], views=[a["inputs_k"][t]])
        agree(term.key_state, a["step_key_backbone"][t].flatten())
        contrastive = a["step_loss_z"][t] + a["step_loss_y"][t]
        agree(terms.values["bi-tuning/cross-entropy"], a["step_loss_ce"][t])
        agree(terms.values["bi-tuning/contrastive"], contrastive)
        agree(total.detach(), a["step_loss_total"][t])
        total.backward()
        for name, parameter in trained.items():
            agree(parameter.grad, a[f"step_grad_{name}"][t])
        optimizer.step()
        optimizer.zero_grad()
        terms.after_step()
        agree(net.extractor.weight.detach(), a["step_backbone"][t])
        agree(net.head.weight.detach(), a["step_head_weight"][t])
        agree(term.queue_features, a["step_queue_h"][t])
        agree(term.queue_projections, a["step_queue_z"][t])
        agree(term.pointer, a["step_queue_ptr"][t])
