from __future__ import annotations

import argparse
import builtins
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from holdfast.errors import CheckpointError, ConfigError
from holdfast.models.pickle_scan import calls_in_pickle
from holdfast.models.weights import WeightsFile, read_weights

TENSORS = {"fc.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2)}


def read(path: Path) -> dict[str, torch.Tensor]:
    return read_weights(WeightsFile.given(str(path)))


class Payload:
    """Runs a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], argument: str) -> None:
        self.call = (function, (argument,))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return self.call


def zip_file(path: Path, payload: object) -> None:
    torch.save({"fc.weight": torch.ones(2), "note": payload}, path)


def legacy_file(path: Path, payload: object) -> None:
    torch.save({"fc.weight": torch.ones(2), "note": payload}, path, _use_new_zipfile_serialization=False)


def bare_pickle(path: Path, payload: object) -> None:
    path.write_bytes(pickle.dumps(payload))


@pytest.mark.parametrize("write", [zip_file, legacy_file, bare_pickle])
@pytest.mark.parametrize(("function", "name"), [(os.mkdir, "mkdir"), (builtins.exec, "exec")])
def test_a_pickle_with_code_is_refused_and_its_code_does_not_run(
    tmp_path: Path, write: Callable[[Path, object], None], function: Callable[..., Any], name: str
) -> None:
    trace = tmp_path / "trace"
    argument = str(trace) if function is os.mkdir else f"import os; os.mkdir({str(trace)!r})"
    path = tmp_path / "weights.pth"
    write(path, Payload(function, argument))

    with pytest.raises(CheckpointError, match=rf"weights.pth: the file contains code \(\w+\.{name}\) that would run.*convert it"):
        read(path)
    assert not trace.exists()

    with path.open("rb") as stream:  # the payload is a live one: an unsafe reader runs it
        torch.load(path, weights_only=False) if write is not bare_pickle else pickle.load(stream)
    assert trace.exists()


def test_a_whole_pickled_network_is_refused_by_the_name_of_its_class(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"contains code \(torch.nn.modules.linear.Linear\).*save model.state_dict\(\)"):
        read(tmp_path / "net.pth")


def test_scanning_finds_no_calls_in_files_of_tensors(tmp_path: Path) -> None:
    for number, legacy in enumerate((False, True)):
        path = tmp_path / f"{number}.pth"
        state = {
            "a": torch.ones(2, dtype=torch.bfloat16),
            "b": nn.Parameter(torch.ones(2)),
            "c": torch.ones(1).long(),
            "d": argparse.Namespace(x=1),
        }
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
        assert calls_in_pickle(path) == []


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors", "net.bin", "old.pt"])
def test_a_truncated_file_is_damaged_and_not_called_unsafe(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    tensors = {"weight": torch.ones(4000)}
    if name == "net.safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=name != "old.pt")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"is no complete (torch|safetensors) file.*truncated"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"\x00", b"<!DOCTYPE html><html>404</html>", bytes(range(256)) * 4, b"hello world, no weights"])
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_file_of_something_else_is_damaged(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="is no complete"):
        read(tmp_path / name)


def test_a_safetensors_file_is_known_by_its_content(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "weights.bin")
    assert read(tmp_path / "weights.bin").keys() == TENSORS.keys()


@pytest.mark.parametrize(
    "wrap", [lambda t: t, lambda t: {"state_dict": t, "epoch": 3}, lambda t: {"model": {"state_dict": t}}, lambda t: t | {"epoch": 3}]
)
def test_the_state_dict_is_taken_out_of_a_training_checkpoint(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    torch.save(wrap(TENSORS), tmp_path / "weights.pth")
    loaded = read(tmp_path / "weights.pth")
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[name], TENSORS[name]) for name in TENSORS)


def test_arguments_saved_along_do_no_harm(tmp_path: Path) -> None:
    torch.save({"model": TENSORS, "args": argparse.Namespace(lr=0.1)}, tmp_path / "weights.pth")
    assert read(tmp_path / "weights.pth").keys() == TENSORS.keys()


@pytest.mark.parametrize(("content", "found"), [({"epoch": 3}, "epoch"), ([1, 2], "a list"), (torch.ones(2), "a Tensor"), ({}, "nothing")])
def test_a_file_without_named_tensors_says_what_it_holds(tmp_path: Path, content: object, found: str) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=rf"holds no named tensors \(found {found}\)"):
        read(tmp_path / "weights.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_named(tmp_path: Path, value: float) -> None:
    save_file(TENSORS | {"layer.weight": torch.tensor([1.0, value])}, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"the tensor 'layer.weight' contains NaN or infinity"):
        read(tmp_path / "weights.safetensors")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--weights .*none.pth: there is no such file"):
        read(tmp_path / "none.pth")
    with pytest.raises(ConfigError, match="this is a folder"):
        read(tmp_path)
