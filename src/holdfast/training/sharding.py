"""FSDP: weights, gradients and the optimizer's state of a network spread over ranks, by torch's ``fully_shard``.

Blocks are gathered one at a time while they compute. What lies outside them, the head among it, stays gathered from the forward pass of a
training step to its backward pass, so methods may use the head as they would anywhere. Arithmetic is that of DDP up to summation order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.utils._pytree import tree_map_only

from holdfast.models.checkpointing import blocks_of
from holdfast.models.classifier import Classifier
from holdfast.models.shards import in_parts_like, is_spread, own_part, remember_parts, whole
from holdfast.types import Comm

__all__ = ["clip_norm_of_parts", "gathered", "load_network", "load_optimizer", "spread"]

SMALLEST = 100_000
"""Parameters of the smallest block that is gathered by itself: for less, an exchange costs more than the memory it saves."""


def spread(classifier: Classifier, device: torch.device, comm: Comm) -> int:
    """Leave on each rank its part of every parameter, in place; names in the state dict stay as they are.

    All ranks take rank 0's values. A device never holds more of the network than the parts and one block.

    Returns:
        How many blocks are gathered one at a time; with none, all weights are gathered at once.
    """
    _agree(classifier, device, comm)
    mesh = init_device_mesh(device.type, (comm.size,))
    blocks = _gathered_blocks(classifier)
    for module in (*blocks, classifier):
        module.register_forward_hook(_out_of_views)  # before FSDP's own hooks, which watch what is returned
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(classifier, mesh=mesh, reshard_after_forward=False)
    classifier.register_forward_hook(_give_back)
    classifier.to(device)  # buffers; parameters are there
    classifier.whole_passes = True
    remember_parts(classifier.net)
    return len(blocks)


def _agree(classifier: Classifier, device: torch.device, comm: Comm) -> None:
    """Rank 0's values for all, tensor by tensor."""
    for tensor in (*classifier.parameters(), *classifier.buffers()):
        tensor.data.copy_(comm.broadcast(tensor.detach().to(device)))


def _gathered_blocks(classifier: Classifier) -> list[nn.Module]:
    """Blocks that are large enough and share no parameter with the rest of the network."""
    owners: dict[int, int] = {}
    for module in classifier.modules():
        for parameter in module._parameters.values():
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    chosen = []
    for block in blocks_of(classifier.net, classifier.head_name):
        inside: dict[int, int] = {}
        for module in block.modules():
            for parameter in module._parameters.values():
                if parameter is not None:
                    inside[id(parameter)] = inside.get(id(parameter), 0) + 1
        alone = all(owners[key] == count for key, count in inside.items())
        if alone and sum(parameter.numel() for parameter in block.parameters()) >= SMALLEST:
            chosen.append(block)
    return chosen


def _out_of_views(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    """Tensors of their own where a module returns views: changed in place by whoever comes next, those would lose FSDP's hooks."""
    return tree_map_only(Tensor, lambda tensor: tensor.clone() if tensor._is_view() else tensor, outputs)


def _give_back(module: nn.Module, inputs: Any, outputs: Any) -> None:
    """Without a backward pass to come nothing stays gathered: weights that change meanwhile would not be seen by the next pass."""
    if not torch.is_grad_enabled():
        assert isinstance(module, FSDPModule)
        module.reshard()


def gathered(tree: Any, *, keep: bool) -> Any:
    """The same nested dicts and lists with whole tensors, on the CPU, where they were spread; on all ranks together.

    Args:
        tree: The same on every rank but for values.
        keep: Whether this rank wants the tensors; elsewhere empty ones stand for them, and no memory is taken.
    """
    if isinstance(tree, Tensor):
        if not is_spread(tree):
            return tree
        found = whole(tree.detach())
        return found.cpu() if keep else torch.empty(0)
    if isinstance(tree, Mapping):
        return type(tree)((key, gathered(value, keep=keep)) for key, value in tree.items())  # type: ignore[call-arg]
    if isinstance(tree, list | tuple):
        return type(tree)(gathered(value, keep=keep) for value in tree)
    return tree


def load_network(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fill a spread network from whole tensors, which every rank has, or from parts."""
    own = net.state_dict()
    assert own.keys() == state.keys(), "weights of another network"
    for name, tensor in own.items():
        tensor.copy_(in_parts_like(state[name], tensor))


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Restore an optimizer over spread parameters from whole tensors, which every rank has."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parts = {number: dict(_parts_of(entry, parameters[number])) for number, entry in state["state"].items()}
    optimizer.load_state_dict({**state, "state": parts})


def _parts_of(entry: Mapping[str, Any], parameter: nn.Parameter) -> Iterator[tuple[str, Any]]:
    for key, value in entry.items():
        like = isinstance(value, Tensor) and value.shape == parameter.shape
        yield key, in_parts_like(value, parameter) if like else value


def clip_norm_of_parts(parameters: Sequence[nn.Parameter], norm: float, comm: Comm) -> Tensor:
    """Scale gradients down to a global norm over all ranks' parts, as ``torch.nn.utils.clip_grad_norm_`` does for whole ones.

    Returns:
        The norm before, scalar.
    """
    spread_ones = [own_part(p.grad) for p in parameters if p.grad is not None and is_spread(p.grad)]
    others = [p.grad for p in parameters if p.grad is not None and not is_spread(p.grad)]
    before = (comm.sum(_squares(spread_ones)) + (_squares(others) if others else 0)).sqrt()
    factor = (norm / (before + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_([*spread_ones, *others], factor)
    return before


def _squares(gradients: list[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(gradients)).square().sum()
