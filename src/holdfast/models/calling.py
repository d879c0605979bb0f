"""How a network takes its inputs and gives its logits, whether it is one of images or of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["arguments", "logits_in"]


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments for the forward of a network: a mapping, as of token tensors by name, is keywords.

    Example:
        >>> arguments({"input_ids": 1})
        ((), {'input_ids': 1})
        >>> arguments(1)
        ((1,), {})
    """
    return ((), dict(inputs)) if isinstance(inputs, Mapping) else ((inputs,), {})


def logits_in(output: Any) -> Any:
    """The logits in what a network returned: its attribute ``logits``, as the networks of transformers have it, or the output itself."""
    return getattr(output, "logits", output)
