"""Read a weights file as data: safetensors, or a torch file through the safe unpickler. No code in a file is ever run."""

from __future__ import annotations

import argparse
import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from holdfast.errors import CheckpointError, ConfigError
from holdfast.models.pickle_scan import calls_in_pickle

__all__ = ["WeightsFile", "read_weights"]

NESTED = ("state_dict", "model", "model_state_dict", "net")
"""Entries under which training scripts keep the state dict of the network."""


@dataclass(frozen=True)
class WeightsFile:
    """A file with pretrained weights.

    Args:
        path: Where it is.
        label: What to call it in messages, as ``--weights resnet.pth``.
        hub: Where it came from, if from a hub: repository id or URL.
    """

    path: Path
    label: str
    hub: str | None = None

    @classmethod
    def given(cls, typed: str) -> WeightsFile:
        """The file that the user named.

        Raises:
            ConfigError: It is not there, or no file.
        """
        path = Path(typed).expanduser()
        if not path.is_file():
            what = "this is a folder" if path.is_dir() else "there is no such file"
            raise ConfigError(f"--weights {typed}: {what}; give a safetensors or torch file, or 'random' to start from nothing")
        return cls(path, f"--weights {typed}")

    def sha256(self) -> str:
        """SHA-256 of the file."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def read_weights(file: WeightsFile) -> dict[str, Tensor]:
    """The tensors of a weights file by name, on the CPU.

    A checkpoint of a training script is unwrapped: of its entries only the state dict of the network is used.

    Raises:
        CheckpointError: The file is damaged, contains code, holds no tensors, or a tensor in it is not finite.
    """
    tensors = _state_dict(_load(file), file)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{file.label}: the tensor {name!r} contains NaN or infinity; use weights of an earlier, healthy state")
    return tensors


def _load(file: WeightsFile) -> Any:
    try:
        with file.path.open("rb") as stream:
            start = stream.read(9)
    except OSError as error:
        raise CheckpointError(f"{file.label}: the file cannot be read ({error.strerror})") from error
    # A safetensors file begins with the length of its JSON header; torch files are zip archives or, if old, pickles.
    if file.path.suffix == ".safetensors" or start[8:9] == b"{":
        return _load_safetensors(file)
    return _load_torch(file)


def _load_safetensors(file: WeightsFile) -> dict[str, Tensor]:
    try:
        return load_file(file.path)
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{file.label}: this is no complete safetensors file ({reason}); it may be truncated: copy or download it again"
        ) from error


def _load_torch(file: WeightsFile) -> Any:
    try:
        # Training scripts of timm and others save their arguments along; a Namespace is plain data.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # about pickle versions, of files that are refused anyway
            return torch.load(file.path, map_location="cpu", weights_only=True)
    # Damaged bytes can fail in any way inside the unpickler.
    except Exception as error:
        code = calls_in_pickle(file.path)
        if not code:
            raise CheckpointError(
                f"{file.label}: this is no complete torch file; it may be truncated: copy or download it again"
            ) from error
        raise CheckpointError(
            f"{file.label}: the file contains code ({code[0]}) that would run when it is loaded, so it was refused; "
            "where you trust it, convert it: save model.state_dict() with safetensors.torch.save_file"
        ) from error


def _state_dict(loaded: Any, file: WeightsFile) -> dict[str, Tensor]:
    """The network's tensors, from the outermost nested entry that has some."""
    if isinstance(loaded, Mapping):
        for key in NESTED:
            if isinstance(loaded.get(key), Mapping):
                return _state_dict(loaded[key], file)
        tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    found = ", ".join(str(name) for name in list(loaded)[:5]) if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
    raise CheckpointError(f"{file.label}: the file holds no named tensors (found {found or 'nothing'}); save model.state_dict()")
