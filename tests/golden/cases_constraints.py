"""Distance constraints and their soft forms: what one projection makes of a small network, and the penalties at its weights."""

from __future__ import annotations

import re
from typing import Any

import torch
from tests.golden.arrays import Arrays, agree
from torch import Tensor, nn

from holdfast import attach
from holdfast.attach import Attached
from holdfast.regularizers.functional import frob_penalty, infop_penalty, project_batchnorm, project_infop_exact

FREE = 1e9
"""A radius that bounds nothing."""


class Net(nn.Module):
    """The network of the file in evaluation, so that a forward pass leaves its buffers alone."""

    def __init__(self, shapes: Arrays) -> None:
        super().__init__()
        out, channels, *side = shapes["conv.weight"].shape
        self.conv = nn.Conv2d(channels, out, tuple(side), padding=1)
        self.bn = nn.BatchNorm2d(out)
        self.fc = nn.Linear(*reversed(shapes["fc.weight"].shape))
        self.pred_head = nn.Linear(*reversed(shapes["pred_head.weight"].shape))
        self.double().eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.pred_head(self.fc(self.bn(self.conv(images)).relu().mean(dim=(2, 3))))


def network(a: Arrays, state: str) -> Net:
    values = {key.removeprefix(f"{state}/"): value for key, value in a.items() if key.startswith(f"{state}/")}
    net = Net(values)
    missing, unexpected = net.load_state_dict(values, strict=False)
    assert set(missing) <= {"bn.num_batches_tracked"}
    assert not unexpected
    return net


def at_work(a: Arrays, net: Net, name: str, **options: Any) -> Attached:
    """The method on the network of the file, after one forward pass."""
    terms = attach(net, [{"name": name, **options}], num_classes=len(a["source/pred_head.weight"]), pretrained=network(a, "source"))
    terms.loss(torch.zeros(1, net.conv.in_channels, 4, 4, dtype=torch.float64), torch.zeros(1, dtype=torch.int64))
    return terms


def options_of(rule: str) -> dict[str, Any]:
    """Options of the rule that a key of the file names."""
    if both := re.fullmatch(r"both_(\w+)_([\d.]+)_([\d.]+)", rule):
        return {"norm": both[1], "radius": both[2], "head_radius": both[3], "bn": "diagonal"}
    if head := re.fullmatch(r"head_(\w+)_abs_([\d.]+)", rule):
        return {"norm": head[1], "radius": FREE, "head_radius": head[2]}
    if inactive := re.fullmatch(r"inactive_(\w+)_([\d.]+)", rule):
        return {"norm": inactive[1], "radius": inactive[2], "head_radius": inactive[2], "bn": "diagonal"}
    extractor = re.fullmatch(r"(\w+)_(abs|ratio)_([\d.]+)", rule)
    assert extractor, rule
    return {"norm": extractor[1], {"abs": "radius", "ratio": "ratio"}[extractor[2]]: extractor[3], "head_radius": "none", "bn": "diagonal"}


def label_noise_constraints(a: Arrays) -> None:
    rules = {key.split("/")[1] for key in a if key.startswith("after/")}
    assert rules
    for rule in rules:
        net = network(a, "current")
        at_work(a, net, "distance", **options_of(rule)).after_step()
        for name, value in net.state_dict().items():
            if name != "bn.num_batches_tracked":
                agree(value, a[f"after/{rule}/{name}"])
    assert float(a["bn_eps_used"]) == project_batchnorm.__kwdefaults__["eps"]
    penalties(a)
    exact_projections(a)


def penalties(a: Arrays) -> None:
    weights = {"weight": float(a["penalty_lambda_extractor"]), "head_weight": float(a["penalty_lambda_head"])}
    for norm in {key.split("/")[1] for key in a if key.startswith("penalty/")}:
        net = network(a, "current")
        values = at_work(a, net, "distance-penalty", norm=norm.replace("-", ""), **weights).values
        agree(weights["weight"] * values["distance-penalty/backbone"], a[f"penalty/{norm}/extractor"])
        agree(weights["head_weight"] * values["distance-penalty/head"], a[f"penalty/{norm}/head"])
        names = [key.removeprefix(f"penalty_grad/{norm}/") for key in a if key.startswith(f"penalty_grad/{norm}/")]
        formula = frob_penalty if norm == "frob" else infop_penalty
        value = weights["weight"] * formula([net.get_parameter(name) for name in names], [a[f"source/{name}"] for name in names])
        value.backward()
        agree(value.detach(), a[f"penalty/{norm}/extractor"])
        for name in names:
            agree(net.get_parameter(name).grad, a[f"penalty_grad/{norm}/{name}"])


def exact_projections(a: Arrays) -> None:
    for key in [key for key in a if key.startswith("exact_l1_projection_")]:
        rule, name = key.split("/")
        radius = rule.removeprefix("exact_l1_projection_")
        agree(project_infop_exact(a[f"current/{name}"], a[f"source/{name}"], float(radius)), a[key])
        net = network(a, "current")
        at_work(a, net, "distance", norm="infop_exact", radius=radius).after_step()
        agree(net.get_parameter(name).detach(), a[key])
