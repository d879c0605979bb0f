"""Distance constraints in the project's own loop, and the file of single layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from tests.training.small_runs import PER_CLASS

import holdfast
from holdfast.run import Run
from holdfast.training.loop import Trainer
from holdfast.types import Batch

Fit = Callable[..., Run]
SETTING = {"method": {"name": "distance", "ratio": 0.01, "head_radius": 0.02}, "lr": 0.1}
LAYERS = ("0.weight", "4.weight", "9.weight")


def test_every_update_ends_inside_the_balls(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, float]] = []
    start: dict[str, torch.Tensor] = {}
    update = Trainer.update

    def watched(trainer: Trainer, batches: Iterator[Batch]) -> None:
        start.update({name: tensor.clone() for name, tensor in trainer.job.reference.backbone.items() if not start.get(name) is not None})
        update(trainer, batches)
        net = trainer.job.classifier.net
        shares = {name: float((net.get_parameter(name).detach() - start[name]).norm() / start[name].norm()) for name in LAYERS[:2]}
        seen.append({**shares, "head": float(net.get_parameter("9.weight").detach().norm())})

    monkeypatch.setattr(Trainer, "update", watched)
    fit(**SETTING, optimizer="adamw", ema=0.5, clip_norm=1.0)
    assert len(seen) == 6
    for shares in seen:
        assert max(shares["0.weight"], shares["4.weight"]) <= 0.01 * (1 + 1e-5)
        assert shares["head"] <= 0.02 * (1 + 1e-5)
    assert seen[-1]["4.weight"] == pytest.approx(0.01, rel=1e-4)


def test_layers_are_in_a_file_and_their_summary_in_the_history(fit: Fit) -> None:
    run = fit(**SETTING)
    assert [(row["epoch"], row["step"], row["term"], row["layer"]) for row in run.layers] == [
        (epoch, epoch * PER_CLASS["train"] // 2, "distance", layer) for epoch in (1, 2) for layer in LAYERS
    ]
    for epoch in run.history:
        rows = [row for row in run.layers if row["epoch"] == epoch["epoch"]]
        assert all(row["distance"] <= row["radius"] for row in rows)
        assert epoch["distance/active"] == pytest.approx(sum(row["active"] for row in rows) / 3)
        assert epoch["distance/of_radius"] == pytest.approx(sum(row["distance"] / row["radius"] for row in rows) / 3)
    assert 0 < run.history[-1]["distance/active"] <= 1


def test_other_methods_leave_no_such_file(fit: Fit) -> None:
    run = fit(method="l2-sp")
    assert run.layers == []
    assert not (run.path / "layers.csv").exists()


def test_averaged_weights_of_balls_are_in_the_balls(fit: Fit) -> None:
    run = fit(**SETTING, ema=0.9, select_weights="ema", select="last")
    start = run.load_reference_weights()
    weights = holdfast.load(run.path).load_weights()
    for name in LAYERS[:2]:
        assert (weights[name] - start[name]).norm() <= 0.01 * start[name].norm() * (1 + 1e-5)
