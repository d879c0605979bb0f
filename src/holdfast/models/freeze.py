"""Keep parameters, and the statistics that belong to them, as they were pretrained."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from holdfast.errors import ConfigError
from holdfast.models.classifier import Classifier, freeze_batchnorm
from holdfast.models.select import BACKBONE, match_parameters

__all__ = ["freeze_parameters"]


def freeze_parameters(classifier: Classifier, patterns: Iterable[str], *, option: str = "--freeze") -> set[str]:
    """Freeze the parameters that ``patterns`` match.

    They get no gradient any more. A BatchNorm layer of which nothing is left to train, because its scale and shift are frozen, or because
    it has none and everything in the module around it is frozen, keeps its running statistics too and runs in eval mode from now on.
    Dropout stays as it is. Call this before DDP wraps the network and after ``SyncBatchNorm`` took the place of BatchNorm.

    Args:
        classifier: The network with its fresh head, changed in place.
        patterns: See :func:`~holdfast.models.select.match_parameters`.
        option: What the user typed the patterns after, for messages.

    Returns:
        Names of the frozen parameters in the bare network.

    Raises:
        ConfigError: A pattern matches nothing, or the head, which starts from nothing and must be trained.
    """
    patterns = list(patterns)
    head = {name for name, _ in classifier.head_parameters()}
    for pattern in patterns:
        if head & match_parameters(classifier.net, [pattern], head_name=classifier.head_name, option=option):
            raise ConfigError(
                f"{option} {pattern!r} would freeze the head {classifier.head_name!r} too, which starts from nothing; "
                f"type {option} {BACKBONE} for all but the head"
            )
    names = match_parameters(classifier.net, patterns, head_name=classifier.head_name, option=option)
    parameters = dict(classifier.net.named_parameters())
    for name in names:
        parameters[name].requires_grad_(False)
    for path, layer in classifier.net.named_modules():
        if isinstance(layer, _BatchNorm) and _is_frozen(classifier.net, path):
            freeze_batchnorm(layer)
    return names


def _is_frozen(net: nn.Module, path: str) -> bool:
    """Whether nothing can be trained in a layer, or, where it has no parameters, in the nearest module around it that has some."""
    while path:
        parameters = list(net.get_submodule(path).parameters())
        if parameters:
            return not any(parameter.requires_grad for parameter in parameters)
        path = path.rpartition(".")[0]
    return False
