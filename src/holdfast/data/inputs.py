"""Images to predict: files and folders, labelled or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from holdfast.data.decode import decode_image
from holdfast.data.folder import walk_images
from holdfast.data.memory import cpu_count
from holdfast.data.normalize import Normalizer
from holdfast.data.views import eval_view
from holdfast.errors import DataError
from holdfast.types import InputSpec

__all__ = ["list_inputs", "load_inputs"]

_MOST_THREADS = 16


def list_inputs(paths: Sequence[str | Path]) -> list[Path]:
    """The image files that ``paths`` name: files as they are, folders with all images in and below them, sorted.

    Raises:
        DataError: A path does not exist, or a folder holds no image.
    """
    return [file for path in map(Path, paths) for file in _expand(path)]


def load_inputs(
    paths: Sequence[str | Path], input_spec: InputSpec, device: torch.device | str = "cpu", *, batch_size: int = 64
) -> Iterator[tuple[list[Path], Tensor]]:
    """Files and their normalised eval views, batch by batch.

    The paths are checked at once, the images when their batch is due.

    Args:
        paths: Files and folders.
        input_spec: Images that the network expects.
        device: Where the images go.
        batch_size: Images per batch.

    Returns:
        Pairs of B files and images (B, 3, S, S), float32.

    Raises:
        DataError: A path does not exist, a folder holds no image, or an image cannot be read; the message names it.
    """
    return _read(list_inputs(paths), input_spec, torch.device(device), batch_size)


def _read(files: list[Path], spec: InputSpec, device: torch.device, batch_size: int) -> Iterator[tuple[list[Path], Tensor]]:
    normalize = Normalizer(spec)
    with ThreadPoolExecutor(min(_MOST_THREADS, cpu_count())) as pool:
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            views = list(pool.map(lambda file: eval_view(decode_image(file), spec.size), batch))
            yield batch, normalize(torch.stack(views).to(device))


def _expand(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder; expected an image or a folder of images.")
    if not path.is_dir():
        return [path]
    files = sorted(path / image for image in walk_images(path, ""))
    if not files:
        raise DataError(f"{path}: there is no image in this folder.")
    return files
