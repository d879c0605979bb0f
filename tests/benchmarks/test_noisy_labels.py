"""Which runs make up the experiment on wrong labels, how it goes on where it stopped, and how its tables are counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from benchmarks.noisy_cells import CONSTRAINT, DATASETS, METHODS, NO_CONSTRAINT, PUBLISHED, SEEDS, Cell, Dataset, cells, chosen_cells
from benchmarks.noisy_summary import MEASURED, difference, read, spread, summary
from benchmarks.noisy_tables import Tables

from benchmarks import noisy_labels
from holdfast.config.layers import keywords
from holdfast.config.load import resolve
from holdfast.errors import ModelError
from holdfast.labels import empirical_transition
from holdfast.labels.arrays import IntArray
from holdfast.labels.examples import Examples, read_examples


def finish(path: Path, accuracy: dict[str, float], *, memorised: float = 0.0, loss: str = "plain", **moved: float) -> None:
    path.mkdir(parents=True)
    noise = {"memorised": memorised, "corrected": 0.9 - memorised, "other": 0.1}
    selections = [{"by": by, "test": {"accuracy": value}} for by, value in accuracy.items()]
    (path / "result.json").write_text(json.dumps({"selections": selections, "noise": noise}))
    (path / "config.yaml").write_text(yaml.safe_dump({"method": [{"name": loss}]}))
    (path / MEASURED).write_text(json.dumps({"hessian_distance": 1.0, "distance": 2.0, "cpu_seconds": 60.0, **moved}))


MODELS = {"minilm": "hf:somewhere"}


# ---------------------------------------------------------------------------------------------------------------------- cells


def test_every_cell_is_a_run_that_can_be_made() -> None:
    assert len({cell.folder for cell in cells()}) == len(list(cells()))
    for cell in (cell for cell in cells() if cell.seed == 2 and cell.noise == DATASETS[cell.data].noises[0]):
        options = cell.options(Path("table.csv"), MODELS.get(DATASETS[cell.data].model, "demo:glyphnet"), None)
        config = resolve([keywords({**options, "out": "somewhere"})])
        assert (config.seed, config.select, config.data) == (cell.seed, "last", "table.csv")


def test_the_three_seeds_of_each_method_are_cells() -> None:
    found = Counter((cell.data, cell.noise, cell.method) for cell in cells())
    assert set(found.values()) == {len(SEEDS)} == {3}
    assert {(name, noise) for name, noise, _ in found} == {(name, noise) for name, data in DATASETS.items() for noise in data.noises}


def test_the_recipe_is_taken_apart_into_its_two_halves() -> None:
    def methods(name: str) -> list[dict[str, Any]]:
        return resolve([keywords({**Cell("digits", "pair-40", name, 0).options(Path("t.csv"), "demo:glyphnet", None), "out": "o"})]).methods

    assert methods("constraint") == methods("robust")  # the correction is not decided before the matrix is known
    assert "labels" not in METHODS["constraint"]
    distance = {method["name"]: method for method in methods("correction")}["distance"]
    assert float(distance["ratio"]) == NO_CONSTRAINT["ratio"]
    assert distance["head_radius"] == "none"
    assert {key: value for key, value in NO_CONSTRAINT.items() if key != "ratio"} == CONSTRAINT


def test_what_is_published_are_whole_groups_in_order() -> None:
    published = chosen_cells(PUBLISHED)
    assert [cell.data for cell in published if cell.method == "plain" and cell.seed == 0] == [
        *["digits"] * 5,
        "trec",
        "hymenoptera",
        "cars98a",
    ]
    groups = Counter((cell.data, cell.noise) for cell in published)
    assert groups == {group: count for group, count in Counter((cell.data, cell.noise) for cell in cells()).items() if group in groups}


def test_patterns_choose_each_cell_once() -> None:
    assert chosen_cells(["digits/pair-40/plain/1", "digits/pair-40/plain/*"]) == [
        Cell("digits", "pair-40", "plain", seed) for seed in (1, 0, 2)
    ]
    with pytest.raises(SystemExit, match="--cells digit/\\*: this names no cell; they are called digits/symmetric-20/plain/0"):
        chosen_cells(["digit/*"])


# --------------------------------------------------------------------------------------------------------------------- tables


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def questions(tmp_path: Path) -> Tables:
    votes = [{"a": "y"}, {"a": "y", "b": "x"}, {}, {"a": "y", "b": "y", "c": "x"}]
    rows = [{"split": "train", "text": f"t{i}", "label": "x", "votes": vote} for i, vote in enumerate(votes)]
    rows += [
        {"split": split, "text": f"{split}{i}", "label": "xy"[i], "votes": {"a": "y"}} for split in ("valid", "test") for i in range(2)
    ]
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "trec.jsonl", rows)
    return Tables(tmp_path / "tables", tmp_path / "data")


def test_voted_labels_replace_those_of_train_alone_and_ties_are_left_out(questions: Tables) -> None:
    found = read_examples(str(questions.table(Cell("trec", "votes", "plain", 0))))
    assert list(zip(found.texts or (), found.labels, found.columns["true_label"], strict=True)) == [
        *(("t0", "y", "x"), ("t3", "y", "x")),
        *(("valid0", "x", "x"), ("valid1", "y", "y")),
        *(("test0", "x", "x"), ("test1", "y", "y")),
    ]
    assert questions.table(Cell("trec", "votes", "gce", 2)) == questions.table(Cell("trec", "votes", "plain", 0))


@pytest.fixture
def many_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tables:
    rows = [
        {"split": split, "text": f"{split}{i}", "label": "abcd"[i % 4]} for split, n in (("train", 400), ("test", 40)) for i in range(n)
    ]
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "many.jsonl", rows)
    monkeypatch.setitem(DATASETS, "many", Dataset("many.jsonl", "none", ("symmetric-40", "pair-40"), {}))
    return Tables(tmp_path / "tables", tmp_path / "data")


def labels_of(examples: Examples, split: str, column: str = "label") -> IntArray:
    chosen = examples.in_split(split)
    return np.array(["abcd".index(name) for name, here in zip(examples.columns[column], chosen, strict=True) if here])


def test_injected_noise_is_that_of_the_name_and_spares_test(many_texts: Tables) -> None:
    found = read_examples(str(many_texts.table(Cell("many", "pair-40", "plain", 0))))
    assert labels_of(found, "test").tolist() == labels_of(found, "test", "true_label").tolist()
    for split, within in (("train", 0.08), ("val", 0.25)):
        matrix = empirical_transition(labels_of(found, split, "true_label"), labels_of(found, split), 4)
        assert matrix.diagonal().mean() == pytest.approx(0.6, abs=within)
        assert [matrix[k, (k + 1) % 4] for k in range(4)] == pytest.approx(1 - matrix.diagonal())


def test_seeds_differ_in_noise_and_share_splits(many_texts: Tables) -> None:
    one, other = (read_examples(str(many_texts.table(Cell("many", "symmetric-40", "plain", seed)))) for seed in (0, 1))
    assert (one.ids, one.splits) == (other.ids, other.splits)
    assert one.labels != other.labels


def test_data_that_are_not_there_are_named(tmp_path: Path) -> None:
    assert Tables(tmp_path, None).missing("digits") is None
    assert Tables(tmp_path, None).missing("trec") == "--data is not given"
    (tmp_path / "cars98a").mkdir()
    assert Tables(tmp_path, tmp_path).missing("cars98a") == f"{tmp_path} lacks mobilenetv1_025_imagenet.safetensors"


# ----------------------------------------------------------------------------------------------------------------------- runs


class Fits:
    """Stands for ``holdfast.fit``, and notes how it was called."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, **options: Any) -> None:
        self.calls.append(options)
        path = Path(options.get("out") or options["resume"])
        if options.get("method") == "gce":
            raise ModelError("the loss is not finite")
        (path / MEASURED).unlink(missing_ok=True)
        path.mkdir(parents=True, exist_ok=True)
        (path / "result.json").write_text("{}")


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    found = Fits()
    monkeypatch.setattr("holdfast.fit", found, raising=False)
    monkeypatch.setattr(noisy_labels, "measured", lambda path, examples: {"hessian_distance": 1.0, "distance": float(examples)})
    monkeypatch.setattr(Tables, "table", lambda self, cell: Path("table.csv"))
    return found


