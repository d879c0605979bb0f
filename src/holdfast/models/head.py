"""Which layer is the head: the final Linear of a classification network."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.errors import ModelError

__all__ = ["find_head", "head_in", "set_head"]


def find_head(net: nn.Module, name: str | None = None, *, label: str = "the network") -> str:
    """Qualified name of the head of ``net``.

    The layer that timm's ``get_classifier()`` gives, otherwise the last ``nn.Linear`` in ``named_modules()``.

    Args:
        net: A bare classification network.
        name: The user's own choice, which must be a Linear layer.
        label: What to call the network in messages.

    Raises:
        ModelError: There is no such layer, or more than one head.

    Example:
        >>> find_head(nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2)))
        '3'
    """
    linears = {path: module for path, module in net.named_modules() if path and isinstance(module, nn.Linear)}
    if name is not None:
        return _chosen(net, name, linears)
    if hasattr(net, "get_classifier"):
        return _of_timm(net, linears, label)
    if not linears:
        raise ModelError(
            f"{label} ({type(net).__name__}) has no Linear layer, so it has no head that can be replaced; "
            "choose a network that ends in pooling and one Linear layer, or add them to yours"
        )
    return next(reversed(linears))


def head_in(weights: Mapping[str, Tensor], head_name: str) -> dict[str, Tensor]:
    """``weight`` and, where there is one, ``bias`` of the head in a network's state dict."""
    return {name: weights[f"{head_name}.{name}"] for name in ("weight", "bias") if f"{head_name}.{name}" in weights}


@torch.no_grad()
def set_head(head: nn.Linear, tensors: Mapping[str, Tensor]) -> None:
    """Give the outputs of the first K classes this weight (K, D) and, where there is one, this bias (K,); others stay as drawn."""
    for name, parameter in head.named_parameters():
        parameter[: len(tensors[name])].copy_(tensors[name])


def _chosen(net: nn.Module, name: str, linears: dict[str, nn.Linear]) -> str:
    if name in linears:
        return name
    modules = dict(net.named_modules())
    what = f"is a {type(modules[name]).__name__}, not a Linear layer" if name in modules else "is no layer of the network"
    near = difflib.get_close_matches(name, linears, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    last = ", ".join(list(linears)[-5:]) or "none"
    raise ModelError(f"--head {name!r} {what}.{hint} Its last Linear layers: {last}.")


def _of_timm(net: Any, linears: dict[str, nn.Linear], label: str) -> str:
    classifier = net.get_classifier()
    if isinstance(classifier, (tuple, list)):
        raise ModelError(
            f"{label} ({type(net).__name__}) has {len(classifier)} heads, as distilled networks do, but holdfast trains one; "
            "choose its variant without distillation"
        )
    # Some heads are a block around the Linear (LeViT: normalisation, dropout, Linear).
    inside = set(classifier.modules()) if isinstance(classifier, nn.Module) else set()
    names = [path for path, module in linears.items() if module in inside]
    if not names:
        raise ModelError(
            f"the head of {label} ({type(net).__name__}) is {_in_words(classifier)}, not a Linear layer; "
            "build it with a Linear classifier (num_classes above 0), or name a Linear layer as head"
        )
    return names[-1]


def _in_words(classifier: object) -> str:
    return "an Identity (no classifier)" if isinstance(classifier, nn.Identity) else f"a {type(classifier).__name__}"
