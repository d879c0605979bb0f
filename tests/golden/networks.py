"""The networks of the reference files on curvature, rebuilt from their arrays."""

from __future__ import annotations

from collections import OrderedDict

import torch
from tests.golden.arrays import Arrays
from torch import Tensor, nn


def network_of(a: Arrays) -> nn.Module:
    """The fine-tuned network in float64 and eval mode."""
    net = _convolutional(a) if "param/conv1.weight" in a else _perceptron(a)
    net.double().load_state_dict(state_of(a, "param") | state_of(a, "buffer"))
    return net.eval()


def state_of(a: Arrays, kind: str) -> dict[str, Tensor]:
    """``param``, ``source`` or ``buffer``: tensors by name."""
    return {key.removeprefix(f"{kind}/"): value for key, value in a.items() if key.startswith(f"{kind}/")}


def _perceptron(a: Arrays) -> nn.Module:
    weights = {name: value for name, value in state_of(a, "param").items() if name.endswith(".weight")}
    activation = {"tanh": nn.Tanh, "gelu": nn.GELU}[str(a["arch_activation"])]

    class Perceptron(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ls = nn.ModuleList(nn.Linear(*weights[f"ls.{i}.weight"].shape[::-1]) for i in range(len(weights)))
            self.activation = activation()

        def forward(self, inputs: Tensor) -> Tensor:
            for layer in self.ls[:-1]:
                inputs = self.activation(layer(inputs))
            return self.ls[-1](inputs)

    return Perceptron()


def _convolutional(a: Arrays) -> nn.Module:
    first, second, head = (a[f"param/{name}.weight"].shape for name in ("conv1", "conv2", "head"))
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(first[1], first[0], 3, padding=1),
            bn=nn.BatchNorm2d(first[0], eps=float(a["arch_bn_eps"])),
            tanh=nn.Tanh(),
            conv2=nn.Conv2d(second[1], second[0], 3, stride=int(a["arch_conv2_stride"]), bias=False),
            gelu=nn.GELU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(head[1], head[0]),
        )
    )


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Loss of each example (B,)."""
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")