CHOSEN = [Cell("digits", "pair-40", method, 0) for method in ("plain", "elr", "gce", "mixup")]


def test_finished_runs_stay_killed_ones_go_on_and_one_that_fails_stops_nothing(
    fits: Fits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, elr, gce, mixup = (tmp_path / cell.folder for cell in CHOSEN)
    finish(plain, {})
    elr.mkdir(parents=True)
    (elr / "config.yaml").touch()
    failed = noisy_labels.run_all(CHOSEN, Tables(tmp_path, None), tmp_path, budget=1e9)
    assert [call.get("out", "resumed") for call in fits.calls] == ["resumed", gce, mixup]
    assert fits.calls[0] == {"resume": elr}
    assert failed == {CHOSEN[2]: "failed: the loss is not finite"}
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [cell.folder for cell in CHOSEN[1:]]
    assert json.loads((mixup / MEASURED).read_text())["distance"] == DATASETS["digits"].measured
    noisy_labels.run_all(CHOSEN, Tables(tmp_path, None), tmp_path, budget=1e9)
    assert [call["out"] for call in fits.calls[3:]] == [gce]


def test_nothing_is_started_after_the_budget_or_without_its_data(fits: Fits, tmp_path: Path) -> None:
    noisy_labels.run_all(CHOSEN, Tables(tmp_path, None), tmp_path, budget=0.0)
    noisy_labels.run_all(chosen_cells(["trec/*"]), Tables(tmp_path, None), tmp_path, budget=1e9)
    assert not fits.calls


def test_the_table_of_what_is_there_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path / Cell("digits", "pair-40", "plain", 0).folder, {"val-accuracy": 0.5, "last": 0.4})
    noisy_labels.main(["--out", str(tmp_path), "--budget", "0", "--cells", "digits/pair-40/*"])
    text = (tmp_path / "table.md").read_text()
    assert text in capsys.readouterr().out
    assert text.startswith(f"1 of {len(list(cells()))} runs, 1 minutes of the processor for training.")
    assert "digits, pair-40 (29)" in text
    noisy_labels.main(["--out", str(tmp_path), "--list", "--cells", "digits/pair-40/plain/*"])
    assert capsys.readouterr().out.splitlines() == [
        "digits/pair-40/plain/0: finished",
        "digits/pair-40/plain/1: not run",
        "digits/pair-40/plain/2: not run",
    ]


