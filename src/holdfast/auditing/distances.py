"""How far each layer moved, and how large it was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from holdfast.auditing.options import AuditOptions
from holdfast.auditing.subject import Subject
from holdfast.errors import ConfigError
from holdfast.measures.distance import Distances, as_matrix, distances, spectral
from holdfast.models.select import measured_layers

__all__ = ["chosen_layers", "head_origin", "layer_rows", "measure_distances", "move_of_all_weights", "spectral_product"]


def chosen_layers(net: nn.Module, typed: str) -> tuple[str, ...]:
    """Names of the layers behind ``--layers``: auto, ju2022, or patterns divided by commas.

    Raises:
        ConfigError: A pattern matches no layer.
    """
    if typed in ("auto", "ju2022"):
        return measured_layers(net, preset="ju2022" if typed == "ju2022" else "all")
    return measured_layers(net, patterns=[pattern.strip() for pattern in typed.split(",")])


def head_origin(subject: Subject, options: AuditOptions) -> Literal["source", "zero"]:
    """What the head is measured from.

    Raises:
        ConfigError: Its initial value was asked for and is not known.
    """
    if options.head == "source" and subject.start is not None and not subject.has_start_of_head:
        raise ConfigError("--head source: the start has no head of this shape, so its initial value is not known; type --head zero.")
    return options.head or ("source" if subject.has_start_of_head or subject.head_name is None else "zero")


def measure_distances(subject: Subject, layers: tuple[str, ...], head: Literal["source", "zero"]) -> Distances | None:
    """Distances of the layers and of BatchNorm; None where the start is not known.

    Raises:
        ModelError: The start is of another architecture.
    """
    if subject.start is None:
        return None
    return distances(subject.net, subject.start, layers=layers, head=head, head_name=subject.head_name)


def layer_rows(subject: Subject, layers: tuple[str, ...], found: Distances | None, head: str) -> list[dict[str, Any]]:
    """The part of ``layers`` that distances fill."""
    moved = {} if found is None else {layer.name: layer for layer in found.layers}
    rows = []
    for name in layers:
        weight = subject.net.get_parameter(name)
        from_zero = head == "zero" and name == f"{subject.head_name}.weight"
        layer = moved.get(name)
        rows.append(
            {
                "name": name,
                "shape": list(weight.shape),
                "parameters": weight.numel(),
                "frob": None if layer is None else layer.frob,
                "infop": None if layer is None else layer.infop,
                "spectral": None if layer is None else layer.spectral,
                "norm_frob": None if subject.start is None else 0.0 if from_zero else float(subject.start[name].double().norm()),
            }
        )
    return rows


def move_of_all_weights(subject: Subject, head: str) -> float | None:
    """Euclidean distance over all weights, biases and scales of normalisation too; a head measured from zero counts whole."""
    if subject.start is None:
        return None
    squares = [
        float(_move(name, weight.detach(), subject.start, zero=head == "zero" and name.startswith(f"{subject.head_name}.")).square().sum())
        for name, weight in subject.net.named_parameters()
    ]
    return math.sqrt(math.fsum(squares))


def _move(name: str, weight: Tensor, start: Mapping[str, Tensor], *, zero: bool) -> Tensor:
    known = start.get(name)
    if zero or known is None or known.shape != weight.shape:
        return weight.double()
    return weight.double() - known.to(weight).double()


def spectral_product(net: nn.Module, layers: tuple[str, ...]) -> float:
    """Product of the largest singular values of the layers' matrices, a plain measure of capacity to compare with."""
    with torch.no_grad():
        return math.prod(
            spectral(as_matrix(net.get_submodule(name.rpartition(".")[0]), net.get_parameter(name).detach())) for name in layers
        )
