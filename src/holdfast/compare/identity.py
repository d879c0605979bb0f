"""What makes two runs the same run: the content hash by which a finished cell is found again."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

from holdfast.config.load import config_to_yaml_dict
from holdfast.config.schema import FitConfig
from holdfast.config.values import FIELDS
from holdfast.run.files import sha256_json

__all__ = ["KEY_LENGTH", "Fingerprints", "Identifier", "cell_key"]

KEY_LENGTH = 16
"""Hex digits of a key: enough for billions of runs."""

_PLACES = frozenset({"data", "weights", "source_data", "plugin", "preset"})
"""Where things lie, and what the other options have taken over."""

_RECORDED = frozenset({"track"})
"""Options of the output without which a run lacks something: with ``--track test`` another result is asked for."""

Fingerprints = Mapping[str, str | None]
"""Of the ``data``, the ``source_data`` and the ``reference``, which take the place of paths."""


def cell_key(config: FitConfig, fingerprints: Fingerprints) -> str:
    """Hash over what decides the numbers of a run.

    These are the resolved options, the seeds among them, without those of the machine and the output; the content of the data, the
    pretrained weights, and of files that options name. Another folder, worker count, label or neighbour changes nothing.

    Args:
        config: As :func:`holdfast.config.load.resolve` gives it.
        fingerprints: As :class:`Identifier` gives them.
    """
    options = {key: value for key, value in config_to_yaml_dict(config).items() if _matters(key)}
    options["train_list"] = _content(config.train_list, Path(config.data))
    options["train_labels"] = _content(config.train_labels)
    options["transition"] = _content(config.transition)
    options["method"] = [
        entry | ({"transition": _content(entry["transition"])} if "transition" in entry else {}) for entry in config.methods
    ]
    plugins = [_content(file) for file in config.plugin]
    return sha256_json({"schema": 1, "options": options, "plugins": plugins, **fingerprints})[:KEY_LENGTH]


class Identifier:
    """Fingerprints of what runs begin with, each computed once; ``data_seen`` has those of the data by DATA."""

    def __init__(self) -> None:
        self.data_seen: dict[str, str] = {}
        self._data = functools.cache(_of_data)
        self._reference = functools.cache(_of_reference)

    def fingerprints(self, config: FitConfig) -> Fingerprints:
        """Of the data and the pretrained network of a run.

        Raises:
            HoldfastError: One of them cannot be read.
        """
        network = (config.model, config.weights, config.head, config.head_dropout, config.image_size, config.max_length)
        self.data_seen[config.data] = self._data(config.data, config.test_split)
        return {
            "data": self.data_seen[config.data],
            "source_data": None if config.source_data is None else self._data(config.source_data, None),
            "reference": self._reference(*network),
        }


def _of_data(spec: str, test_split: str | None) -> str:
    from holdfast.data.content import content_fingerprint

    return content_fingerprint(spec, test_split=test_split)


def _of_reference(
    model: str, weights: str | None, head: str | None, head_dropout: float | None, image_size: int | None, max_length: int | None
) -> str:
    from holdfast.models.load import load_pretrained
    from holdfast.models.reference import FrozenReference

    found = load_pretrained(model, weights=weights, head=head, head_dropout=head_dropout, image_size=image_size, max_length=max_length)
    return FrozenReference.from_pretrained(found).fingerprint


def _matters(key: str) -> bool:
    group = FIELDS[key].metadata["group"]
    return key in _RECORDED or not (key in _PLACES or group in ("machine", "output"))


def _content(value: str | None, folder: Path = Path()) -> str | None:
    """The name of a file replaced by what is in it: an edited list of training images is another list."""
    for path in () if value is None else (Path(value), folder / value):
        if path.is_file():
            return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    return value
