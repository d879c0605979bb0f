"""Files of a run, each replaced as a whole, with errors in words."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from holdfast.errors import CheckpointError, HoldfastError, RunError
from holdfast.run.files import atomic_write, disk_is_full, one_line

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CONFIG", "RunFiles", "resume_command"]

CONFIG = "config.yaml"


def resume_command(path: Path) -> str:
    """What to type to go on with the run at ``path``."""
    return f"holdfast fit --resume {shlex.quote(str(path))}"


class RunFiles:
    """A folder whose files are read and written by name; a process killed at any moment leaves their previous versions."""

    path: Path

    @property
    def resume_command(self) -> str:
        """What to type to go on with this run."""
        return resume_command(self.path)

    def has(self, name: str) -> bool:
        """Whether a file of the run, such as ``splits.json``, is there."""
        return (self.path / name).is_file()

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A stream whose content takes the place of a file of the run, such as ``checkpoint/state.pt``; see :func:`atomic_write`.

        Raises:
            RunError: The disk is full, or the file cannot be written.
        """
        target = self.path / name
        with self._explaining(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(target) as stream:
                yield stream

    @contextmanager
    def _explaining(self, target: Path) -> Iterator[None]:
        """Say in a sentence why a file cannot be written."""
        try:
            yield
        except HoldfastError:
            raise
        except Exception as error:
            if disk_is_full(error):
                raise RunError(f"no space left for {str(target)!r}; {self._after_full_disk()}") from error
            if isinstance(error, OSError):
                raise RunError(f"cannot write {str(target)!r}: {error.strerror or error}") from error
            raise

    def save_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Store tensors as a safetensors file of the run, such as ``checkpoint/epoch-00001.safetensors``."""
        import safetensors.torch

        # Tied weights share memory, which the format refuses: each name gets a copy of its own.
        own = {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in tensors.items()}
        with self.writing(name) as stream:
            stream.write(safetensors.torch.save(own, metadata={"format": "pt"}))

    def load_tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of a safetensors file of the run, on the CPU.

        Raises:
            RunError: There is no such file.
            CheckpointError: It is damaged.
        """
        import safetensors
        import safetensors.torch

        self._must_have(name)
        try:
            return safetensors.torch.load_file(self.path / name)
        except (safetensors.SafetensorError, OSError) as error:
            raise CheckpointError(f"{str(self.path / name)!r} is damaged: {one_line(error)}") from error

    def _after_full_disk(self) -> str:
        if self.has(CONFIG):
            return f"nothing was lost: free space and type `{self.resume_command}`"
        return "the run had not begun: free space and start it again"

    def _write(self, name: str, text: str) -> None:
        with self.writing(name) as stream:
            stream.write(text.encode())

    def _must_have(self, name: str) -> None:
        if not self.has(name):
            raise RunError(f"{str(self.path)!r} has no {name}")

    def _damaged(self, name: str, reason: str) -> RunError:
        return RunError(f"{str(self.path / name)!r} is damaged: {reason}")

    def _read(self, name: str) -> str:
        self._must_have(name)
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise self._damaged(name, "it is not UTF-8 text") from error
        except OSError as error:
            raise RunError(f"cannot read {str(self.path / name)!r}: {error.strerror}") from error

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads(self._read(name))
        except json.JSONDecodeError as error:
            raise self._damaged(name, one_line(error)) from error
        if not isinstance(value, dict):
            raise self._damaged(name, "expected keys with values")
        return value
