"""From example numbers to a batch of 8-bit pixels; the same in this process and in a worker, with and without the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from holdfast.data.augment import Augmentation
from holdfast.data.decode import decode_rgb
from holdfast.data.keyed import KeyArray, repeat_keys
from holdfast.data.request import Request
from holdfast.data.source import DataSource, is_remote, read_bytes
from holdfast.data.views import Kind, Pixels, prepare, view_of
from holdfast.errors import DataError

__all__ = ["Mask", "Renderer"]

Mask = npt.NDArray[np.bool_]

_VIEW = 1 << 40
"""More often than any example is shown in an epoch, so that views and repeats never meet."""


_REQUESTS = 16
"""Requests to a server at the same time, of each process."""


@dataclass(frozen=True)
class Renderer:
    """Renders requests.

    Args:
        source: The dataset.
        ids: Id of each example.
        keys: Key (N,) of each example.
        trained: Mask (N,) of the examples of the train split, which are prepared for augmentation.
        augmentation: What training changes.
        kept: Prepared pixels of each example, where they are in memory.
    """

    source: DataSource
    ids: Sequence[str]
    keys: KeyArray
    trained: Mask
    augmentation: Augmentation
    kept: Sequence[Pixels] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image."""
        return (3, self.augmentation.size, self.augmentation.size)

    def render(self, request: Request, out: Tensor | None = None) -> Tensor:
        """Pixels (B, 3, S, S), uint8, of the examples asked for, in ``out`` where that is given.

        Raises:
            DataError: An image cannot be read; the message names it.
        """
        out = torch.empty((len(request.rows), *self.shape), dtype=torch.uint8) if out is None else out
        images = out.numpy()
        if request.epoch is None:
            for image, row, pixels in zip(images, request.rows.tolist(), self._all_prepared(request.rows.tolist()), strict=True):
                image[...] = view_of(pixels, self.kind(row), self.augmentation.size)
            return out
        keys = self.keys[request.rows]
        keys = keys if request.repeats is None else repeat_keys(keys, request.repeats)
        keys = repeat_keys(keys, np.full(len(keys), _VIEW * request.view))
        draws = self.augmentation.draws(request.seed, request.epoch, keys)
        for image, pixels, numbers in zip(images, self._all_prepared(request.rows.tolist()), draws, strict=True):
            self.augmentation.apply(pixels, numbers, image)
        return out

    def kind(self, row: int) -> Kind:
        """How far an example is prepared."""
        return self.augmentation.kind if self.trained[row] else "view"

    def _all_prepared(self, rows: Sequence[int]) -> Iterator[Pixels]:
        """Prepared pixels in order; where each read waits for a server, many at the same time."""
        if self.kept is not None or not is_remote(self.source):
            yield from map(self._prepared, rows)
            return
        with ThreadPoolExecutor(_REQUESTS) as pool:
            yield from pool.map(self._prepared, rows)

    def _prepared(self, row: int) -> Pixels:
        if self.kept is not None:
            return self.kept[row]
        image = self.ids[row]
        try:
            return prepare(decode_rgb(read_bytes(self.source, image)), self.kind(row), self.augmentation.size)
        except DataError as error:
            raise DataError(f"{self.source.spec}: the image {image} cannot be read ({error}).") from None
