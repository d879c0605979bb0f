"""A training step in channels-last memory format against the same step in torch's own: ``python -m benchmarks.channels_last``.

Forward, cross-entropy, backward and SGD with Nesterov momentum in train mode. Both networks get the same images as the data pipeline
gives them, channels first; only the weights of one are stored channels last, and torch's convolutions follow their weights. The two take
turns, so that a slow moment of the machine hits both. A ratio below 1 means that channels last is faster.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.settings import describe_machine
from benchmarks.timing import interleave
from holdfast.models.load import load_pretrained

CLASSES = 10
NETWORKS = (
    ("demo:glyphnet", 32),
    ("demo:mobilenetv1-025", 128),
    ("timm:resnet18", 64),
    ("timm:resnet18", 224),
    ("torchvision:mobilenet_v3_small", 128),
    ("timm:efficientnet_b0", 128),
    ("torchvision:densenet121", 64),
    ("torchvision:vgg11_bn", 64),
    ("timm:regnety_002", 128),
    ("timm:convnext_atto", 128),
    ("torchvision:convnext_tiny", 64),
    ("timm:swin_tiny_patch4_window7_224", 64),
    ("timm:vit_tiny_patch16_224", 128),
)
"""Networks and image sizes that a CPU can train."""


def training_step(net: nn.Module, size: int, batch_size: int, device: torch.device, precision: str) -> Callable[[], None]:
    """One step on random images."""
    net = net.to(device).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
    images = torch.randn(batch_size, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    labels = (torch.arange(batch_size) % CLASSES).to(device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", metavar="SPEC@SIZE", help="instead of the built-in list, as timm:resnet50@224")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    networks = [(spec, int(size)) for spec, _, size in (text.rpartition("@") for text in options.models)] if options.models else NETWORKS
    rows = []
    for spec, size in networks:
        first = load_pretrained(spec, weights="random", image_size=size).net
        last = copy.deepcopy(first).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # no overload for it alone
        ratio = interleave(
            training_step(first, size, options.batch_size, device, options.precision),
            training_step(last, size, options.batch_size, device, options.precision),
            device,
            steps=options.steps,
            blocks=options.blocks,
        )
        setting = f"{spec}, {size} px, batch {options.batch_size}, {options.precision}"
        print(f"{setting}: ratio {ratio.ratio:.3f} ({ratio.low:.3f} to {ratio.high:.3f}), {1e3 * ratio.base_seconds:.0f} ms", flush=True)
        rows.append({"setting": setting, **ratio._asdict(), **describe_machine(device)})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
