"""Digits of which two in five training labels are wrong, those of val too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.recipes.robust_runs import OPTIONS, Fit

import holdfast
from holdfast.config.schema import FitConfig
from holdfast.labels import inject_symmetric
from holdfast.labels.examples import read_examples, write_examples
from holdfast.run import Run


@pytest.fixture(scope="session")
def noisy_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with the columns ``label`` and ``true_label``."""
    examples = read_examples("demo:digits").with_splits(FitConfig(data="demo:digits"))
    true = examples.indices(examples.labels, examples.classes, "the label")
    rows = (examples.in_split("train") | examples.in_split("val")).nonzero()[0]
    noisy = inject_symmetric(true, 10, 0.4, seed=0, rows=rows)
    file = tmp_path_factory.mktemp("noisy") / "digits.csv"
    write_examples(str(file), examples, {"label": [examples.classes[label] for label in noisy.labels], "true_label": examples.labels})
    return file


@pytest.fixture
def fit(noisy_digits: Path, tmp_path: Path) -> Fit:
    """Fit into a folder of this test: ``fit("name", epochs=3)``."""

    def run(name: str = "run", **options: Any) -> Run:
        return holdfast.fit(noisy_digits, out=tmp_path / name, **{**OPTIONS, "labels": "robust", **options})

    return run
