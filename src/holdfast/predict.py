"""Classes and confidences of images or texts, by a finished run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.catalog import reads_texts
from holdfast.config.checks import check_device
from holdfast.errors import ConfigError, DataError
from holdfast.run import Run

if TYPE_CHECKING:
    import torch

    from holdfast.data import NamedText
    from holdfast.models.classifier import Classifier
    from holdfast.types import InputSpec, TextSpec

__all__ = ["Prediction", "find_inputs", "predict"]

BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """What a run says of one image or text.

    Args:
        input: Path of the image; of a text its id, or file and line.
        label: The class with the largest softmax probability.
        confidence: That probability, as the network gives it.
        second: The class with the second largest.
        second_confidence: Its probability.
        text: The text, where it is one.
    """

    input: str
    label: str
    confidence: float
    second: str
    second_confidence: float
    text: str | None = None


OnUnreadable = Callable[[str, DataError], None]


def _stop(path: str, error: DataError) -> None:
    raise error


def predict(
    run: Run | str | Path, inputs: Sequence[str | Path], *, device: str = "auto", on_unreadable: OnUnreadable = _stop
) -> Iterator[Prediction]:
    """Classify images or texts, whichever the run was trained on.

    Args:
        run: A finished run.
        inputs: Image files, and folders that are searched for images; for a run on texts ``.txt`` files with one text a line, and
            ``.csv`` and ``.jsonl`` tables with a column ``text``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        on_unreadable: Called with the path of an image that cannot be read, or the name of an empty text, and the reason; it is left
            out. By default the error is raised.

    Returns:
        One prediction for each readable example, in the order given; batches are read as they are asked for.

    Raises:
        DataError: An input does not exist, holds no example, or cannot be read.
        RunError: This is no finished run.
    """
    check_device(device, "device")
    opened = run if isinstance(run, Run) else Run.open(run)
    found = find_inputs(opened, inputs)
    from holdfast.build import load_model

    target = _torch_device(device)
    classifier, classes, spec = load_model(opened.path)
    classifier.to(target)
    readable = functools.partial(_readable, spec=spec, device=target, on_unreadable=on_unreadable)

    def predictions() -> Iterator[Prediction]:
        for start in range(0, len(found), BATCH):
            for read, batch in readable(found[start : start + BATCH]):
                yield from _classify(classifier, classes, read, batch)

    return predictions()


def find_inputs(run: Run, inputs: Sequence[str | Path]) -> Sequence[str] | Sequence[NamedText]:
    """The image files among the inputs, folders searched, or for a run on texts the texts in them.

    Raises:
        DataError: An input does not exist, or holds no example.
    """
    missing = [str(entry) for entry in inputs if not Path(entry).exists()]
    if missing:
        others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(f"{missing[0]}: no such file or folder{others}.")
    from holdfast.data import list_inputs, list_texts

    return list_texts(inputs) if reads_texts(str(run.config.get("model"))) else [str(path) for path in list_inputs(inputs)]


def _torch_device(device: str) -> torch.device:
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"--device {device}: this machine has no GPU that torch can use; type --device cpu.")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


def _readable(
    examples: Sequence[str] | Sequence[NamedText], *, spec: InputSpec | TextSpec, device: torch.device, on_unreadable: OnUnreadable
) -> list[tuple[list[tuple[str, str | None]], Any]]:
    """Some examples, batched: names and texts, and the inputs of the network; if one cannot be read, one by one, so that others are."""
    try:
        return _read_all(examples, spec, device)
    except DataError as error:
        if len(examples) == 1:
            name = examples[0] if isinstance(examples[0], str) else examples[0].name
            on_unreadable(name, error)
            return []
    return [
        batch
        for place in range(len(examples))
        for batch in _readable(examples[place : place + 1], spec=spec, device=device, on_unreadable=on_unreadable)
    ]


def _read_all(
    examples: Sequence[str] | Sequence[NamedText], spec: InputSpec | TextSpec, device: torch.device
) -> list[tuple[list[tuple[str, str | None]], Any]]:
    from holdfast.data import load_inputs, tokens_of
    from holdfast.types import InputSpec

    if isinstance(spec, InputSpec):
        images = load_inputs([str(path) for path in examples], spec, device)
        return [([(str(path), None) for path in files], batch) for files, batch in images]
    named = [example for example in examples if not isinstance(example, str)]
    tokens = []
    for example, found in zip(named, tokens_of([example.text for example in named], spec), strict=True):
        if isinstance(found, str):
            raise DataError(f"{example.name}: {found}.")
        tokens.append(found)
    batch = {name: tensor.to(device) for name, tensor in spec.tokenizer.batch(tokens).items()}
    return [([(example.name, example.text) for example in named], batch)]


def _classify(classifier: Classifier, classes: Sequence[str], named: Sequence[tuple[str, str | None]], inputs: Any) -> Iterator[Prediction]:
    """Predictions of a batch of images (B, 3, H, W), or of texts as token tensors (B, T)."""
    import torch

    with torch.inference_mode():
        probs = classifier(inputs).logits.float().softmax(dim=1)  # (B, K)
    top, index = (values.tolist() for values in probs.topk(2, dim=1))
    for (name, text), (first, second), (best, next_best) in zip(named, top, index, strict=True):
        yield Prediction(name, classes[best], first, classes[next_best], second, text)
