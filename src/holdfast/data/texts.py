"""Texts on their way into a run: made into tokens once, kept in memory, and filled up to the longest of each batch."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from holdfast.data.keyed import KeyArray
from holdfast.data.render import Mask
from holdfast.data.request import Request
from holdfast.data.sending import to_device
from holdfast.data.source import DataSource, read_bytes
from holdfast.types import TextSpec, Tokenizer, Tokens

__all__ = ["TextReader", "Texts", "tokens_of"]

log = logging.getLogger("holdfast")


def tokens_of(texts: Sequence[str], spec: TextSpec) -> list[Tokens | str]:
    """The tokens of each text, or the reason why it cannot be read: nothing is in it."""
    encoded = spec.tokenizer.encode(texts, spec.max_length)
    nothing = spec.tokenizer.special_tokens
    return [_reason(text) if tokens.ids.shape[1] <= nothing else tokens for text, tokens in zip(texts, encoded, strict=True)]


def _reason(text: str) -> str:
    return "no character in it is known to the tokenizer" if text.strip() else "the text is empty"


@dataclass(frozen=True)
class TextReader:
    """Batches of tokens.

    Args:
        tokens: Of each example, by row.
        tokenizer: Fills them up.
    """

    tokens: Sequence[Tokens]
    tokenizer: Tokenizer

    def read(self, requests: list[Request], device: torch.device) -> Iterator[dict[str, Tensor]]:
        """Token tensors (B, T) by name of each request, T the tokens of its longest text."""
        for request in requests:
            batch = self.tokenizer.batch([self.tokens[row] for row in request.rows.tolist()])
            yield {name: to_device(values, device) for name, values in batch.items()}


class Texts:
    """The texts of a dataset as tokens.

    Args:
        source: The dataset.
        spec: Texts that the network expects.
    """

    def __init__(self, source: DataSource, spec: TextSpec) -> None:
        self.digests: dict[str, str] = {}
        self.over = "bytes"
        self._source = source
        self._spec = spec
        self._kept: dict[str, Tokens] = {}

    @property
    def cached_bytes(self) -> int:
        """Memory of the tokens."""
        return sum(tokens.ids.nbytes for tokens in self._kept.values())

    def scan(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """Read what has not been read before, given as splits by id; the reason why a text cannot be read, by id."""
        todo = [text for text in wanted if text not in self._kept]
        data = [read_bytes(self._source, text) for text in todo]
        bad: dict[str, str] = {}
        for text, content, tokens in zip(todo, data, tokens_of([content.decode() for content in data], self._spec), strict=True):
            if isinstance(tokens, str):
                bad[text] = tokens
            else:
                self._kept[text] = tokens
                self.digests[text] = hashlib.sha256(content).hexdigest()
        self._tell_of_cuts(wanted)
        return bad

    def _tell_of_cuts(self, wanted: Mapping[str, str]) -> None:
        longest = self._spec.max_length
        cut = sum(self._kept[text].length > longest for text in wanted if text in self._kept)
        if cut:
            message = "%s: %d of %d texts have more than %d tokens and are cut there (--max-length)"
            log.info(message, self._source.spec, cut, len(wanted), longest)

    def reader(self, ids: Sequence[str], keys: KeyArray, trained: Mask) -> TextReader:
        """What serves these examples; texts are not augmented, so keys and splits do not matter."""
        return TextReader([self._kept[text] for text in ids], self._spec.tokenizer)
