"""``holdfast.average``: what is averaged with what, what is chosen by what, and what is written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.averaging.conftest import Make

import holdfast
from holdfast import build
from holdfast.averaging import averages as made
from holdfast.averaging.averages import all_averages, greedy, stock, wise_ft
from holdfast.averaging.bench import Bench
from holdfast.averaging.functional import interpolate, mean_weights
from holdfast.averaging.paired import paired_accuracies
from holdfast.averaging.record import AverageRow, Averages, Group, SingleRun, read_averages
from holdfast.averaging.runs import best_of, read_ingredients
from holdfast.compare.statistics import holm
from holdfast.errors import ConfigError, RunError
from holdfast.run import Run
from holdfast.training.evaluate import Predictions

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def parameters(weights: Any) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in weights.items() if not name.endswith(STATISTICS)}


@pytest.fixture(scope="module")
def found(plain: list[Run], probed: list[Run], tmp_path_factory: pytest.TempPathFactory) -> tuple[Averages, Path]:
    """Averages of both methods, and their directory."""
    out = tmp_path_factory.mktemp("averages") / "out"
    return holdfast.average({"plain": plain, "lp-ft": probed}, out=out, device="cpu"), out


@pytest.fixture
def bench(plain: list[Run]) -> Bench:
    return Bench(plain[0], device="cpu")


class Scores:
    """In place of validation: the accuracy of weights as a function of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, score: Any) -> None:
        self.splits: list[str] = []

        def predict(bench: Bench, weights: Any, split: str) -> Predictions:
            self.splits.append(split)
            right = round(100 * score(weights))
            logits = torch.zeros(100, 3)
            logits[torch.arange(100), (torch.arange(100) >= right).long()] = 1.0
            return Predictions(logits, torch.zeros(100, dtype=torch.int64), torch.arange(100))

        monkeypatch.setattr(Bench, "predict", predict)


def test_every_method_has_its_averages_and_all_methods_one_soup(found: tuple[Averages, Path]):
    rows = found[0].groups[0].averages
    kinds = ["wise-ft", "greedy-soup", "model-stock"]
    assert [(row.kind, row.methods) for row in rows] == [
        *((kind, ("plain",)) for kind in kinds),
        *((kind, ("lp-ft",)) for kind in kinds),
        ("greedy-soup", ("plain", "lp-ft")),
    ]
    assert found[0].evaluations > 20


def test_wise_ft_goes_from_the_probed_start_to_the_run_in_a_line(bench: Bench, plain: list[Run], monkeypatch: pytest.MonkeyPatch):
    (ingredient,) = read_ingredients([("plain", plain[0])])
    start, end = bench.probed_start(), ingredient.weights()
    asked: list[Any] = []
    ingredient = dataclasses.replace(ingredient, val=ingredient.val | {"accuracy": 0.5})
    Scores(monkeypatch, lambda weights: asked.append(weights) or (0.9 if len(asked) == 4 else 0.1))
    averaged = wise_ft(bench, ingredient)
    assert len(asked) == 10  # of eleven shares the last is the run as it is
    assert averaged.details["share"] == 0.6
    torch.testing.assert_close(parameters(averaged.weights), parameters(interpolate(start, end, 0.6)))
    assert [point["share"] for point in averaged.details["curve"]] == [step / 10 for step in range(11)]
    last = {name: tensor for name, tensor in asked[-1].items() if tensor.is_floating_point()}
    torch.testing.assert_close(last, {name: start[name] for name in last})


def test_of_equal_points_the_one_nearest_to_the_run_is_taken(bench: Bench, plain: list[Run], monkeypatch: pytest.MonkeyPatch):
    (ingredient,) = read_ingredients([("plain", plain[0])])
    ingredient = dataclasses.replace(ingredient, val=ingredient.val | {"accuracy": 1.0, "nll": -1.0})
    Scores(monkeypatch, lambda weights: 1.0)
    averaged = wise_ft(bench, ingredient)
    assert (averaged.details["share"], averaged.is_single, averaged.val) == (1.0, True, ingredient.val)


def test_the_start_is_the_pretrained_backbone_with_the_head_of_the_probe(bench: Bench, plain: list[Run], probed: list[Run]):
    start = bench.probed_start()
    probe = Run.open(probed[0].path / "probe").load_weights()  # the same problem on the same images
    torch.testing.assert_close(dict(start), probe)


def test_a_soup_is_the_mean_of_its_members_with_statistics_of_its_own(bench: Bench, plain: list[Run], monkeypatch: pytest.MonkeyPatch):
    ingredients = [dataclasses.replace(one, val=one.val | {"accuracy": 0.3}) for one in read_ingredients([("plain", run) for run in plain])]
    Scores(monkeypatch, lambda weights: 0.3)  # as good as alone, so that all join
    averaged = greedy(bench, ingredients)
    assert len(averaged.members) == 3
    mean = mean_weights([run.load_weights() for run in plain])
    torch.testing.assert_close(parameters(averaged.weights), parameters(mean))
    name = "1.running_mean"
    assert not torch.allclose(averaged.weights[name], mean[name])
    again = bench.settled(mean, {"1", "5"})
    torch.testing.assert_close(averaged.weights[name], again[name])


