"""What somebody asks a comparison to be."""

from __future__ import annotations

from typing import Any

from holdfast.compare.asked import Asked, command_line, from_yaml
from holdfast.compare.plan import Plan, expand, read_shape

BASE: dict[str, Any] = {"data": ["demo:digits"], "models": "demo:glyphnet", "methods": "plain,adarand", "seeds": "2", "out": "there"}

FINGERPRINTS = {"data": "d", "source_data": None, "reference": "r"}


def asked(**typed: Any) -> Asked:
    """What is typed on the command line, over a small comparison; None takes a key away."""
    return Asked.of([command_line({key: value for key, value in {**BASE, **typed}.items() if value is not None})])


def in_yaml(**values: Any) -> Asked:
    """The same, written in a file."""
    return Asked.of([from_yaml("all.yaml", {key: value for key, value in {**BASE, **values}.items() if value is not None})])


def plan(question: Asked) -> Plan:
    """Its runs, on data and a network whose fingerprints are made up."""
    return expand(question, read_shape(question), lambda config: FINGERPRINTS)
