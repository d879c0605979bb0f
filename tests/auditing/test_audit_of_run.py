"""A finished run audited from end to end, every number beside one found another way."""

from __future__ import annotations

import json
import math

import pytest
import torch
from tests.auditing.dense import Dense, positive
from tests.training.small_runs import tiny_network
from torch import nn
from torch.nn.functional import cross_entropy

from holdfast import audit
from holdfast.auditing.events import AuditFinished, AuditStarted, Estimated, PartDone, PartProgress, PartStarted
from holdfast.auditing.record import validate_audit
from holdfast.measures.features import differential_entropy, pca_view
from holdfast.recorded import data_of, network_of

LAYERS = ("0.weight", "4.weight", "9.weight")


@pytest.fixture(scope="module")
def heard():
    return []


@pytest.fixture(scope="module")
def audited(finished, heard):
    """The audit of the run without a limit, so that it takes what it needs."""
    return audit(finished, budget=None, rtol=0.6, seed=3, listener=heard.append)


@pytest.fixture(scope="module")
def now(finished):
    """The network with its selected weights, built from the files alone."""
    net = tiny_network()
    net[9] = nn.Linear(8, 3)
    net.load_state_dict(finished.load_weights())
    return net.eval()


@pytest.fixture(scope="module")
def start(finished):
    """The network as it began, built from the files alone."""
    head = finished.reference["head"]
    state = {name: value for name, value in finished.load_reference_weights().items() if not name.startswith("9.")}
    draw = torch.randn(3, 8, generator=torch.Generator().manual_seed(head["seed"]))
    net = tiny_network()
    net[9] = nn.Linear(8, 3)
    net.load_state_dict({**state, "9.weight": head["std"] * draw, "9.bias": torch.zeros(3)})
    return net.eval()


@pytest.fixture(scope="module")
def splits(finished):
    """Inputs and labels of each split."""
    data = data_of(finished, network_of(finished)[1].input)
    return {split: next(iter([(b.inputs, b.labels) for b in data.batches(split, batch_size=100)])) for split in ("train", "test")}


@pytest.fixture(scope="module")
def hessian(now, splits):
    return Dense(now, [splits["train"]], LAYERS)


@pytest.fixture(scope="module")
def moves(now, start):
    return [now.get_parameter(name).detach().double() - start.get_parameter(name).detach().double() for name in LAYERS]


def test_record_is_whole_and_the_file_of_the_run(audited, finished):
    validate_audit(audited.record)
    assert audited.path == finished.path / "audit.json"
    assert json.loads(audited.path.read_text()) == audited.record == finished.audit
    assert audited.subject.run == "tiny"
    assert audited.subject.classes == ["ant", "bee", "fly"]
    assert audited.subject.reference_fingerprint == finished.reference["fingerprint"]
    assert audited.subject.data_fingerprint == finished.splits["fingerprint"]
    assert audited.settings.samples == 128
    assert audited.settings.head == "source"
    assert audited.settings.loss == "cross-entropy"


def test_distances_are_those_from_the_recorded_start(audited, now, start, moves):
    for layer, move in zip(audited.layers, moves, strict=True):
        assert layer.frob == pytest.approx(float(move.norm()), rel=1e-6)
        assert layer.norm_frob == pytest.approx(float(start.get_parameter(layer.name).detach().double().norm()), rel=1e-6)
    assert audited.totals.l2 == pytest.approx(math.hypot(*(float(move.norm()) for move in moves)), rel=1e-6)
    every = [float((a - b).detach().double().norm()) for a, b in zip(now.parameters(), start.parameters(), strict=True)]
    assert audited.totals.l2_total == pytest.approx(math.hypot(*every), rel=1e-6)
    assert [layer["name"] for layer in audited.record["batchnorm"]] == ["1.weight", "5.weight"]
    spectral = math.prod(float(torch.linalg.svdvals(now.get_parameter(name).detach().double().flatten(1))[0]) for name in LAYERS)
    assert audited.totals.spectral_product == pytest.approx(spectral, rel=1e-6)


