from __future__ import annotations

import torch
import torch.nn.functional as F
from tests.golden.arrays import Arrays, agree
from torch import Tensor, nn

from holdfast.distributed import SingleProcess
from holdfast.regularizers.ablation import loss_gaps
from holdfast.regularizers.functional import channel_attention, map_distance
from holdfast.types import Batch


def methods_delta(a: Arrays) -> None:
    numbers = range(int(a["n_layers"]))
    reference, attention = ([a[f"{name}_{i}"] for i in numbers] for name in ("source_map", "attention"))
    for form, weights in (("plain", None), ("attention", attention)):
        maps = [a[f"target_map_{i}"].clone().requires_grad_() for i in numbers]
        assert len(maps[0]) == int(a["batch_size"])
        value = map_distance(maps, reference, attention=weights)
        value.backward()
        agree(value.detach(), a[f"loss_{form}_sum"])
        for i in numbers:
            agree(maps[i].grad, a[f"grad_{form}_sum_{i}"])
        agree(map_distance(maps, reference, attention=weights, reduction="mean").detach(), a[f"loss_{form}_mean"])


class TwoConvolutions(nn.Module):
    def __init__(self, a: Arrays) -> None:
        super().__init__()
        self.conv1, self.conv2 = (_without_bias(a[name]) for name in ("conv1", "conv2"))
        self.fc = nn.Linear(*reversed(a["fc_weight"].shape), dtype=torch.float64)
        self.fc.weight.data, self.fc.bias.data = a["fc_weight"], a["fc_bias"]

    def forward(self, inputs: Tensor) -> Tensor:
        maps = F.relu(self.conv2(F.relu(self.conv1(inputs))))
        return self.fc(maps.mean((2, 3)))


def _without_bias(weight: Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=weight.shape[2] // 2, bias=False, dtype=torch.float64)
    conv.weight.data = weight
    return conv


def methods_delta_attention(a: Arrays) -> None:
    parts = zip(a["inputs"].split(int(a["batch_size"])), a["labels"].split(int(a["batch_size"])), strict=True)
    batches = [Batch(inputs, labels, torch.full_like(labels, -1)) for inputs, labels in parts]
    layers = ("conv1", "conv2")
    for layer, gap in zip(layers, loss_gaps(TwoConvolutions(a), layers, batches, SingleProcess()), strict=True):
        agree(gap, a[f"loss_gap_{layer}"])
        agree(channel_attention(gap, temperature=float(a["temperature"])), a[f"attention_{layer}"])