# -------------------------------------------------------------------------------------------------------------------- summary


def test_noisy_validation_is_corrected_where_there_is_a_matrix(tmp_path: Path) -> None:
    finish(tmp_path / "a", {"last": 0.1, "val-accuracy": 0.2, "val-corrected": 0.3, "clean-val": 0.4}, loss="forward", memorised=0.25)
    finish(tmp_path / "b", {"last": 0.1, "val-accuracy": 0.2})
    found, other = read(tmp_path / "a"), read(tmp_path / "b")
    assert found is not None
    assert other is not None
    assert (found.selected, found.last, found.clean_val, found.memorised, found.loss) == pytest.approx((30, 10, 40, 25, "forward"))
    assert (other.selected, other.clean_val) == (20, 20)
    assert read(tmp_path / "c") is None


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    runs: dict[str, dict[int, Any]] = {}
    for name, values in {"plain": (0.1, 0.5, 0.9), "other": (0.12, 0.53, 0.94)}.items():
        for seed, value in enumerate(values):
            finish(tmp_path / name / str(seed), {"last": value, "val-accuracy": value})
            runs.setdefault(name, {})[seed] = read(tmp_path / name / str(seed))
    # Differences 2, 3, 4: mean 3, standard error 1/√3, and 4.303 of them to either side.
    assert difference(runs["other"], runs["plain"], lambda found: found.last) == "**+3.0 (+0.5 to +5.5)**"
    assert difference({2: runs["other"][2], 7: runs["other"][0]}, runs["plain"], lambda found: found.last) == "–"
    assert difference(runs["plain"], runs["plain"], lambda found: found.last) == "–"


def test_a_spread_is_the_standard_deviation_over_seeds() -> None:
    assert spread([1.0, 2.0, 3.0]) == "2.0 ± 1.0"
    assert spread([1.0], 2) == "1.00"


def test_tables_have_a_row_for_each_method_and_say_what_is_missing(tmp_path: Path) -> None:
    group = [cell for cell in cells() if (cell.data, cell.noise) == ("digits", "pair-40")]
    for cell in group:
        if cell.method in ("plain", "robust") and cell.seed < 2:
            loss = "label-smoothing" if cell.method == "robust" and cell.seed else "forward"
            accuracy = 0.5 + 0.1 * (cell.method == "robust") + 0.01 * cell.seed
            finish(tmp_path / cell.folder, {"last": accuracy, "val-accuracy": accuracy}, loss=loss, hessian_distance=float(cell.seed))
    lines = summary(tmp_path, [*group, Cell("digits", "symmetric-20", "plain", 0)])
    assert lines[1] == "**digits, pair-40**"
    row = next(line for line in lines if line.startswith("| `robust` |"))
    assert row.startswith("| `robust` | 60.5 ± 0.7 | **+10.0 (+10.0 to +10.0)** |")
    assert row.endswith("| 0.50 ± 0.71 | 2.00 ± 0.00 | 2 |")
    assert "`robust` trained with label-smoothing in 1 of 2 runs." in lines
    assert any(line.startswith("| `mixup` | not run") for line in lines)
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert lines[-1] == "Not run: digits, pair-40 (26); digits, symmetric-20 (1)."