def test_a_soup_that_nothing_joins_is_the_best_run_on_validation(bench: Bench, plain: list[Run], monkeypatch: pytest.MonkeyPatch):
    ingredients = read_ingredients([("plain", run) for run in plain])
    scores = Scores(monkeypatch, lambda weights: 0.0)
    averaged = greedy(bench, ingredients)
    assert averaged.is_single
    assert averaged.members == (best_of(ingredients),)
    assert scores.splits == ["val", "val"]


def test_networks_of_another_form_are_left_out_of_a_soup(bench: Bench, plain: list[Run], make_run: Make, monkeypatch: pytest.MonkeyPatch):
    other = make_run("core-tuning", method="core-tuning", epochs=1)  # its head has no bias
    ingredients = [
        dataclasses.replace(one, val=one.val | {"accuracy": share})
        for one, share in zip(read_ingredients([("a", plain[0]), ("b", other), ("c", plain[1])]), (0.9, 0.8, 0.7), strict=True)
    ]
    Scores(monkeypatch, lambda weights: 0.9)
    averaged = greedy(bench, ingredients)
    assert [member.method for member in averaged.members] == ["a", "c"]
    assert averaged.details == {"looked_at": 2, "left_out": 1}


def test_model_stock_takes_the_mean_of_heads_that_began_elsewhere_and_the_ratio_of_those_that_did_not(
    bench: Bench, plain: list[Run], probed: list[Run]
):
    fresh = stock(bench, read_ingredients([("plain", run) for run in plain[:2]]))
    alike = stock(Bench(probed[0], device="cpu"), read_ingredients([("lp-ft", run) for run in probed]))
    assert (fresh.details["head"], alike.details["head"]) == ("mean", "ratio")
    mean = mean_weights([run.load_weights() for run in plain[:2]])
    torch.testing.assert_close(fresh.weights["9.weight"], mean["9.weight"])
    assert not torch.allclose(fresh.weights["0.weight"], mean["0.weight"])
    probed_mean = mean_weights([run.load_weights() for run in probed])
    assert not torch.allclose(alike.weights["9.weight"], probed_mean["9.weight"])
    assert 0 <= fresh.details["ratio"]["least"] <= fresh.details["ratio"]["mean"] <= fresh.details["ratio"]["most"] <= 1