def test_trace_lies_within_its_error_of_that_of_the_dense_hessian(audited, hessian):
    blocks = [hessian.blocks[i][i] for i in range(3)]
    for layer, block in zip(audited.layers, blocks, strict=True):
        assert abs(layer.trace.value - float(block.trace())) < 5 * layer.trace.stderr + 1e-6
        assert layer.trace_stderr == layer.trace.stderr
    assert abs(audited.totals.trace.value - float(hessian.whole.trace())) < 5 * audited.totals.trace.stderr


def test_hessian_distance_is_that_of_the_dense_hessian(audited, hessian, moves):
    plain, convex = [], []
    for i, (layer, move) in enumerate(zip(audited.layers, moves, strict=True)):
        block, v = hessian.blocks[i][i], move.flatten()
        plain.append(float(v @ block @ v))
        convex.append(float(v @ positive(block) @ v))
        assert layer.hessian_distance.value == pytest.approx(plain[-1], rel=1e-3, abs=1e-6)
        assert layer.hessian_distance_psd.value == pytest.approx(convex[-1], rel=0.05, abs=1e-6)
    assert audited.totals.hessian_distance.value == pytest.approx(sum(plain), rel=1e-3, abs=1e-6)
    assert audited.totals.hessian_distance_psd.value == pytest.approx(sum(convex), rel=0.05)


def test_ends_of_the_spectrum_are_those_of_the_dense_hessian(audited, hessian):
    values = torch.linalg.eigvalsh(hessian.whole)
    top, bottom = ([entry.value for entry in end] for end in (audited.spectrum.top, audited.spectrum.bottom))
    assert top[:3] == pytest.approx(values.flip(0)[:3].tolist(), rel=1e-3)
    assert bottom[:2] == pytest.approx(values[:2].tolist(), rel=1e-2, abs=1e-3 * float(values[-1]))
    assert audited.totals.lambda_max.value == top[0]
    assert audited.totals.lambda_min.value == bottom[0]
    positive_trace = audited.totals.trace_psd
    assert abs(positive_trace.value - float(values.clamp_min(0).sum())) < 5 * positive_trace.stderr
    grid, density = audited.spectrum.density.grid, audited.spectrum.density["values"]
    assert torch.trapezoid(torch.tensor(density), torch.tensor(grid)).item() == pytest.approx(1, abs=1e-3)


def test_gap_and_calibration_are_those_of_plain_forward_passes(audited, now, splits):
    with torch.no_grad():
        losses = {split: cross_entropy(now(x), y, reduction="none").double() for split, (x, y) in splits.items()}
        probs = now(splits["test"][0]).double().softmax(dim=1)
    gap = audited.gap
    assert gap.train_loss == pytest.approx(float(losses["train"].mean()), rel=1e-5)
    assert gap.gap == pytest.approx(float(losses["test"].mean() - losses["train"].mean()), rel=1e-4)
    assert gap.largest_loss == pytest.approx(float(torch.cat(list(losses.values())).max()), rel=1e-5)
    assert (gap.n_train, gap.n_test, gap.split) == (18, 9, "test")
    labels = splits["test"][1]
    right = probs.argmax(dim=1) == labels
    assert gap.test_accuracy == pytest.approx(float(right.double().mean()))
    assert audited.calibration.nll == pytest.approx(float(losses["test"].mean()), rel=1e-5)
    brier = sum(float((p - torch.eye(3, dtype=torch.float64)[y]).square().sum()) for p, y in zip(probs, labels, strict=True)) / 9
    assert audited.calibration.brier == pytest.approx(brier, rel=1e-5)
    assert sum(entry.n for entry in audited.calibration.bins) == 9
    off = sum(entry.n * abs(entry.confidence - entry.accuracy) for entry in audited.calibration.bins if entry.n) / 9
    assert audited.calibration.ece == pytest.approx(off, abs=1e-6)


