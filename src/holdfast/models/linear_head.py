"""Give a network a final Linear layer where it ends in something else: a 1 x 1 convolution, or features."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from holdfast.errors import ModelError
from holdfast.models.calling import arguments
from holdfast.models.matching import Adapt
from holdfast.models.probe import at_rest, failed_forward, probe_inputs
from holdfast.types import InputSpec, TextSpec

__all__ = ["Headed", "with_linear_head"]


@dataclass(frozen=True)
class Headed:
    """A network that ends in a Linear layer, unless nothing is known about how to give it one.

    Args:
        net: The network, perhaps inside another.
        adapt: Converts tensors of a file to its form.
        fresh: Whether the Linear layer was drawn here.
        notes: What was changed, in words.
    """

    net: nn.Module
    adapt: Adapt
    fresh: bool = False
    notes: list[str] = field(default_factory=list)


def with_linear_head(net: nn.Module, adapt: Adapt, spec: InputSpec | TextSpec, *, label: str) -> Headed:
    """Put a Linear layer at the end of a network that has none there.

    A head of timm that is a 1 x 1 convolution on pooled features becomes the Linear layer with the same weights. A network that has no
    Linear layer at all, or that timm built without a classifier, returns features; a fresh Linear layer is put on top of them.

    Args:
        net: The bare network, changed in place.
        adapt: What converts tensors of a file to the form of ``net``.
        spec: What images or texts the network expects.
        label: What to call the network in messages.

    Raises:
        ModelError: The network returns no feature vectors, or cannot run.
    """
    classifier = net.get_classifier() if callable(getattr(net, "get_classifier", None)) else None  # type: ignore[operator]
    if isinstance(classifier, nn.Conv2d) and classifier.kernel_size == (1, 1):
        return _from_convolution(net, classifier)
    if isinstance(classifier, nn.Identity) or (classifier is None and not _has_linear(net)):
        return _on_top(net, adapt, spec, label)
    return Headed(net, adapt)


def _has_linear(net: nn.Module) -> bool:
    return any(isinstance(module, nn.Linear) for module in net.modules())


def _from_convolution(net: nn.Module, convolution: nn.Conv2d) -> Headed:
    name = next(path for path, module in net.named_modules() if module is convolution)
    linear = nn.utils.skip_init(nn.Linear, convolution.in_channels, convolution.out_channels, bias=convolution.bias is not None)
    linear.load_state_dict({key: value.flatten(1) if value.ndim == 4 else value for key, value in convolution.state_dict().items()})
    net.set_submodule(name, nn.Sequential(nn.Flatten(), linear))

    def adapt(net: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        moved = {f"{name}.{key}": f"{name}.1.{key}" for key in ("weight", "bias")}
        return {moved.get(key, key): value.flatten(1) if key in moved and value.ndim == 4 else value for key, value in tensors.items()}

    return Headed(net, adapt)


def _on_top(tower: nn.Module, adapt: Adapt, spec: InputSpec | TextSpec, label: str) -> Headed:
    inputs = probe_inputs(tower, spec)
    positional, keywords = arguments(inputs)
    with at_rest(tower):
        try:
            features = tower(*positional, **keywords)
        except Exception as error:  # a network of the user may fail in any way
            raise failed_forward(inputs, error) from error
    if not isinstance(features, Tensor) or features.ndim != 2:
        what = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else f"type {type(features).__name__}"
        raise ModelError(
            f"{label} ({type(tower).__name__}) has no Linear head, and its output of {what} is no feature vector (B, D) to put one on; "
            "let it pool to one vector for each image, or end it with pooling and one Linear layer in a 'python:' function"
        )
    net = nn.Sequential(OrderedDict(tower=tower, head=nn.Linear(features.shape[1], 1, device=features.device, dtype=features.dtype)))

    def adapt_tower(net: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        adapted = adapt(tower, tensors)
        return {f"tower.{name}": value for name, value in (tensors if adapted is None else adapted).items()}

    note = f"{label} has no head: a fresh Linear layer was put on top of its {features.shape[1]} features"
    return Headed(net, adapt_tower, fresh=True, notes=[note])
