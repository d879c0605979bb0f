"""An encoder of texts with a classification head on one vector for each text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["POOLINGS", "TextEncoder"]


def _of_first(states: Tensor, mask: Tensor) -> Tensor:
    return states[:, 0]


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    return _sum(states, mask) / mask.sum(dim=1, keepdim=True)


def _by_root_of_length(states: Tensor, mask: Tensor) -> Tensor:
    return _sum(states, mask) / mask.sum(dim=1, keepdim=True).to(states.dtype).sqrt()


def _sum(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask[..., None].to(states.dtype)).sum(dim=1)


def _largest(states: Tensor, mask: Tensor) -> Tensor:
    return states.masked_fill(mask[..., None] == 0, -torch.inf).amax(dim=1)


OF_STATES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _of_first,
    "mean": _mean,
    "mean_sqrt_len": _by_root_of_length,
    "max": _largest,
}
"""From the states (B, T, D) of all tokens and the mask (B, T) of those that are there to one vector (B, D)."""

POOLINGS = (*OF_STATES, "pooler")
"""What there is: of the first token, over the tokens of a text, or the encoder's own pooler (a layer with tanh on the first token)."""


class TextEncoder(nn.Module):
    """Encoder, pooling, dropout, and a Linear head.

    Args:
        encoder: A bare network of transformers.
        width: D, the width of its states.
        pooling: One of ``POOLINGS``.
    """

    def __init__(self, encoder: nn.Module, width: int, pooling: str) -> None:
        super().__init__()
        if pooling != "pooler" and getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None  # type: ignore[assignment]  # weights without a gradient, which nothing would read
        self.tower = encoder
        self.pooling = pooling
        self.dropout = nn.Dropout(0.0)
        self.head = nn.Linear(width, 1)

    def forward(self, *, attention_mask: Tensor, **tokens: Any) -> Tensor:
        """Logits (B, K) of texts given as token tensors (B, T)."""
        output = self.tower(attention_mask=attention_mask, **tokens)
        states = OF_STATES[self.pooling](output.last_hidden_state, attention_mask) if self.pooling != "pooler" else output.pooler_output
        logits: Tensor = self.head(self.dropout(states))
        return logits
