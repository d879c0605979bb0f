"""Why transforms in the main process can be ten times slower beside busy processors: ``python -m benchmarks.contention``.

Milliseconds in which one process makes a batch of augmented photos, with one and with two threads of torch, on an idle machine and beside
one busy process for each processor (as workers, or another rank, are). ``torchvision`` is its classic recipe (RandomResizedCrop, flip,
ToTensor, Normalize on PIL images), ``holdfast`` the data pipeline of this project, in-process and without its cache. What is compared
takes turns. ``crop`` and ``ToTensor`` are these two parts of the classic recipe alone, for as many images as a batch has; ``step`` is a
training step of setting M with its batch already there.
Run it once more with ``OMP_WAIT_POLICY=PASSIVE`` in the environment to see what threads cost that wait in a loop.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from benchmarks.overhead import make_step
from benchmarks.settings import SETTINGS, describe_machine
from holdfast.config.schema import FitConfig
from holdfast.data import load_data
from holdfast.types import InputSpec

SIDE = 144
"""Of the photos in pixels, in front of a crop of 128."""

SIZE = 128


def write_photos(root: Path, count: int) -> list[Path]:
    """Smooth noise as JPEG files in two class folders."""
    generator = np.random.default_rng(0)
    files = []
    for number in range(count):
        file = root / "train" / "ab"[number % 2] / f"{number:03d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (SIDE // 8, SIDE // 8, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, quality=90)
        files.append(file)
    return files


def classic(files: list[Path]) -> Callable[[], Tensor]:
    """A batch by torchvision's classic recipe."""
    recipe = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    return lambda: torch.stack([recipe(Image.open(file).convert("RGB")) for file in files])


def ours(root: Path) -> Callable[[], Tensor]:
    """A batch by holdfast, decoded anew in this process."""
    config = FitConfig(data=str(root), cache="off", workers=0, augment="resized-crop", val_fraction=0.0)
    data = load_data(config, InputSpec(SIZE, (0.5,) * 3, (0.5,) * 3))
    return lambda: next(data.train_batches(epoch=0, seed=0, batch_size=data.size("train"))).inputs


@contextlib.contextmanager
def beside(busy: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run beside so many processes that only count."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        time.sleep(0.2 * bool(busy))  # until they count
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def milliseconds(call: Callable[[], object], repeats: int) -> list[float]:
    """Wall time of each call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return times


def measure(root: Path, *, count: int, repeats: int, blocks: int, busy: int) -> list[dict[str, object]]:
    """A row for each number of threads, idle and busy."""
    files = write_photos(root, count)
    image = Image.open(files[0]).convert("RGB").resize((SIZE, SIZE))
    crop, to_tensor = transforms.RandomResizedCrop(SIZE), transforms.ToTensor()
    calls = {
        "torchvision": classic(files),
        "holdfast": ours(root),
        "crop": lambda: [crop(image) for _ in files],
        "to_tensor": lambda: [to_tensor(image) for _ in files],
        "step": make_step(SETTINGS["M"], None, torch.device("cpu")),
    }
    threads_before = torch.get_num_threads()
    times: dict[tuple[int, int], dict[str, list[float]]] = {}
    for _ in range(blocks):
        for processes in (0, busy):
            with beside(processes):
                for threads in (1, 2):
                    torch.set_num_threads(threads)
                    cell = times.setdefault((processes, threads), {})
                    for name, call in calls.items():
                        cell.setdefault(name, []).extend(milliseconds(call, repeats))
    torch.set_num_threads(threads_before)
    return [
        {"busy_processes": processes, "threads": threads, "images": count}
        | {f"{name}_ms": round(statistics.median(values), 3) for name, values in cell.items()}
        for (processes, threads), cell in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64, help="in a batch, an even number")
    parser.add_argument("--repeats", type=int, default=3, help="batches in a block")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--busy", type=int, default=os.cpu_count(), help="busy processes beside")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), count=options.images, repeats=options.repeats, blocks=options.blocks, busy=options.busy)
    machine = {key: value for key, value in describe_machine(torch.device("cpu")).items() if key != "threads"}
    machine["omp_wait_policy"] = os.environ.get("OMP_WAIT_POLICY", "default")
    print(f"{SIDE} px photos, crops of {SIZE} px, {options.images} a batch; load of the machine {os.getloadavg()[0]:.1f}\n{machine}")
    print(f"{'busy':>4} {'threads':>7} {'torchvision':>12} {'holdfast':>12} {'crop':>9} {'ToTensor':>9} {'step':>9}   (ms)")
    for row in rows:
        print(
            f"{row['busy_processes']:>4} {row['threads']:>7} {row['torchvision_ms']:>12.1f} {row['holdfast_ms']:>12.1f} "
            f"{row['crop_ms']:>9.1f} {row['to_tensor_ms']:>9.1f} {row['step_ms']:>9.1f}"
        )
    if options.json:
        options.json.write_text(json.dumps([row | machine for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
