"""From the options of a run to its data: read, split, check."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from holdfast.data.class_checks import check_classes
from holdfast.data.duplicates import duplicate_note
from holdfast.data.fingerprint import data_fingerprint
from holdfast.data.images import Images
from holdfast.data.keyed import KeyArray, example_keys
from holdfast.data.locate import composed
from holdfast.data.opening import open_source
from holdfast.data.options import DataOptions
from holdfast.data.run_data import Reader, RunData
from holdfast.data.scan import unreadable_message
from holdfast.data.source import AllTrained, DataSource, Listing
from holdfast.data.splits import Splits, choose_test_split, make_splits
from holdfast.data.texts import Texts
from holdfast.data.train_labels import read_train_labels
from holdfast.data.train_list import read_train_list
from holdfast.data.weights import example_weights
from holdfast.errors import DataError
from holdfast.types import InputSpec, TextSpec

__all__ = ["load_data"]

log = logging.getLogger("holdfast")


class _Medium(Protocol):
    """What is particular about the examples of one kind, images or texts."""

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of the bytes of each example that was read, or its size, by id."""

    @property
    def over(self) -> str:
        """What the digests are of: ``bytes`` or ``size``."""

    @property
    def cached_bytes(self) -> int:
        """Memory of what is kept."""

    def scan(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """Read what has not been read before, given as splits by id; the reason why an example cannot be read, by id."""

    def reader(self, ids: Sequence[str], keys: KeyArray, trained: npt.NDArray[np.bool_]) -> Reader:
        """What serves these examples."""


def load_data(config: DataOptions, spec: InputSpec | TextSpec, *, whole: bool = False) -> RunData:
    """Read the dataset of a run, cut its splits, and find every example that cannot be read.

    Args:
        config: The options of the run.
        spec: Images or texts that the network expects, ``--image-size`` and ``--max-length`` taken into account.
        whole: Whether all of it is trained on: no split is cut from it, and of given ones only train is read.

    Raises:
        DataError: The dataset cannot be used as it is; one sentence says why and what to do.
    """
    source = open_source(config.data, test_split=config.test_split)
    source = AllTrained(source) if whole else source
    medium = _medium(source, config, spec)
    chosen = _choose(source, config, medium)
    examples, unit = _Examples.of(chosen), chosen.listing.unit
    given = examples.labels
    examples = _relabelled(examples, config, chosen.listing.classes)
    if medium.over == "bytes":
        _warn(config.data, duplicate_note(examples.named(chosen.listing.classes), medium.digests, unit))
    keys = example_keys(examples.ids)
    return RunData(
        classes=chosen.listing.classes,
        fingerprint=_fingerprint(examples, chosen.listing.classes, medium.digests),
        _ids=examples.ids,
        _labels=examples.labels,
        _keys=keys,
        _rows=examples.rows,
        _record=_record(chosen, medium.over, config) | {"val_labels": _val_labels(examples, config)},
        _reader=medium.reader(examples.ids, keys, examples.trained),
        _batch_size=config.batch_size,
        _balanced=config.sampling == "balanced",
        _weights=_weights(examples, config),
        cached_bytes=medium.cached_bytes,
        unit=unit,
        _truth=examples.truth,
        _places=examples.places,
        _given=None if config.train_labels is None else given,
    )


def _medium(source: DataSource, config: DataOptions, spec: InputSpec | TextSpec) -> _Medium:
    """What reads the examples, which must be of the kind that the network reads."""
    unit = source.listing.unit
    if isinstance(spec, TextSpec):
        if unit != "text":
            raise DataError(
                f"{config.data}: these are {unit}s, and the network reads texts; give a .csv or .jsonl table with the columns text and "
                "label, or choose a network of images such as --model timm:resnet50"
            )
        return Texts(source, spec)
    if unit != "image":
        raise DataError(
            f"{config.data}: these are {unit}s, and the network reads images; choose a network of texts, such as --model hf:FOLDER with "
            "one that transformers or sentence-transformers saved"
        )
    return Images(source, config, spec)


@dataclass(frozen=True)
class _Chosen:
    """What a run works on: examples in splits, all of them readable, and what had to be dropped."""

    listing: Listing
    splits: Splits
    dropped: Mapping[str, str]


def _choose(source: DataSource, config: DataOptions, medium: _Medium) -> _Chosen:
    """Split, check the classes, read the examples; without the unreadable ones, again, until all that is used is readable."""
    listing = choose_test_split(source.listing, config.test_split, config.data)
    listed = None if config.train_list is None else read_train_list(config.train_list, config.data, source.root, listing)
    dropped: dict[str, str] = {}
    while True:
        splits = make_splits(listing, config, listed=listed, dropped=dropped)
        check_classes(config.data, listing, splits, allow_empty=config.allow_empty_classes)
        wanted = {listing.ids[row]: split for split, rows in splits.rows.items() for row in rows}
        bad = _with_paths(listing, medium.scan(wanted))
        if not bad:
            break
        if not config.skip_bad:
            raise DataError(unreadable_message(config.data, bad, len(wanted), listing.unit))
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
    """The examples of all splits in the order of their ids."""

    ids: tuple[str, ...]
    labels: np.ndarray
    splits: tuple[str, ...]
    rows: dict[str, np.ndarray]
    weights: np.ndarray | None
    truth: np.ndarray | None
    places: np.ndarray | None

    @classmethod
    def of(cls, chosen: _Chosen) -> _Examples:
        listing = chosen.listing
        entries = sorted((listing.ids[row], row, split) for split, rows in chosen.splits.rows.items() for row in rows.tolist())
        ids, places, splits = zip(*entries, strict=True)
        rows = {name: np.array([row for row, split in enumerate(splits) if split == name], dtype=np.int64) for name in chosen.splits.rows}
        weights = None if listing.weights is None else listing.weights[list(places)]
        truth = _truth(listing)
        truth = None if truth is None else truth[list(places)]
        stored = None if listing.places is None else listing.places[list(places)]
        return cls(ids, listing.labels[list(places)].astype(np.int64), splits, rows, weights, truth, stored)

    def named(self, classes: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
        """Id, class name and split of each."""
        return ((image, classes[label], split) for image, label, split in zip(self.ids, self.labels, self.splits, strict=True))

    @property
    def trained(self) -> np.ndarray:
        return np.array([split == "train" for split in self.splits], dtype=bool)


def _relabelled(examples: _Examples, config: DataOptions, classes: tuple[str, ...]) -> _Examples:
    """With the labels and weights of ``--train-labels``; a weight multiplies one that the dataset gives."""
    if config.train_labels is None:
        return examples
    found = read_train_labels(
        config.train_labels, spec=config.data, ids=examples.ids, labels=examples.labels, trained=examples.rows["train"], classes=classes
    )
    weights = examples.weights if found.weights is None else found.weights * (1.0 if examples.weights is None else examples.weights)
    return replace(examples, labels=found.labels, weights=weights)


def _truth(listing: Listing) -> np.ndarray | None:
    """True classes (N,) where a table has a column of them, -1 where it is empty or names what no label does."""
    names = listing.columns.get("true_label", ())
    place = {name: label for label, name in enumerate(listing.classes)}
    return np.array([place.get(composed(name), -1) for name in names], dtype=np.int64) if any(names) else None


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


def _val_labels(examples: _Examples, config: DataOptions) -> str:
    """Whether the labels of val are ``clean`` or ``noisy``, as the user says or the truth shows; else they are ``as given``."""
    rows = examples.rows.get("val", ())
    if config.val_labels != "as-given" or not len(rows):
        return config.val_labels.replace("-", " ")
    if examples.truth is None or (examples.truth[rows] < 0).any():
        return "as given"
    return "clean" if (examples.truth[rows] == examples.labels[rows]).all() else "noisy"


def _record(chosen: _Chosen, over: str, config: DataOptions) -> dict[str, Any]:
    return {
        "fingerprint_over": over,
        "val_from": chosen.splits.val_from,
        "dropped": [{"id": image, "reason": reason} for image, reason in sorted(chosen.dropped.items())],
        "rule": chosen.splits.rule,
        "data_seed": config.data_seed,
    }