def test_the_test_split_is_read_after_all_choices_and_once_for_each_average(
    plain: list[Run], probed: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    splits: list[str] = []
    predict = Bench.predict

    def noting(bench: Bench, weights: Any, split: str) -> Predictions:
        splits.append(split)
        return predict(bench, weights, split)

    monkeypatch.setattr(Bench, "predict", noting)
    found = holdfast.average({"plain": plain, "lp-ft": probed}, out=tmp_path / "out", device="cpu")
    first = splits.index("test")
    tested = sum(not row.single for row in found.groups[0].averages)
    assert splits[first : first + tested] == ["test"] * tested
    assert splits.count("test") == tested


def test_rows_say_what_the_runs_reached_and_how_the_average_differs(found: tuple[Averages, Path], plain: list[Run], probed: list[Run]):
    runs = {"plain": plain, "lp-ft": probed}
    for row in found[0].groups[0].averages:
        group = [run for method in row.methods for run in runs[method]]
        assert row.mean_test == pytest.approx(np.mean([run.test.accuracy for run in group]))
        assert row.mean_val == pytest.approx(np.mean([run.val.accuracy for run in group]))
        assert row.best.val["accuracy"] == max(run.val.accuracy for run in group)
        assert row.val["accuracy"] >= row.best.val["accuracy"] or row.kind == "model-stock"
        assert row.difference == pytest.approx(row.test["accuracy"] - row.best.test["accuracy"])
        low, high = row.test["accuracy_ci95"]
        assert low <= row.test["accuracy"] <= high
    tested = [row for row in found[0].groups[0].averages if not row.single]
    assert [row.p_holm for row in tested] == pytest.approx(holm([row.p for row in tested]).tolist())
    assert all(row.p is None and row.outcome.startswith("did not help") for row in found[0].groups[0].averages if row.single)


def test_the_file_is_the_record_again(found: tuple[Averages, Path]):
    averages, out = found
    assert read_averages(out) == averages
    text = json.loads((out / "averages.json").read_text())
    assert text["schema"] == 1
    (out / "averages.json").write_text('{"schema": 9}')
    with pytest.raises(RunError, match="another schema than 1"):
        read_averages(out)
    (out / "averages.json").write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        read_averages(out)
    with pytest.raises(RunError, match="cannot read"):
        read_averages(out / "nowhere")


def test_the_best_average_is_a_run_directory_that_predicts_and_audits(
    plain: list[Run], probed: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever validation says here: the last of them is made the best."""
    everything = all_averages

    def with_a_best(bench: Bench, ingredients: Any) -> Any:
        listed = everything(bench, ingredients)
        stocked = next(at for at, one in enumerate(listed) if one.kind == "model-stock" and one.methods == ("lp-ft",))
        listed[stocked] = dataclasses.replace(listed[stocked], val=listed[stocked].val | {"accuracy": 1.1})
        return listed

    monkeypatch.setattr(made, "all_averages", with_a_best)
    found = holdfast.average({"plain": plain, "lp-ft": probed}, out=tmp_path / "out", device="cpu")
    group = found.groups[0]
    assert (group.saved, group.averages[group.chosen].kind) == ("best", "model-stock")
    run = holdfast.load(tmp_path / "out" / "best")
    assert run.finished
    assert run.test.accuracy == group.averages[group.chosen].test["accuracy"]
    assert run.result["average"]["kind"] == "model-stock"
    assert (run.path / "config.yaml").read_text().startswith("# No run of its own: model-stock of lp-ft")
    classifier, classes, _ = build.load_model(run.path)
    assert (len(classes), classifier.training) == (3, False)
    audited = holdfast.audit(run, device="cpu", threads=1, budget="20products")
    assert audited.record["gap"]["test_accuracy"] == pytest.approx(run.test.accuracy)
    assert "Accuracy" in holdfast.report(run).read_text()


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("data", {"data_seed": 4, "val_fraction": 0.2, "test_split": "val"}, "do not share the data and their splits"),
    ("size", {"image_size": 24}, "do not share the size of the images"),
    ("normalization", {"normalization": "half"}, "do not share the normalization of the images"),
]


@pytest.mark.parametrize(("name", "options", "sentence"), BAD, ids=[name for name, *_ in BAD])
def test_runs_that_have_no_average_are_refused(
    name: str, options: dict[str, Any], sentence: str, plain: list[Run], make_run: Make, tmp_path: Path
):
    other = make_run(f"bad-{name}", epochs=1, **options)
    with pytest.raises(RunError, match=f"{sentence}, so they have no average"):
        holdfast.average([plain[0], other], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_pretrained_weights_no_validation_and_no_run_are_refused(plain: list[Run], make_run: Make, tmp_path: Path):
    other = make_run("bad-weights", epochs=1, weights="random")
    with pytest.raises(RunError, match="do not share the pretrained weights"):
        holdfast.average([plain[0], other], out=tmp_path / "out")
    with pytest.raises(ConfigError, match="no run is given"):
        holdfast.average([], out=tmp_path / "out")
    unvalidated = make_run("bad-val", epochs=1, test_split="val", val_fraction=0, select="last")
    with pytest.raises(RunError, match="has no validation split, and averages are chosen on validation"):
        holdfast.average([unvalidated], out=tmp_path / "out")


def row_of(**changes: Any) -> AverageRow:
    single = SingleRun("a", "plain", 0, {}, {})
    given: dict[str, Any] = {
        **{"kind": "wise-ft", "methods": ("plain",), "members": ("a",), "single": False, "val": {}, "test": {}, "best": single},
        **{"mean_val": 0.5, "mean_test": 0.5, "difference": 0.1, "ci95": (0.0, 0.2), "p": 0.01, "p_holm": None},
        "verdict": "no difference shown",
    }
    return AverageRow(**given | changes)


def test_verdicts_follow_the_corrected_p_value_over_all_groups():
    from holdfast.averaging.average import corrected

    groups = [
        Group("d", "m", None, 0, (), (row_of(p=0.01), row_of(single=True, p=None, difference=0.0, ci95=None)), 0, None),
        Group("d", "m", None, 1, (), (row_of(p=0.03, difference=-0.1), row_of(p=0.001, difference=-0.2)), 0, None),
    ]
    first, second = corrected(groups)
    assert [row.p_holm for row in first.averages] == [pytest.approx(0.02), None]
    assert [row.p_holm for row in second.averages] == [pytest.approx(0.03), pytest.approx(0.003)]
    assert [row.outcome.split(":")[0] for row in (*first.averages, *second.averages)] == ["helped", "did not help", "hurt", "hurt"]
    (alone,) = corrected([Group("d", "m", None, 0, (), (row_of(p=0.2),), 0, None)])
    assert alone.averages[0].outcome == "did not help: no difference shown"


def test_the_difference_is_over_the_same_examples(found: tuple[Averages, Path], plain: list[Run]):
    row = next(row for row in found[0].groups[0].averages if row.kind == "model-stock" and row.methods == ("plain",))
    best = next(run for run in plain if str(run.path) == row.best.run)
    mine = best.load_predictions()["test"]
    right = mine.logits.argmax(axis=1) == mine.labels
    wins = round(row.difference * len(right)) + int(right.sum())
    assert wins == round(row.test["accuracy"] * len(right))
    assert paired_accuracies(right, right).p == 1
