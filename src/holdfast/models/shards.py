"""Parameters that FSDP has spread over ranks: each rank trains its part of every tensor.

While a network computes it borrows whole tensors; what the optimizer trains, and what methods on weights read, are the parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from holdfast.types import Comm

__all__ = ["in_parts_like", "is_spread", "names_of", "over_ranks", "own_part", "remember_parts", "trained_parameters", "whole"]

_PARTS: WeakKeyDictionary[nn.Module, dict[str, nn.Parameter]] = WeakKeyDictionary()


def remember_parts(net: nn.Module) -> None:
    """Keep the parameters that were just spread, for :func:`trained_parameters`."""
    _PARTS[net] = dict(net.named_parameters())


def trained_parameters(net: nn.Module) -> Mapping[str, nn.Parameter]:
    """The parameters of a network as the optimizer has them, by name: in parts where they are spread, even while it computes."""
    return _PARTS[net] if net in _PARTS else dict(net.named_parameters())


def names_of(net: nn.Module, module: nn.Module) -> set[str]:
    """Names in a network of the parameters of one of its modules: all names of tied ones."""
    own = {id(parameter) for parameter in module.parameters()}
    return {name for name, parameter in net.named_parameters(remove_duplicate=False) if id(parameter) in own}


def is_spread(tensor: Tensor) -> bool:
    """Whether this rank holds a part of the tensor only."""
    return isinstance(tensor, DTensor)


def own_part(tensor: Tensor) -> Tensor:
    """This rank's part, in the same memory; gradients flow back into it. A tensor that is not spread as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All parts as one tensor, on all ranks together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def in_parts_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, the same on every rank, laid out as another of its shape; nothing is communicated."""
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def over_ranks(value: Tensor, comm: Comm) -> Tensor:
    """The sum over ranks of what each found on its parts, with the gradient of its own: that is all its parts need."""
    return value + (comm.sum(value.detach()) - value.detach())
