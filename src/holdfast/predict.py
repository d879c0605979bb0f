"""Classes and confidences of images, by a finished run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.config.checks import check_device
from holdfast.errors import ConfigError, DataError
from holdfast.run import Run

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from holdfast.models.classifier import Classifier
    from holdfast.types import InputSpec

__all__ = ["Prediction", "find_images", "predict"]

BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """What a run says of one image.

    Args:
        input: Path of the image.
        label: The class with the largest softmax probability.
        confidence: That probability, as the network gives it.
        second: The class with the second largest.
        second_confidence: Its probability.
    """

    input: str
    label: str
    confidence: float
    second: str
    second_confidence: float


OnUnreadable = Callable[[str, DataError], None]


def _stop(path: str, error: DataError) -> None:
    raise error


def predict(
    run: Run | str | Path, inputs: Sequence[str | Path], *, device: str = "auto", on_unreadable: OnUnreadable = _stop
) -> Iterator[Prediction]:
    """Classify images.

    Args:
        run: A finished run.
        inputs: Image files, and folders that are searched for images.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        on_unreadable: Called with the path of an image that cannot be read and the reason; it is left out. By default the error is
            raised.

    Returns:
        One prediction for each readable image, in the order given; batches are read as they are asked for.

    Raises:
        DataError: An input does not exist, holds no image, or cannot be read.
        RunError: This is no finished run.
    """
    check_device(device, "device")
    paths = find_images(inputs)
    from holdfast.build import load_model

    target = _torch_device(device)
    classifier, classes, spec = load_model(run.path if isinstance(run, Run) else run)
    classifier.to(target)

    def predictions() -> Iterator[Prediction]:
        for start in range(0, len(paths), BATCH):
            for read, images in _readable(paths[start : start + BATCH], spec, target, on_unreadable):
                yield from _classify(classifier, classes, read, images)

    return predictions()


def find_images(inputs: Sequence[str | Path]) -> list[str]:
    """The image files among the inputs; folders are searched.

    Raises:
        DataError: An input does not exist, or a folder holds no image.
    """
    missing = [str(entry) for entry in inputs if not Path(entry).exists()]
    if missing:
        others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(f"{missing[0]}: no such file or folder{others}.")
    from holdfast.data import list_inputs

    return [str(path) for path in list_inputs(inputs)]


def _torch_device(device: str) -> torch.device:
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"--device {device}: this machine has no GPU that torch can use; type --device cpu.")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


def _readable(paths: list[str], spec: InputSpec, device: torch.device, on_unreadable: OnUnreadable) -> list[tuple[list[Path], Tensor]]:
    """The images of some paths, batched; if one cannot be read, one by one, so that the others are."""
    from holdfast.data import load_inputs

    try:
        return list(load_inputs(paths, spec, device))
    except DataError as error:
        if len(paths) == 1:
            on_unreadable(paths[0], error)
            return []
    return [batch for path in paths for batch in _readable([path], spec, device, on_unreadable)]


def _classify(classifier: Classifier, classes: Sequence[str], paths: Sequence[Path], images: Tensor) -> Iterator[Prediction]:
    """Predictions of a batch of images (B, 3, H, W)."""
    import torch

    with torch.inference_mode():
        probs = classifier(images).logits.float().softmax(dim=1)  # (B, K)
    top, index = (values.tolist() for values in probs.topk(2, dim=1))
    for path, (first, second), (best, next_best) in zip(paths, top, index, strict=True):
        yield Prediction(str(path), classes[best], first, classes[next_best], second)
