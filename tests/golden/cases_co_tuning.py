from __future__ import annotations

import torch
from tests.golden.arrays import Arrays, agree
from torch import nn

from holdfast import attach
from holdfast.regularizers.functional import co_tuning_loss, source_relationship_direct, source_relationship_reverse


def methods_cotuning_relationship(a: Arrays) -> None:
    (train, train_labels), (val, val_labels) = ((a[f"{split}_logits"], a[f"{split}_labels"]) for split in ("train", "val"))
    both, both_labels = torch.cat([train, val]), torch.cat([train_labels, val_labels])
    classes, calibration = len(a["direct"]), float(a["source_temperature_scale"])
    agree(source_relationship_direct((calibration * both).softmax(dim=1), both_labels, classes), a["direct"])
    agree(source_relationship_direct(train.softmax(dim=1), train_labels, classes), a["direct_train_only_no_scale"])

    strengths = tuple(a["C_grid"].tolist())
    train_probs, val_probs = ((calibration * logits).softmax(dim=1) for logits in (train, val))
    found = source_relationship_reverse(train_probs, train_labels, val_probs, val_labels, classes, strengths=strengths)
    assert strengths.index(found.strength) == int(a["best_index"])
    agree(found.accuracies, a["val_accuracy"])
    agree(found.marginal, a["source_marginal"])
    # Minimisers, found by another solver: its stopping rule allows 1e-5.
    for name, ours in (
        ("coef", found.coefficients),
        ("calibration_scale", torch.tensor(found.scale, dtype=torch.float64)),
        ("p_target_given_source", found.target_given_source),
        ("reverse", found.relationship),
    ):
        torch.testing.assert_close(ours, a[name], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.relationship, a["reverse_reference_default_solver"], rtol=0, atol=1e-2)


def methods_cotuning_loss(a: Arrays) -> None:
    (classes, sources), width = a["relationship"].shape, a["features"].shape[1]
    net, pretrained = (nn.Sequential(nn.Identity(), nn.Linear(width, outputs, dtype=torch.float64)) for outputs in (classes, sources))
    for layer, name in ((net[1], "target"), (pretrained[1], "source")):
        layer.weight.data, layer.bias.data = a[f"{name}_weight"].clone(), a[f"{name}_bias"].clone()
    method = [{"name": "co-tuning", "weight": float(a["trade_off"])}]
    terms = attach(net, method, [(a["features"], a["labels"])], num_classes=classes, pretrained=pretrained)
    term = terms.objective.configured[-1].term
    term.relationship = a["relationship"]
    features = a["features"].clone().requires_grad_()
    total = terms.loss(features, a["labels"])
    total.backward()
    agree(terms.values["cross-entropy"], a["loss_target"])
    agree(terms.values["co-tuning"], a["loss_source"])
    agree(total.detach(), a["loss_total"])
    agree(features.grad, a["grad_features"])
    agree(term.source_weight.grad, a["grad_source_weight"])
    agree(term.source_bias.grad, a["grad_source_bias"])
    agree(net[1].weight.grad, a["grad_target_weight"])
    agree(net[1].bias.grad, a["grad_target_bias"])
    logits = a["features"] @ a["source_weight"].T + a["source_bias"]
    agree(co_tuning_loss(logits, a["labels"], a["relationship"]), a["loss_source"])
