"""How one weight acts at different feature widths: ``python -m benchmarks.width``.

demo:glyphnet is fine-tuned on five images of each handwritten digit. A fixed random layer and a ReLU between its 64 features and the head
give it any feature width D at one scale of the features. Two things are measured: how large the gradient of the penalty at weight 1 is
beside that of the cross-entropy, and which weight is best by validation. Prints Markdown; ``--json FILE`` keeps the numbers.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.settings import describe_machine
from holdfast import attach
from holdfast.models.load import load_pretrained

METHODS = ("fnp", "randreg", "adarand")
WEIGHTS = (0.0, 1 / 16, 1 / 4, 1.0, 4.0, 16.0, 64.0)
SHOTS, VALIDATION, CLASSES = 5, 500, 10
STEPS, RATE, HEAD_STD = 30, 0.03, 0.01

Split = tuple[Tensor, Tensor]


class Widened(nn.Module):
    """A pretrained network whose features pass a fixed random layer and a ReLU before a fresh head.

    Args:
        width: D.
        scale: Factor on all features.
        pretrained: Whether the network has its pretrained weights, or random ones.
        seed: Of the layer, the head and random weights.
    """

    def __init__(self, width: int, *, scale: float = 1.0, pretrained: bool = True, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = load_pretrained("demo:glyphnet", weights=None if pretrained else "random", seed=seed).net
        features = self.net.fc.in_features
        self.net.fc = nn.Identity()
        self.register_buffer("projection", scale * torch.randn(features, width) / features**0.5)
        self.head = nn.Linear(width, CLASSES)
        nn.init.normal_(self.head.weight, std=HEAD_STD)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, K) of images (B, 3, 32, 32)."""
        return self.head(torch.relu(self.net(inputs) @ self.projection))


def digits(seed: int) -> tuple[Split, Split]:
    """Training and validation images of one seed, disjoint."""
    data = load_digits()
    images = torch.as_tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1  # mean = std = 0.5 of values from 0 to 1
    images = F.interpolate(images, size=32, mode="bilinear").expand(-1, 3, -1, -1).contiguous()
    labels = torch.as_tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    train = torch.cat([order[labels[order] == label][:SHOTS] for label in range(CLASSES)])
    rest = order[~torch.isin(order, train)][:VALIDATION]
    return (images[train], labels[train]), (images[rest], labels[rest])


def gradient_ratios(train: Split, net: nn.Module) -> dict[str, float]:
    """Norm of each penalty's gradient at weight 1 over that of the cross-entropy's, in the network below the fixed layer.

    Both are summed over every fourth step of plain fine-tuning; ``first`` is that of the first method at the first step alone.
    """
    ratios = {"mean square": mean_square_of_features(train, net)}
    attached = {method: attach(net, method, [train], num_classes=CLASSES, total_steps=STEPS) for method in METHODS}
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9, nesterov=True)
    parameters = [parameter for name, parameter in net.named_parameters() if name.startswith("net.")]
    sums = dict.fromkeys([*METHODS, "cross-entropy"], 0.0)
    for step in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(net(train[0]), train[1]).backward()
        if step % 4 == 0:
            alone = [parameter.grad for parameter in parameters]
            sums["cross-entropy"] += _norm(alone)
            for method, terms in attached.items():
                both = torch.autograd.grad(terms.loss(*train), parameters)
                sums[method] += _norm([first - second for first, second in zip(both, alone, strict=True)])
                terms.after_step()
        if step == 0:
            ratios["first"] = sums[METHODS[0]] / sums["cross-entropy"]
        optimizer.step()
    return ratios | {method: sums[method] / sums["cross-entropy"] for method in METHODS}


@torch.no_grad()
def mean_square_of_features(train: Split, net: nn.Module) -> float:
    """Of what enters the head, over examples and dimensions, before training."""
    caught: list[Tensor] = []
    handle = net.head.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    copy.deepcopy(net)(train[0])
    handle.remove()
    return float(caught[0].square().mean())


def _norm(tensors: list[Tensor]) -> float:
    return float(torch.stack([tensor.square().sum() for tensor in tensors]).sum().sqrt())


def validation_accuracy(method: str, weight: float, train: Split, validation: Split, net: nn.Module) -> float:
    """Accuracy after fine-tuning with a weight, in percent."""
    terms = attach(net, [{"name": method, "weight": weight}] if weight else "plain", [train], num_classes=CLASSES, total_steps=STEPS)
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9, nesterov=True)
    net.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        terms.loss(*train).backward()
        optimizer.step()
        terms.after_step()
    net.eval()
    with torch.no_grad():
        return 100 * float((net(validation[0]).argmax(dim=1) == validation[1]).float().mean())


def ratios(widths: list[int]) -> Iterator[dict[str, Any]]:
    """Gradient ratios at each width, then at width 64 with features of other scales, and without pretraining."""
    train, _ = digits(0)
    cases = [{"width": width} for width in widths]
    cases += [{"width": 64, "scale": 0.5}, {"width": 64, "scale": 2.0}, {"width": 64, "pretrained": False}]
    for case in cases:
        yield {**case, **gradient_ratios(train, Widened(**case).train())}


def accuracies(method: str, widths: list[int], seeds: int) -> dict[int, dict[float, list[float]]]:
    """Validation accuracy of each width, weight and seed."""
    data = [digits(seed) for seed in range(seeds)]
    return {
        width: {
            weight: [validation_accuracy(method, weight, *data[seed], Widened(width, seed=seed)) for seed in range(seeds)]
            for weight in WEIGHTS
        }
        for width in widths
    }


def print_ratios(rows: list[Mapping[str, Any]]) -> None:
    """As Markdown."""
    columns = ["network", "D", "mean z²", f"`{METHODS[0]}`, first step", *(f"`{method}`" for method in METHODS)]
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        change = f", features x {row['scale']:g}" if "scale" in row else ""
        network = "random weights" if row.get("pretrained") is False else f"pretrained{change}"
        numbers = (f"{row[key]:.2g}" for key in ("mean square", "first", *METHODS))
        print(f"| {network} | {row['width']} | {' | '.join(numbers)} |")


def print_accuracies(method: str, table: Mapping[int, Mapping[float, list[float]]]) -> None:
    """As Markdown: means over seeds, the best weight of each width in bold."""
    print(
        f"\n| `{method}`, D | {' | '.join('plain' if not weight else f'{weight:g}' for weight in WEIGHTS)} |\n|---|{'---|' * len(WEIGHTS)}"
    )
    for width, row in table.items():
        means = {weight: statistics.fmean(values) for weight, values in row.items()}
        best = max(means[weight] for weight in WEIGHTS if weight)
        cells = (f"**{mean:.1f}**" if weight and mean == best else f"{mean:.1f}" for weight, mean in means.items())
        print(f"| {width} | {' | '.join(cells)} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64, 256, 1024])
    parser.add_argument("--methods", nargs="*", default=["fnp", "adarand"], help="for the second table")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    started = time.perf_counter()
    rows = list(ratios(arguments.widths))
    print_ratios(rows)
    tables = {}
    for method in arguments.methods:
        tables[method] = accuracies(method, arguments.widths, arguments.seeds)
        print_accuracies(method, tables[method])
    machine = describe_machine(torch.device("cpu"))
    print(f"\n{machine}; {time.perf_counter() - started:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "ratios": rows, "accuracies": tables}))


if __name__ == "__main__":
    main()
