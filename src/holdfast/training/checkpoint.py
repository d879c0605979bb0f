"""The last state of a run, for resuming, and the weights of the epochs a selection still points at.

Everything is written as a whole or not at all. A checkpoint names the weight files it relies on; those are written before it and
deleted only after a checkpoint that no longer names them, so a process killed at any moment leaves a consistent directory.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.errors import CheckpointError
from holdfast.run import Run

__all__ = ["drop_weights", "load_checkpoint", "load_weights", "random_state", "restore_random_state", "save_checkpoint", "save_weights"]

STATE = "checkpoint/state.pt"
SCHEMA = 2


def save_checkpoint(run: Run, state: Mapping[str, Any]) -> None:
    """Replace the last state."""
    with run.writing(STATE) as stream:
        torch.save({"schema": SCHEMA, **state}, stream)


def load_checkpoint(run: Run) -> dict[str, Any] | None:
    """The last state with tensors on the CPU, or None where the run has not got that far.

    Raises:
        CheckpointError: The file is damaged, or holds something other than tensors and plain values.
    """
    path = run.path / STATE
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        schema = state["schema"]
    except Exception as error:  # damaged bytes can fail in any way inside the unpickler
        raise CheckpointError(
            f"{str(path)!r} is damaged or no checkpoint ({type(error).__name__}), so this run cannot go on; "
            f"start it again: holdfast fit --config {run.path / 'config.yaml'} --out NEW"
        ) from error
    if schema != SCHEMA:
        raise CheckpointError(f"{str(path)!r} has schema {schema!r}, this holdfast reads {SCHEMA}; resume with the version that wrote it")
    return state


def save_weights(run: Run, epoch: int, form: str, state: Mapping[str, Tensor]) -> None:
    """Keep the network's weights after an epoch, ``form`` being ``raw`` or ``ema``."""
    run.save_tensors(_weights_name(epoch, form), state)


def load_weights(run: Run, epoch: int, form: str) -> dict[str, Tensor]:
    """The weights kept after an epoch."""
    return run.load_tensors(_weights_name(epoch, form))


def drop_weights(run: Run, keep: Collection[tuple[int, str]]) -> None:
    """Delete the weights of all epochs and forms but those in ``keep``."""
    wanted = {(run.path / _weights_name(epoch, form)).name for epoch, form in keep}
    for path in run.checkpoint_dir.glob("epoch-*.safetensors"):
        if path.name not in wanted:
            path.unlink(missing_ok=True)


def _weights_name(epoch: int, form: str) -> str:
    return f"checkpoint/epoch-{epoch:05d}-{form}.safetensors"


def random_state() -> dict[str, Any]:
    """The global generators of this process, which dropout and code of others draw from."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    _, python_keys, python_gauss = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "python": [list(python_keys), python_gauss],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Restore what :func:`random_state` gave."""
    torch.set_rng_state(state["torch"])
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    python_keys, python_gauss = state["python"]
    random.setstate((3, tuple(python_keys), python_gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
