"""What gradient checkpointing costs and saves: ``python -m benchmarks.checkpointing --threads 1``.

The activations that a forward pass keeps for the backward pass (batch 4, weights left out), with checkpointing over without; and the time
of a training step (batch 8), both in turn.
"""

from __future__ import annotations

import argparse
import copy

import torch
from torch import Tensor, nn

from benchmarks.channels_last import training_step
from benchmarks.settings import describe_machine
from benchmarks.timing import interleave
from holdfast.models.checkpointing import checkpoint_blocks
from holdfast.models.load import load_pretrained

NETWORKS = (
    ("timm:vit_tiny_patch16_224", 128),
    ("torchvision:densenet121", 64),
    ("timm:convnext_atto", 128),
    ("timm:resnet50", 64),
)


def kept_bytes(net: nn.Module, size: int) -> int:
    """Memory that a forward pass keeps, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = net(torch.randn(4, 3, size, size))  # held on to, so that no memory is given back and counted twice
    assert outputs.requires_grad
    return sum(kept.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cpu")
    print(describe_machine(device))
    for spec, size in NETWORKS:
        pretrained = load_pretrained(spec, weights="random", image_size=size)
        usual, saving = pretrained.net.train(), copy.deepcopy(pretrained.net).train()
        checkpoint_blocks(saving, pretrained.head_name)
        kept = kept_bytes(saving, size) / kept_bytes(usual, size)
        steps = (training_step(net, size, 8, device, "fp32") for net in (usual, saving))
        ratio = interleave(*steps, device, steps=options.steps, blocks=options.blocks, warmup=1)
        print(f"{spec}, {size} px: keeps {kept:.0%}, time {ratio.ratio:.2f} ({ratio.low:.2f} to {ratio.high:.2f})", flush=True)


if __name__ == "__main__":
    main()
