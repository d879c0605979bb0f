"""From the options of a run to its data: read, split, check."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np

from holdfast.data.augment import Augmentation
from holdfast.data.class_checks import check_classes
from holdfast.data.duplicates import duplicate_note
from holdfast.data.fetch import InProcess, Workers
from holdfast.data.fingerprint import data_fingerprint
from holdfast.data.image_data import Fetcher, ImageData
from holdfast.data.keyed import example_keys
from holdfast.data.memory import PixelCache, cache_budget, cpu_count
from holdfast.data.normalize import Normalizer, effective_spec
from holdfast.data.opening import open_source
from holdfast.data.options import DataOptions
from holdfast.data.render import Renderer
from holdfast.data.scan import Scanner, unreadable_message
from holdfast.data.source import AllTrained, ImageSource, Listing
from holdfast.data.splits import Splits, choose_test_split, make_splits
from holdfast.data.train_list import read_train_list
from holdfast.data.views import Kind
from holdfast.data.weights import example_weights
from holdfast.errors import DataError
from holdfast.types import InputSpec

__all__ = ["load_data"]

log = logging.getLogger("holdfast")

_MOST_THREADS = 16
_MOST_WORKERS = 4


def load_data(config: DataOptions, input_spec: InputSpec, *, whole: bool = False) -> ImageData:
    """Read the dataset of a run, cut its splits, and find every unreadable image.

    Args:
        config: The options of the run.
        input_spec: Images that the network expects, ``--image-size`` taken into account.
        whole: Whether all of it is trained on: no split is cut from it, and of given ones only train is read.

    Raises:
        DataError: The dataset cannot be used as it is; one sentence says why and what to do.
    """
    source = open_source(config.data, test_split=config.test_split)
    source = AllTrained(source) if whole else source
    augmentation = Augmentation(cast(Literal["crop", "resized-crop", "none"], config.augment), config.flip, input_spec.size)
    cache = PixelCache(cache_budget(config.cache))
    threads = config.threads or min(_MOST_THREADS, cpu_count())
    scanner = Scanner(source, input_spec.size, cache, threads, decode_all=config.cache == "memory")
    chosen = _choose(source, config, scanner, augmentation.kind)
    examples = _Examples.of(chosen)
    renderer = Renderer(source, examples.ids, example_keys(examples.ids), examples.trained, augmentation)
    if scanner.over == "bytes":
        _warn(config.data, duplicate_note(examples.named(chosen.listing.classes), scanner.digests))
    return ImageData(
        classes=chosen.listing.classes,
        fingerprint=_fingerprint(examples, chosen.listing.classes, scanner.digests),
        _ids=examples.ids,
        _labels=examples.labels,
        _keys=renderer.keys,
        _rows=examples.rows,
        _record=_record(chosen, scanner.over, config),
        _fetcher=_fetcher(renderer, cache, config),
        _normalizer=Normalizer(effective_spec(input_spec, config.normalization)),
        _batch_size=config.batch_size,
        _balanced=config.sampling == "balanced",
        _weights=_weights(examples, config),
        cached_bytes=cache.nbytes,
    )


@dataclass(frozen=True)
class _Chosen:
    """What a run works on: images in splits, all of them readable, and what had to be dropped."""

    listing: Listing
    splits: Splits
    dropped: Mapping[str, str]


def _choose(source: ImageSource, config: DataOptions, scanner: Scanner, train_kind: Kind) -> _Chosen:
    """Split, check the classes, read the images; without the unreadable ones, again, until all that is used is readable."""
    listing = choose_test_split(source.listing, config.test_split, config.data)
    listed = None if config.train_list is None else read_train_list(config.train_list, config.data, source.root, listing)
    dropped: dict[str, str] = {}
    while True:
        splits = make_splits(listing, config, listed=listed, dropped=dropped)
        check_classes(config.data, listing, splits, allow_empty=config.allow_empty_classes)
        wanted: dict[str, Kind] = {}
        for split, rows in splits.rows.items():
            wanted.update((listing.ids[row], train_kind if split == "train" else "view") for row in rows)
        bad = _with_paths(listing, scanner.scan(wanted))
        if not bad:
            break
        if not config.skip_bad:
            raise DataError(unreadable_message(config.data, bad, len(wanted)))
        dropped.update(bad)
    _tell(config.data, splits, dropped)
    return _Chosen(listing, splits, dropped)


def _with_paths(listing: Listing, reasons: dict[str, str]) -> dict[str, str]:
    """The reasons with the path in front, where ids are others, of which only the table knows what they stand for."""
    if not reasons or "path" not in listing.columns:
        return reasons
    paths = dict(zip(listing.ids, listing.columns["path"], strict=True))
    return {image: f"{paths[image]}: {reason}" for image, reason in reasons.items()}


def _tell(spec: str, splits: Splits, dropped: Mapping[str, str]) -> None:
    for image, reason in sorted(dropped.items()):
        log.warning("%s: dropped %s (%s)", spec, image, reason)
    for note in splits.notes:
        _warn(spec, note)
    log.info("%s: %s", spec, splits.rule)


def _warn(spec: str, note: str | None) -> None:
    if note is not None:
        log.warning("%s: %s", spec, note)


@dataclass(frozen=True)
class _Examples:
    """The images of all splits in the order of their ids."""

    ids: tuple[str, ...]
    labels: np.ndarray
    splits: tuple[str, ...]
    rows: dict[str, np.ndarray]
    weights: np.ndarray | None

    @classmethod
    def of(cls, chosen: _Chosen) -> _Examples:
        listing = chosen.listing
        entries = sorted((listing.ids[row], row, split) for split, rows in chosen.splits.rows.items() for row in rows.tolist())
        ids, places, splits = zip(*entries, strict=True)
        rows = {name: np.array([row for row, split in enumerate(splits) if split == name], dtype=np.int64) for name in chosen.splits.rows}
        weights = None if listing.weights is None else listing.weights[list(places)]
        return cls(ids, listing.labels[list(places)].astype(np.int64), splits, rows, weights)

    def named(self, classes: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
        """Id, class name and split of each."""
        return ((image, classes[label], split) for image, label, split in zip(self.ids, self.labels, self.splits, strict=True))

    @property
    def trained(self) -> np.ndarray:
        return np.array([split == "train" for split in self.splits], dtype=bool)


def _fingerprint(examples: _Examples, classes: tuple[str, ...], digests: Mapping[str, str]) -> str:
    weights = [()] * len(examples.ids) if examples.weights is None else [(repr(weight),) for weight in examples.weights.tolist()]
    return data_fingerprint((*image, digests[image[0]], *weight) for image, weight in zip(examples.named(classes), weights, strict=True))


def _weights(examples: _Examples, config: DataOptions) -> np.ndarray | None:
    """Weights of all examples with mean 1 over train, or None where those of train are equal."""
    train, own = examples.rows["train"], examples.weights
    balanced = config.class_weights == "balanced"
    weights = example_weights(examples.labels[train], None if own is None else own[train], balanced=balanced, spec=config.data)
    if weights is None:
        return None
    if balanced and config.sampling == "balanced":
        log.warning("--class-weights balanced and --sampling balanced each make up for small classes; together they count them twice")
    spread = np.ones(len(examples.ids))
    spread[train] = weights
    return spread


def _fetcher(renderer: Renderer, cache: PixelCache, config: DataOptions) -> Fetcher:
    if cache.active:
        return InProcess(replace(renderer, kept=[cache.pixels(image) for image in renderer.ids]))
    workers = min(_MOST_WORKERS, cpu_count()) if config.workers is None else config.workers
    log.info("%s: images are decoded anew each time, by %d worker processes", config.data, workers)
    return Workers(renderer, workers) if workers else InProcess(renderer)


def _record(chosen: _Chosen, over: str, config: DataOptions) -> dict[str, Any]:
    return {
        "fingerprint_over": over,
        "val_from": chosen.splits.val_from,
        "val_labels": "as given",
        "dropped": [{"id": image, "reason": reason} for image, reason in sorted(chosen.dropped.items())],
        "rule": chosen.splits.rule,
        "data_seed": config.data_seed,
    }
