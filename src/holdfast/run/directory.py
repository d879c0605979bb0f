"""The run directory as an object: making, opening, reading and writing it."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from holdfast.errors import CheckpointError, RunError
from holdfast.run.files import is_leftover, one_line, plain, remove_leftovers, sha256_json, to_json
from holdfast.run.predictions import Predictions, read_predictions, write_predictions
from holdfast.run.result import SplitMetrics, complete_result, validate_result
from holdfast.run.storage import CONFIG, RunFiles, resume_command
from holdfast.run.table import Row, csv_lines, read_rows, rows_up_to, write_rows

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Predictions", "Run"]

Model = TypeVar("Model", bound="nn.Module")

SPLITS = "splits.json"
HISTORY = "history.csv"
FEATURES = "features.csv"
LAYERS = "layers.csv"
METRICS = "metrics.csv"
RESULT = "result.json"
MODEL = "model.safetensors"
REFERENCE = "reference.json"
REFERENCE_WEIGHTS = "reference.safetensors"
PREDICTIONS = "predictions.npz"
AUDIT = "audit.json"
CHECKPOINT = "checkpoint"
TENSORBOARD = "tensorboard"
NETWORK = "network"

METRICS_COLUMNS = ("step", "epoch", "name", "value")


class Run(RunFiles):
    """A run directory. Make one with :meth:`create`, :meth:`open` or :meth:`save`.

    Only ``config`` and ``versions`` are kept in memory: every property reads its file, so a run that is still being written shows
    its latest whole state. Each file is replaced as a whole; a process killed at any moment leaves the previous version.

    - ``config.yaml``: everything needed to repeat the run, with versions
    - ``splits.json``: example ids of each split, classes, data fingerprint
    - ``history.csv``: one row an epoch
    - ``layers.csv``: one row an epoch and layer, where a method has numbers of layers
    - ``features.csv``, ``metrics.csv``, ``tensorboard/``: what ``--track features`` and ``--tracker`` ask for
    - ``result.json``: metrics, selections, cost; schema 1
    - ``model.safetensors``: the selected weights
    - ``reference.json``: where the reference weights come from, and the initial head
    - ``reference.safetensors``: the reference weights, where nothing else reproduces them
    - ``network/``: of a network of texts, what it is built from again: configuration and tokenizer
    - ``predictions.npz``: logits, labels and ids of val and test
    - ``audit.json``, ``report.html``: after ``holdfast audit``
    - ``checkpoint/``: the last state, for resuming
    """

    def __init__(self, path: Path, config: dict[str, Any], versions: dict[str, Any]) -> None:
        self.path = path
        self.config = config
        self.versions = versions

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @staticmethod
    def check_vacant(path: str | Path) -> None:
        """Refuse a place where no new run can be made, without writing anything: work before :meth:`create` is then not in vain.

        Raises:
            RunError: Something else is there, or nothing may be written there.
        """
        path = Path(path)
        try:
            str(path).encode()  # config.yaml records the name
        except UnicodeEncodeError as error:
            raise RunError(f"--out {str(path)!a}: the name is not UTF-8; choose one of letters and digits") from error
        try:
            if path.exists():
                _check_empty(path)
        except PermissionError as error:
            raise _cannot_make(path, error.strerror) from error
        folder = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        if not folder.is_dir():
            raise _cannot_make(path, f"{str(folder)!r} is a file")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise _cannot_make(path, f"no permission to write in {str(folder)!r}")

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any], *, packages: Sequence[str] = (), note: str = "") -> Run:
        """Make the directory and write ``config.yaml``.

        Args:
            path: New directory.
            config: The options of the run.
            packages: Installed packages whose versions are recorded beside those of holdfast and what it stands on.
            note: A sentence to begin ``config.yaml`` with, where the options do not repeat the run.

        Raises:
            RunError: The directory is not empty, or cannot be written.
        """
        path = Path(path)
        cls.check_vacant(path)
        run = cls(path, {}, _versions(packages))
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_make(path, error.strerror) from error
        run.write_config(config, note=note)
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open an existing run and remove temporary files that a killed process left.

        Raises:
            RunError: This is no run directory, or its ``config.yaml`` cannot be read.
        """
        path = Path(path)
        if not path.is_dir():
            raise RunError(f"{str(path)!r} is no run directory: {'it is a file' if path.exists() else 'it does not exist'}")
        if not (path / CONFIG).is_file():
            raise RunError(f"{str(path)!r} is no run directory: {CONFIG} is missing; give a directory that holdfast fit wrote")
        remove_leftovers(path)
        run = cls(path, {}, {})
        try:
            config = yaml.safe_load(run._read(CONFIG))
        except yaml.YAMLError as error:
            raise run._damaged(CONFIG, one_line(error)) from error
        if not isinstance(config, dict):
            raise run._damaged(CONFIG, "expected keys with values")
        run.versions = config.pop("versions", None) or {}
        run.config = config
        return run

    @classmethod
    def save(
        cls,
        path: str | Path,
        *,
        model_state: Mapping[str, Tensor],
        classes: Sequence[str],
        predictions: Mapping[str, tuple[Any, Any, Any]],
        result: Mapping[str, Any],
        config: Mapping[str, Any] | None = None,
    ) -> Run:
        """Write a finished run from a training loop of your own.

        Args:
            path: New directory.
            model_state: State dict of the trained network.
            classes: Class names, in the order of the logits.
            predictions: For each split, logits (N, K), labels (N,) and ids (N,).
            result: What is known of ``result.json``, such as ``{"test": {...}}``; the rest becomes null.
            config: Settings worth keeping.

        Raises:
            RunError: The directory is not empty or cannot be written, or ``result`` does not follow the schema.
        """
        ids = {split: [str(name) for name in rows[2]] for split, rows in predictions.items()}
        derived = {
            "holdfast": _version("holdfast"),
            "config_hash": sha256_json(config or {}),
            "data": {"classes": list(classes), **{f"n_{split}": len(names) for split, names in ids.items()}},
        }
        complete = plain(complete_result(result, derived))
        validate_result(complete)
        run = cls.create(path, config or {})
        splits = {split: ids.get(split) for split in ("train", "val", "test")}
        run.write_splits({"schema": 1, "classes": list(classes), "fingerprint": complete["data"]["fingerprint"], **splits})
        run.save_model(model_state)
        run.save_predictions(predictions)
        run.write_result(complete)
        return run

    def write_config(self, config: Mapping[str, Any], *, note: str = "") -> None:
        """Write ``config.yaml`` again, before training begins: what had to be found out first is now decided."""
        self.config = {key: plain(value) for key, value in config.items()}
        repeat = f"To repeat this run: holdfast fit --config {shlex.quote(str(self.path / CONFIG))} --out NEW"
        header = f"# {' '.join(note.split()) or repeat}\n"
        text = yaml.safe_dump({**self.config, "versions": self.versions}, sort_keys=False, allow_unicode=True, width=1000)
        self._write(CONFIG, header + text)

    # Splits and reference

    @property
    def splits(self) -> dict[str, Any]:
        """Content of ``splits.json``."""
        return self._read_json(SPLITS)

    def write_splits(self, splits: Mapping[str, Any]) -> None:
        """Store the example ids of each split, the classes and the data fingerprint."""
        self._write(SPLITS, to_json(splits))

    @property
    def reference(self) -> dict[str, Any]:
        """Content of ``reference.json``."""
        return self._read_json(REFERENCE)

    def write_reference(self, record: Mapping[str, Any], weights: Mapping[str, Tensor] | None = None) -> None:
        """Store where the reference weights come from, and the weights themselves where nothing else reproduces them."""
        if weights is not None:
            self.save_tensors(REFERENCE_WEIGHTS, weights)
        self._write(REFERENCE, to_json(record))

    def load_reference_weights(self) -> dict[str, Tensor]:
        """The stored reference weights by name, on the CPU."""
        return self.load_tensors(REFERENCE_WEIGHTS)

    @property
    def network(self) -> Path | None:
        """The folder with configuration and tokenizer of a network of texts; None where there is none."""
        return self.path / NETWORK if (self.path / NETWORK).is_dir() else None

    def write_network(self, files: Mapping[str, Path]) -> None:
        """Copy the files, by their names there, that a network of texts is built from again."""
        for name, file in files.items():
            with self.writing(f"{NETWORK}/{name}") as stream:
                stream.write(file.read_bytes())

    # History

    @property
    def history(self) -> list[Row]:
        """Rows of ``history.csv``: numbers as numbers, empty cells as None, a half-written last line left out."""
        return self._rows(HISTORY)

    def append_history(self, row: Mapping[str, Any]) -> None:
        """Add a row; a key that earlier rows lack becomes a new column."""
        self._write(HISTORY, write_rows([*self.history, plain(row)]))

    def truncate_history(self, step: int) -> None:
        """Drop the rows whose ``step`` lies beyond the given one: a resumed run writes them again."""
        self._truncate(HISTORY, step)

    @property
    def features(self) -> list[Row]:
        """Rows of ``features.csv``, one an epoch, epoch 0 the pretrained network; empty without ``--track features``."""
        return self._rows(FEATURES)

    def append_features(self, row: Mapping[str, Any]) -> None:
        """Add a row to ``features.csv``."""
        self._write(FEATURES, write_rows([*self.features, plain(row)]))

    def truncate_features(self, step: int) -> None:
        """Drop the rows whose ``step`` lies beyond the given one."""
        self._truncate(FEATURES, step)

    @property
    def layers(self) -> list[Row]:
        """Rows of ``layers.csv``: epoch, step, term, layer and what the term says of it; empty where no method has numbers of layers."""
        return self._rows(LAYERS)

    def append_layers(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows to ``layers.csv``."""
        self._write(LAYERS, write_rows([*self.layers, *(plain(row) for row in rows)]))

    def truncate_layers(self, step: int) -> None:
        """Drop the rows whose ``step`` lies beyond the given one."""
        self._truncate(LAYERS, step)

    @property
    def metrics(self) -> list[Row]:
        """Rows of ``metrics.csv``: step, epoch, name, value; empty without ``--tracker csv``."""
        return self._rows(METRICS)

    def append_metrics(self, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """Add one row for each named value to ``metrics.csv``.

        Unlike other files this one grows in place, since it may become long: a process killed in the middle leaves a half-written
        last line, which is not read and goes when the run is resumed.

        Raises:
            RunError: The disk is full, or the file cannot be written.
        """
        text = csv_lines([step, epoch, name, plain(value)] for name, value in values.items())
        target = self.path / METRICS
        with self._explaining(target), target.open("a", encoding="utf-8", newline="") as stream:
            stream.write(text if stream.tell() else csv_lines([METRICS_COLUMNS]) + text)

    def truncate_metrics(self, step: int) -> None:
        """Drop the rows whose ``step`` lies beyond the given one."""
        self._truncate(METRICS, step)

    def _rows(self, name: str) -> list[Row]:
        return read_rows(self._read(name)) if self.has(name) else []

    def _truncate(self, name: str, step: int) -> None:
        if not self.has(name):
            return
        kept = write_rows(rows_up_to(self._rows(name), step))
        if kept != self._read(name):
            self._write(name, kept)

    @property
    def tensorboard_dir(self) -> Path:
        """Folder of the event files of ``--tracker tensorboard``."""
        return self.path / TENSORBOARD

    # Result

    @property
    def finished(self) -> bool:
        """Whether training has ended and its result is stored."""
        return self.has(RESULT) and bool(self.result.get("finished"))

    @property
    def result(self) -> dict[str, Any]:
        """Content of ``result.json``."""
        if not self.has(RESULT):
            raise RunError(f"{str(self.path)!r} has no {RESULT}: training has not finished; type `{self.resume_command}`")
        return self._read_json(RESULT)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Store the result.

        Raises:
            RunError: It does not follow schema 1.
        """
        known = plain(result)
        validate_result(known)
        self._write(RESULT, to_json(known))

    @property
    def train(self) -> SplitMetrics | None:
        """Metrics on the training split, None where they were not measured."""
        return self._metrics("train")

    @property
    def val(self) -> SplitMetrics | None:
        """Metrics on the validation split, None where there is none."""
        return self._metrics("val")

    @property
    def test(self) -> SplitMetrics | None:
        """Metrics on the test split, None where there is none."""
        return self._metrics("test")

    def _metrics(self, split: str) -> SplitMetrics | None:
        values = self.result[split]
        return SplitMetrics.from_dict(values) if values is not None else None

    @property
    def audit(self) -> dict[str, Any] | None:
        """Content of ``audit.json``, which ``holdfast audit`` writes; None before that."""
        return self._read_json(AUDIT) if self.has(AUDIT) else None

    # Weights and predictions

    @property
    def model_path(self) -> Path:
        """The selected weights, safetensors."""
        return self.path / MODEL

    @property
    def checkpoint_dir(self) -> Path:
        """Folder of the last state, for resuming."""
        return self.path / CHECKPOINT

    def save_model(self, state: Mapping[str, Tensor]) -> None:
        """Store the selected weights."""
        self.save_tensors(MODEL, state)

    def load_weights(self) -> dict[str, Tensor]:
        """The selected weights by name, on the CPU."""
        return self.load_tensors(MODEL)

    def load_model(self, factory: Callable[[], Model]) -> Model:
        """The network that ``factory`` builds, with the selected weights, in eval mode.

        Raises:
            CheckpointError: The weights are damaged or belong to another network.
        """
        model = factory()
        try:
            model.load_state_dict(self.load_weights(), strict=True)
        except CheckpointError:
            raise
        except RuntimeError as error:
            raise CheckpointError(f"{str(self.model_path)!r} does not fit {type(model).__name__}: {one_line(error)}") from error
        return model.eval()

    def save_predictions(self, predictions: Mapping[str, tuple[Any, Any, Any]]) -> None:
        """Store logits (N, K), labels (N,) and ids (N,) of each split."""
        with self.writing(PREDICTIONS) as stream:
            write_predictions(stream, predictions)

    def load_predictions(self) -> dict[str, Predictions]:
        """Stored predictions by split.

        Raises:
            CheckpointError: The file is damaged, or holds pickled objects, which are never loaded.
        """
        self._must_have(PREDICTIONS)
        return read_predictions(self.path / PREDICTIONS)


def _cannot_make(path: Path, reason: str | None) -> RunError:
    return RunError(f"--out: cannot make the directory {str(path)!r}: {reason}; choose another place")


def _check_empty(path: Path) -> None:
    """A new run goes into an empty directory; what a killed process left in it does not count."""
    if not path.is_dir():
        raise RunError(f"--out: {str(path)!r} is a file; choose a directory")
    if (path / CONFIG).exists():
        raise RunError(f"--out: {str(path)!r} holds a run already; go on with it (`{resume_command(path)}`) or choose another --out")
    content = sorted(entry.name for entry in path.iterdir() if not is_leftover(entry))
    if content:
        raise RunError(f"--out: {str(path)!r} is not empty (it contains {content[0]!r}) and is no run; choose another --out")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _versions(further: Sequence[str]) -> dict[str, str | None]:
    packages = {name: _version(name) for name in ("holdfast", "torch", "torchvision", "timm", *further)}
    return {**packages, "python": platform.python_version(), "created": datetime.now(UTC).isoformat(timespec="seconds")}
