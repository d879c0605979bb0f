"""What the commands below ``holdfast labels`` share: options, values, and the probabilities that labels are judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.cli.arguments import Argument, Parsed, parse
from holdfast.cli.terminal import err
from holdfast.config.checks import check_device
from holdfast.errors import ConfigError, DataError, suggest

if TYPE_CHECKING:
    from holdfast.labels.arrays import FloatArray, IntArray
    from holdfast.labels.examples import Examples

__all__ = [
    "CLASSES",
    "DATA",
    "JUDGE",
    "KNOWN",
    "SPLIT",
    "VOTERS",
    "check_table_name",
    "choice",
    "judged",
    "known_labels",
    "names",
    "number",
    "read_arguments",
    "whole",
]

DATA = ("DATA", "a table (.csv, .jsonl) of images or texts with labels, a folder of images, or whatever else 'holdfast fit' reads")
SPLIT = Argument("--split", "rows to look at: train, val, test or all", "SPLIT", default="train where there are splits, else all")
KNOWN = Argument("--known", "column with the true class of some rows, empty elsewhere", "COLUMN")
CLASSES = Argument("--classes", "names of the classes, where no labels tell them", "A,B,...")
VOTERS = Argument(
    "--voters", "columns that each hold one annotator's labels, empty where there is none", "A,B,...", default="the column 'votes'"
)
JUDGE = (
    Argument("--model", "network whose frozen features judge the labels, such as timm:resnet18; texts need none", "MODEL"),
    Argument("--weights", "local file with its weights", "FILE"),
    Argument("--image-size", "side of the images in pixels", "N", default="the network's own"),
    Argument("--device", "auto, cpu, cuda or cuda:N", "DEVICE", default="auto"),
    Argument(
        "--probs", "file with out-of-sample probabilities of your own instead, a row for each row looked at (.npy, .npz, .csv)", "FILE"
    ),
    Argument("--folds", "parts for cross-validation: each is judged by a classifier fitted on the others", "N", default="5"),
)


def read_arguments(argv: Sequence[str], arguments: Sequence[Argument], command: str) -> tuple[str, Parsed]:
    """DATA and the options of a command.

    Raises:
        ConfigError: DATA is missing, or an option is unknown.
    """
    parsed = parse(argv, arguments)
    parsed.no_more_than(1, f"labels {command}")
    if not parsed.words:
        raise ConfigError(f"DATA is missing; for example: holdfast labels {command} cars.csv")
    check_device(parsed.values.get("device", "auto"), "--device")
    return parsed.words[0], parsed


def number(parsed: Parsed, key: str, default: float, *, low: float = -math.inf, high: float = math.inf) -> float:
    """A number option.

    Raises:
        ConfigError: It is none, or out of its range.
    """
    text = parsed.values.get(key)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        bounds = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
        raise ConfigError(f"--{key.replace('_', '-')}: expected a number {bounds}, got {text!r}.")
    return value


def whole(parsed: Parsed, key: str, default: int, *, low: int = 0) -> int:
    """A whole-number option.

    Raises:
        ConfigError: It is none, or too small.
    """
    value = number(parsed, key, default, low=low)
    if value != int(value):
        raise ConfigError(f"--{key.replace('_', '-')}: expected a whole number of at least {low}, got {parsed.values[key]!r}.")
    return int(value)


def choice(parsed: Parsed, key: str, default: str, known: Sequence[str]) -> str:
    """One of some words.

    Raises:
        ConfigError: It is another.
    """
    value = str(parsed.values.get(key, default))
    if value not in known:
        raise ConfigError(f"--{key.replace('_', '-')}: unknown value {value!r}. {suggest(value, known)}")
    return value


def names(parsed: Parsed, key: str) -> list[str] | None:
    """Names joined by commas, or None."""
    text = parsed.values.get(key)
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def check_table_name(file: str | None, example: str) -> str:
    """The file of ``--out``.

    Raises:
        ConfigError: It is missing, or no table.
    """
    if file is None:
        raise ConfigError(f"--out is missing; for example: {example}")
    if Path(file).suffix.lower() not in (".csv", ".jsonl"):
        raise ConfigError(f"--out {file}: expected a file name that ends in .csv or .jsonl.")
    return file


def known_labels(examples: Examples, column: str, classes: Sequence[str]) -> IntArray:
    """True classes of a column, -1 where it is empty."""
    from holdfast.data.locate import composed

    return examples.indices([composed(cell) for cell in examples.column(column, "--known")], classes, f"{column!r}")


def judged(parsed: Parsed, examples: Examples, rows: Sequence[int], labels: IntArray, num_classes: int) -> FloatArray:
    """Out-of-sample noisy-class probabilities (n, K) of some rows, from ``--probs`` or by cross-validation on frozen features.

    Raises:
        ConfigError: Neither can be done.
        DataError: The file does not fit the rows.
    """
    from holdfast.labels import cross_validated_probabilities

    file = parsed.values.get("probs")
    if file is not None:
        return _read_probabilities(file, len(rows), num_classes)
    folds = whole(parsed, "folds", 5, low=2)
    features = frozen_features(parsed, examples, rows)
    err.print(f"judging {len(rows)} labels of {num_classes} classes by cross-validation in {folds} parts", soft_wrap=True)
    return cross_validated_probabilities(features, labels, num_classes, folds=folds)


def frozen_features(parsed: Parsed, examples: Examples, rows: Sequence[int]) -> Any:
    """Features of the network of ``--model``, or word weights."""
    model = parsed.values.get("model")
    if model is None and examples.texts is None:
        raise ConfigError(
            "--model is missing: labels of images are judged by features of a pretrained network; for example --model timm:resnet18, or "
            "--probs with a file of probabilities."
        )
    size = whole(parsed, "image_size", 0, low=1) or None
    what = "word weights" if model is None else f"features of {model}"
    err.print(f"computing {what} for {len(rows)} {'images' if examples.texts is None else 'texts'}", soft_wrap=True)
    from holdfast.labels.features import example_features

    return example_features(
        examples,
        rows,
        model=model,
        weights=parsed.values.get("weights"),
        image_size=size,
        device=_device(parsed.values.get("device", "auto")),
    )


def _device(name: str) -> str:
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def _read_probabilities(file: str, rows: int, num_classes: int) -> FloatArray:
    from holdfast.labels.arrays import check_probabilities

    try:
        if file.lower().endswith(".csv"):
            found: Any = np.loadtxt(file, delimiter=",", ndmin=2)
        else:
            found = np.load(file, allow_pickle=False)
        table = np.asarray(found if isinstance(found, np.ndarray) else found["probs" if "probs" in found.files else found.files[0]])
    except OSError as error:
        raise ConfigError(f"--probs {file}: {(error.strerror or 'the file cannot be read').lower()}.") from None
    except (ValueError, KeyError, IndexError):
        raise DataError(f"--probs {file}: expected a matrix of numbers, a row for each row and a column for each class.") from None
    if table.shape != (rows, num_classes):
        raise DataError(
            f"--probs {file}: expected {rows} rows, one for each label looked at, and {num_classes} columns, one for each class in sorted "
            f"order; it is {' x '.join(map(str, table.shape))}."
        )
    return check_probabilities(table.astype(np.float64), name=f"--probs {file}")
