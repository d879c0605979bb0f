"""Whether input is ever the bottleneck: ``python -m benchmarks.loader``.

For each dataset and way of loading: images a second that the loader alone delivers, images a second that a training step with the batch
already there consumes, and the seconds of an epoch with real loading over those of as many steps with the batch already there. The two
kinds of epoch take turns in one process. The step is forward, cross-entropy, backward and SGD with Nesterov momentum.

The photos are those of ``cars98a`` in ``$HOLDFAST_DATA`` (default ``../shared/data``), a folder or a tar archive; left out where absent.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.settings import SETTINGS, Setting, describe_machine
from benchmarks.timing import interleave, seconds
from holdfast.config.schema import FitConfig
from holdfast.data import RunData, load_data
from holdfast.types import InputSpec

BUDGET = 1.05
"""Largest ratio of epochs that is no bottleneck."""


@dataclass(frozen=True)
class Way:
    """How images get from their files to a batch."""

    name: str
    cache: Literal["memory", "off"]
    workers: int


WAYS = {
    way.name: way
    for way in (
        Way("memory", "memory", 0),
        Way("workers-2", "off", 2),
        Way("in-process", "off", 0),
    )
}
"""By name: decoded once and kept in memory; decoded anew by two worker processes; decoded anew between the steps."""

Augment = Literal["crop", "resized-crop", "none"]
AUGMENTATIONS: tuple[Augment, ...] = ("crop", "resized-crop")


class Training:
    """A training step of a setting, and epochs of it with and without loading."""

    def __init__(self, setting: Setting, data: RunData, device: torch.device) -> None:
        self.data = data
        self.device = device
        self.batch_size = setting.batch_size
        self.steps = data.steps_per_epoch(setting.batch_size)
        self._mixed = setting.precision == "bf16"
        self._net = setting.build(device).train()
        self._optimizer = torch.optim.SGD(self._net.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
        self._epoch = 0
        first = next(iter(data.train_batches(epoch=0, seed=0, batch_size=self.batch_size, device=device)))
        self._there: tuple[Tensor, Tensor] = (first.inputs, first.labels)

    def step(self, inputs: Tensor, labels: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._mixed):
            loss = F.cross_entropy(self._net(inputs), labels)
        loss.backward()
        self._optimizer.step()

    def load(self, use: Callable[[Tensor, Tensor], object] = lambda inputs, labels: None) -> None:
        """An epoch with real loading."""
        self._epoch += 1
        for batch in self.data.train_batches(epoch=self._epoch, seed=0, batch_size=self.batch_size, device=self.device):
            use(batch.inputs, batch.labels)

    def with_loading(self) -> None:
        self.load(self.step)

    def without_loading(self) -> None:
        for _ in range(self.steps):
            self.step(*self._there)


def measure(
    setting: Setting, spec: str, way: Way, augment: Augment, device: torch.device, *, epochs: int, fraction: float
) -> dict[str, object]:
    """One row."""
    options = FitConfig(data=spec, cache=way.cache, workers=way.workers, augment=augment, val_fraction=0.0, train_fraction=fraction)
    data = load_data(options, InputSpec(setting.image_size, (0.5,) * 3, (0.5,) * 3))
    training = Training(setting, data, device)
    images = training.steps * min(training.batch_size, data.size("train"))
    alone = [seconds(training.load, device) for _ in range(epochs + 1)][1:]  # the first starts the workers
    ratio = interleave(training.without_loading, training.with_loading, device, steps=2, blocks=max(1, epochs // 2), warmup=1)
    return {
        "data": Path(spec).name,
        "way": way.name,
        "augment": augment,
        "setting": str(setting),
        "steps": training.steps,
        "loader_images_per_second": round(images / statistics.median(alone)),
        "step_images_per_second": round(images / ratio.base_seconds),
        "epoch_ratio": round(ratio.ratio, 4),
        "epoch_ratio_min": round(ratio.low, 4),
        "epoch_ratio_max": round(ratio.high, 4),
        "budget": BUDGET,
        **describe_machine(device),
    }


def find_cars(folder: Path, unpacked: Path) -> Path | None:
    """The folder ``cars98a``, out of its archive where it is still packed; None where there is neither."""
    if (folder / "cars98a").is_dir():
        return folder / "cars98a"
    if not (folder / "cars98a.tar").is_file():
        return None
    with tarfile.open(folder / "cars98a.tar") as archive:
        archive.extractall(unpacked, filter="data")
    return unpacked / "cars98a"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", default="M", choices=list(SETTINGS))
    parser.add_argument("--data", nargs="+", default=["demo:digits", "cars98a"])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--augment", nargs="+", default=list(AUGMENTATIONS), choices=AUGMENTATIONS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=6, help="timed epochs of each kind, an even number")
    parser.add_argument("--fraction", type=float, default=1.0, help="share of the training images, for a quick look")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device, setting = torch.device(options.device), SETTINGS[options.setting]
    home = Path(os.environ.get("HOLDFAST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    print(f"{setting}\n{describe_machine(device)}")
    print(f"{'data':12} {'way':11} {'augment':13} {'loader':>8} {'step':>8} {'epoch':>7} {'min':>7} {'max':>7}")
    rows = []
    with tempfile.TemporaryDirectory() as unpacked:
        for name in options.data:
            spec = find_cars(home, Path(unpacked)) if name == "cars98a" else name
            if spec is None:
                print(f"{name}: not in {home}; set HOLDFAST_DATA to its folder")
                continue
            for augment in options.augment:
                for way in options.ways:
                    row = measure(setting, str(spec), WAYS[way], augment, device, epochs=options.epochs, fraction=options.fraction)
                    rows.append(row)
                    print(
                        f"{row['data']:12} {row['way']:11} {row['augment']:13} {row['loader_images_per_second']:>6}/s "
                        f"{row['step_images_per_second']:>6}/s {row['epoch_ratio']:7.3f} {row['epoch_ratio_min']:7.3f} "
                        f"{row['epoch_ratio_max']:7.3f}",
                        flush=True,
                    )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