def test_bound_is_the_formula_of_the_measured_numbers(audited):
    bound, layers = audited.bound, audited.layers
    terms = [math.sqrt(bound.C * layer.hessian_distance_psd.value / 18) for layer in layers]
    assert [layer.bound_term for layer in layers] == pytest.approx(terms)
    assert sum(layer.bound_share for layer in layers) == pytest.approx(1)
    assert audited.gap.largest_loss == bound.C
    assert bound.n == 18
    assert bound.measure == pytest.approx(sum(terms))
    assert bound.bound == pytest.approx(1.1 * (audited.gap.train_loss + sum(terms)))
    assert bound.vacuous is (bound.bound >= bound.C)
    assert bound.tight == pytest.approx(bound.measure / math.sqrt(2))
    assert any("may be far too small" in sentence for sentence in bound.assumptions)


def test_distance_form_takes_the_traces_of_the_positive_parts(audited, hessian, moves):
    traces = [float(positive(hessian.blocks[i][i]).trace()) for i in range(3)]
    terms = [float(move.norm()) * math.sqrt(audited.bound.C * trace / 18) for move, trace in zip(moves, traces, strict=True)]
    assert audited.bound.distance_measure == pytest.approx(sum(terms), rel=0.3)
    assert audited.bound.distance_measure >= audited.bound.measure


def test_features_are_those_that_enter_the_head(audited, now, start, splits):
    inputs, _ = splits["train"]
    with torch.no_grad():
        before, after = (net[:9](inputs).double() for net in (start, now))
    assert audited.features.norm.reference == pytest.approx(float(before.norm(dim=1).mean()), rel=1e-5)
    assert audited.features.norm.model == pytest.approx(float(after.norm(dim=1).mean()), rel=1e-5)
    assert audited.features.entropy.model == pytest.approx(differential_entropy(after), rel=1e-4)
    assert audited.features.pca.split == "test"
    with torch.no_grad():
        view = pca_view(now[:9](splits["test"][0]).double())
    points = torch.tensor(audited.features.pca.model.points, dtype=torch.float64)
    assert sorted(points[:, 0].tolist()) == pytest.approx(sorted(view.projection[:, 0].tolist()), abs=1e-3)
    assert audited.features.pca.model.explained_variance_ratio == pytest.approx(view.explained_variance_ratio.tolist(), rel=1e-3)
    assert audited.features.gradient_norm.reference is not None


def test_noise_is_predicted_by_the_measured_trace(audited):
    assert [entry.sigma for entry in audited.noise_stability] == [1e-3, 2e-3, 5e-3, 1e-2, 2e-2]
    for entry in audited.noise_stability:
        assert entry.second_order == pytest.approx(entry.sigma**2 * audited.totals.trace.value / 2)
        assert entry.stderr > 0


def test_every_part_is_announced_and_counted(audited, heard):
    kinds = [type(event) for event in heard]
    assert kinds[0] is AuditStarted
    assert kinds[-1] is AuditFinished
    assert kinds.count(Estimated) == 1
    started = [event.part for event in heard if isinstance(event, PartStarted)]
    assert started == [event.part for event in heard if isinstance(event, PartDone)] == list(audited.cost.parts)
    last = {event.part: event.products for event in heard if isinstance(event, PartProgress)}
    assert last["trace"] == audited.cost.parts["trace"]["products"] > 0
    assert audited.cost.products == sum(part["products"] for part in audited.cost.parts.values())


def test_a_second_audit_finds_the_same_numbers(audited, finished):
    again = audit(finished, budget=None, rtol=0.6, seed=3).record
    first = audited.record
    assert {key: again[key] for key in again if key not in ("finished", "cost")} == {
        key: first[key] for key in first if key not in ("finished", "cost")
    }


def test_everything_is_met_and_says_nothing_where_there_is_time(audited):
    assert all(layer.hessian_distance_psd.met for layer in audited.layers)
    assert audited.totals.trace.met
    assert audited.notes == []
