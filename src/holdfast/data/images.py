"""Images on their way into a run: decoded, checked and kept in memory once, augmented and normalised each time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from holdfast.data.augment import Augmentation
from holdfast.data.fetch import InProcess, Workers
from holdfast.data.keyed import KeyArray
from holdfast.data.memory import PixelCache, cache_budget, cpu_count
from holdfast.data.normalize import Normalizer, effective_spec
from holdfast.data.options import DataOptions
from holdfast.data.render import Mask, Renderer
from holdfast.data.request import Request
from holdfast.data.scan import Scanner
from holdfast.data.source import DataSource
from holdfast.types import InputSpec

__all__ = ["ImageReader", "Images"]

log = logging.getLogger("holdfast")

_MOST_THREADS = 16
_MOST_WORKERS = 4


class Fetcher(Protocol):
    """Renders requests in order."""

    def fetch(self, requests: list[Request], *, pin: bool = False, ahead: bool = False) -> Iterator[Tensor]:
        """Pixels (B, 3, S, S), uint8, of each request."""


@dataclass(frozen=True)
class ImageReader:
    """Pixels from wherever they are rendered, normalised on the device."""

    fetcher: Fetcher
    normalizer: Normalizer

    def read(self, requests: list[Request], device: torch.device) -> Iterator[Tensor]:
        """Images (B, 3, S, S), float32, of each request."""
        on_gpu = device.type == "cuda"
        for pixels in self.fetcher.fetch(requests, pin=on_gpu, ahead=on_gpu):
            yield self.normalizer(pixels.to(device, non_blocking=True))


class Images:
    """The images of a dataset, prepared as a run's options say.

    Args:
        source: The dataset.
        config: The options of the run.
        spec: Images that the network expects, ``--image-size`` taken into account.
    """

    def __init__(self, source: DataSource, config: DataOptions, spec: InputSpec) -> None:
        self._source = source
        self._config = config
        self._spec = spec
        self._augmentation = Augmentation(cast(Literal["crop", "resized-crop", "none"], config.augment), config.flip, spec.size)
        self._cache = PixelCache(cache_budget(config.cache))
        threads = config.threads or min(_MOST_THREADS, cpu_count())
        self._scanner = Scanner(source, spec.size, self._cache, threads, decode_all=config.cache == "memory")

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of the bytes of each image, or its size, by id."""
        return self._scanner.digests

    @property
    def over(self) -> str:
        """What the digests are of: ``bytes`` or ``size``."""
        return self._scanner.over

    @property
    def cached_bytes(self) -> int:
        """Memory of the decoded images."""
        return self._cache.nbytes

    def scan(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """Read what has not been read before, given as splits by id; the reason why an image cannot be read, by id."""
        train_kind = self._augmentation.kind
        return self._scanner.scan({image: train_kind if split == "train" else "view" for image, split in wanted.items()})

    def reader(self, ids: Sequence[str], keys: KeyArray, trained: Mask) -> ImageReader:
        """What serves these examples, whose ``keys`` (N,) decide their augmentation; ``trained`` (N,) are those of train."""
        renderer = Renderer(self._source, ids, keys, trained, self._augmentation)
        return ImageReader(self._fetcher(renderer), Normalizer(effective_spec(self._spec, self._config.normalization)))

    def _fetcher(self, renderer: Renderer) -> Fetcher:
        if self._cache.active:
            return InProcess(replace(renderer, kept=[self._cache.pixels(image) for image in renderer.ids]))
        workers = min(_MOST_WORKERS, cpu_count()) if self._config.workers is None else self._config.workers
        log.info("%s: images are decoded anew each time, by %d worker processes", self._config.data, workers)
        return Workers(renderer, workers) if workers else InProcess(renderer)
