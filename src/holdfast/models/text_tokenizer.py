"""The tokenizer of a network of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.types import Tokens

__all__ = ["TextTokenizer"]

MASK = "attention_mask"


class TextTokenizer:
    """Makes the inputs of a network out of texts; implements ``holdfast.types.Tokenizer``.

    Args:
        tokenizer: A tokenizer of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._names = [name for name in tokenizer.model_input_names if name != MASK]
        fillings = {"input_ids": tokenizer.pad_token_id, "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0)}
        self._fillings = [fillings.get(name) or 0 for name in self._names]
        self.special_tokens = int(tokenizer.num_special_tokens_to_add())

    def encode(self, texts: Sequence[str], max_length: int) -> list[Tokens]:
        """Each text as at most ``max_length`` tokens, special ones included."""
        if not texts:
            return []
        encoded = self._encode(list(texts))
        long = [row for row, ids in enumerate(encoded) if ids.shape[1] > max_length]
        cut = self._encode([texts[row] for row in long], truncation=True, max_length=max_length) if long else []
        tokens = [Tokens(ids, ids.shape[1]) for ids in encoded]
        for row, ids in zip(long, cut, strict=True):
            tokens[row] = Tokens(ids, tokens[row].length)
        return tokens

    def _encode(self, texts: list[str], **options: Any) -> list[np.ndarray]:
        """Ids (I, T) of each text."""
        encoded = self._tokenizer(texts, padding=False, return_attention_mask=False, verbose=False, **options)
        columns = [encoded[name] for name in self._names]
        return [np.array(rows, dtype=np.int32).reshape(len(self._names), -1) for rows in zip(*columns, strict=True)]

    def batch(self, texts: Sequence[Tokens]) -> dict[str, Tensor]:
        """Inputs (B, T) by name, int64, filled up at the end to the longest text."""
        lengths = np.array([text.ids.shape[1] for text in texts])
        longest = int(lengths.max())
        filled = np.empty((len(self._names), len(texts), longest), dtype=np.int64)
        filled[:] = np.array(self._fillings)[:, None, None]
        for row, text in enumerate(texts):
            filled[:, row, : text.ids.shape[1]] = text.ids
        mask = np.arange(longest) < lengths[:, None]
        columns = {name: torch.from_numpy(ids) for name, ids in zip(self._names, filled, strict=True)}
        return {**columns, MASK: torch.from_numpy(mask.astype(np.int64))}
