"""The benchmarks of loading, on networks and photos small enough to time in no time."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from benchmarks.settings import SETTINGS, Setting
from PIL import Image

from benchmarks import contention, loader

KEYS = {"data", "way", "augment", "setting", "steps", "loader_images_per_second", "step_images_per_second"}
KEYS |= {"epoch_ratio", "epoch_ratio_min", "epoch_ratio_max", "budget", "device", "threads", "python", "torch", "timm"}


def _small(setting: Setting, device: torch.device) -> torch.nn.Module:
    from holdfast.models.glyphnet import glyphnet

    return glyphnet(setting.num_classes).to(device)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with ten photos as ``cars98a``, and a small network for the setting."""
    for number in range(10):
        file = tmp_path / "home" / "cars98a" / "train" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 36), (20 * number, 0, 0)).save(file)
    monkeypatch.setenv("HOLDFAST_DATA", str(tmp_path / "home"))
    monkeypatch.setitem(SETTINGS, "M", Setting("M", "demo:glyphnet", 32, 4, 10))
    monkeypatch.setattr(Setting, "build", _small)
    return tmp_path / "home"


def test_loader_writes_a_row_for_each_way_and_dataset(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.json"
    words = f"loader --fraction 0.01 --epochs 2 --ways memory in-process --augment resized-crop --json {file}"
    monkeypatch.setattr(sys, "argv", words.split())
    loader.main()
    rows = json.loads(file.read_text())
    assert [(row["data"], row["way"], row["steps"]) for row in rows] == [
        ("demo:digits", "memory", 3),
        ("demo:digits", "in-process", 3),
        ("cars98a", "memory", 1),
        ("cars98a", "in-process", 1),
    ]
    for row in rows:
        assert set(row) == KEYS
        assert 0 < row["epoch_ratio_min"] <= row["epoch_ratio"] <= row["epoch_ratio_max"]
        assert row["loader_images_per_second"] > 0


def test_both_kinds_of_epoch_take_the_same_steps(home: Path) -> None:
    data = loader.load_data(loader.FitConfig(data=str(home / "cars98a"), val_fraction=0.0), loader.InputSpec(32, (0.5,) * 3, (0.5,) * 3))
    training = loader.Training(SETTINGS["M"], data, torch.device("cpu"))
    taken: list[tuple[int, ...]] = []
    training.step = lambda inputs, labels: taken.append(tuple(inputs.shape))  # type: ignore[method-assign]
    training.with_loading()
    assert taken == [(4, 3, 32, 32)] * 2
    training.without_loading()
    assert taken == [(4, 3, 32, 32)] * 4


def test_cars_are_unpacked_where_they_are_still_in_their_archive(home: Path, tmp_path: Path) -> None:
    assert loader.find_cars(home, tmp_path) == home / "cars98a"
    packed = tmp_path / "packed"
    packed.mkdir()
    assert loader.find_cars(packed, tmp_path) is None
    with tarfile.open(packed / "cars98a.tar", "w") as archive:
        archive.add(home / "cars98a", "cars98a")
    found = loader.find_cars(packed, tmp_path / "out")
    assert found is not None
    assert len(list(found.rglob("*.png"))) == 10


@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_contention_measures_one_and_two_threads_idle_and_beside_a_busy_process(tmp_path: Path) -> None:
    rows = contention.measure(tmp_path, count=2, repeats=1, blocks=1, busy=1)
    assert [(row["busy_processes"], row["threads"]) for row in rows] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert all(float(str(row[f"{name}_ms"])) > 0 for row in rows for name in ("torchvision", "holdfast", "crop", "to_tensor", "step"))
    assert torch.get_num_threads() == 1


def test_busy_processes_end_with_what_they_were_beside() -> None:
    with contention.beside(1) as processes:
        assert [process.poll() for process in processes] == [None]
    assert [process.poll() is None for process in processes] == [False]
