"""Our training loop against a bare PyTorch loop: ``python -m benchmarks.loop --settings M S``.

Both fine-tune the same network on the same augmented batches of ``demo:digits`` (enlarged), forward, cross-entropy, backward and SGD
with Nesterov momentum. The bare loop is written out below; it takes its turn after each epoch of ``holdfast.fit``, in the same
process, so that a slow moment of the machine hits both. Validation and checkpoints lie between the timed epochs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.settings import SETTINGS, Setting, describe_machine
from benchmarks.timing import seconds
from holdfast import fit
from holdfast.config.schema import FitConfig
from holdfast.data import load_data
from holdfast.training.events import EpochDone, Event
from holdfast.types import InputSpec

BUDGET = 1.02


class BareLoop:
    """What someone would write without holdfast."""

    def __init__(self, setting: Setting, device: torch.device) -> None:
        spec = InputSpec(setting.image_size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.data = load_data(FitConfig(data="demo:digits"), spec)
        self.device = device
        self.setting = setting
        self.net = setting.build(device)
        self.net.reset_classifier(len(self.data.classes))
        self.net.to(device).train()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9, nesterov=True)
        self.mixed = setting.precision == "bf16"

    def epoch(self, number: int) -> None:
        batches = self.data.train_batches(epoch=number, seed=0, batch_size=self.setting.batch_size, device=self.device)
        for batch in batches:
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
                loss = F.cross_entropy(self.net(batch.inputs), batch.labels)
            loss.backward()
            self.optimizer.step()


def measure(setting: Setting, device: torch.device, epochs: int) -> dict[str, object]:
    """The row of one setting."""
    bare = BareLoop(setting, device)
    bare.epoch(0)
    ours: list[float] = []
    theirs: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, EpochDone):
            ours.append(float(event.row["seconds"] or 0))
            theirs.append(seconds(lambda: bare.epoch(event.epoch), device))

    with tempfile.TemporaryDirectory() as folder:
        fit(
            "demo:digits",
            model=setting.model,
            weights="random",
            image_size=setting.image_size,
            batch_size=setting.batch_size,
            precision=setting.precision,
            channels_last="off",  # as the bare loop
            epochs=epochs + 1,
            device=str(device),
            out=Path(folder) / "run",
            listener=listen,
        )
    ratios = [a / b for a, b in zip(ours[1:], theirs[1:], strict=True)]  # the first epoch warms up
    return {
        "setting": str(setting),
        "ratio": round(statistics.median(ratios), 4),
        "ratio_min": round(min(ratios), 4),
        "ratio_max": round(max(ratios), 4),
        "floor": 1.0,
        "budget": BUDGET,
        "bare_seconds_per_epoch": round(statistics.median(theirs[1:]), 3),
        "epochs": epochs,
        **describe_machine(device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=["M", "S"], choices=["S", "M", "G", "V"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, help="instead of the setting's")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = []
    for name in options.settings:
        setting = SETTINGS[name]
        if options.batch_size:
            setting = dataclasses.replace(setting, batch_size=options.batch_size)
        row = measure(setting, torch.device(options.device), options.epochs)
        rows.append(row)
        print(f"{row['setting']}: ratio {row['ratio']} ({row['ratio_min']} to {row['ratio_max']}), budget {BUDGET}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
