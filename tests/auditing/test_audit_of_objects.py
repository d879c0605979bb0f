"""Networks in memory: families with attention, BatchNorm, LayerNorm and dict inputs, and what is refused in a sentence."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import timm
import torch
from tests.auditing.dense import Dense
from torch import Tensor, nn

from holdfast import audit
from holdfast.auditing.record import validate_audit
from holdfast.errors import ConfigError, DataError, ModelError, NonDeterministicError

SMALL = {"budget": "60products", "samples": 6, "seed": 1}
ENOUGH = {"budget": "300products", "rtol": 0.9}


def moved(net: nn.Module) -> tuple[nn.Module, dict[str, Tensor]]:
    """A network some way off from where it started, and the start."""
    start = copy.deepcopy(net.state_dict())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return net.eval(), start


def images(count: int, size: int, classes: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(count)
    return [(torch.randn(4, 3, size, size, generator=generator), torch.randint(classes, (4,), generator=generator)) for _ in range(count)]


def bert() -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="needs transformers, an extra of holdfast")
    config = transformers.BertConfig(
        vocab_size=30,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=8,
        num_labels=3,
    )
    return transformers.BertForSequenceClassification(config)


def texts(count: int) -> list[tuple[dict[str, Tensor], Tensor]]:
    generator = torch.Generator().manual_seed(count)
    batches = []
    for length in range(4, 4 + count):  # each batch padded to a length of its own
        ids = torch.randint(1, 30, (4, length), generator=generator)
        mask = torch.ones_like(ids)
        mask[0, -1] = 0
        batches.append(({"input_ids": ids, "attention_mask": mask}, torch.randint(3, (4,), generator=generator)))
    return batches


VIT = partial(timm.create_model, "vit_tiny_patch16_224", img_size=32, embed_dim=12, depth=1, num_heads=2, num_classes=3)
CONVNEXT = partial(timm.create_model, "convnext_atto", depths=(1, 1, 1, 1), dims=(4, 8, 8, 8), num_classes=3)
RESNET = partial(timm.models.resnet.ResNet, timm.models.resnet.BasicBlock, layers=(1, 1, 1, 1), channels=(8, 8, 8, 8), num_classes=3)

NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], list]]] = {
    "timm-vit": (VIT, lambda count: images(count, 32)),
    "timm-convnext": (CONVNEXT, lambda count: images(count, 32)),
    "timm-resnet": (RESNET, lambda count: images(count, 32)),
    "transformers-bert": (bert, texts),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "timm-resnet" else pytest.mark.slow) for name in NETWORKS])
def test_families_of_networks_are_audited(name):
    build, batches = NETWORKS[name]
    net, start = moved(build())
    before = copy.deepcopy(net.state_dict())
    found = audit(net, start=start, train=batches(3), test=batches(2), **SMALL)
    validate_audit(found.record)
    assert found.path is None
    assert found.totals.trace is not None
    assert all(layer.hessian_distance_psd.value >= 0 for layer in found.layers)
    assert found.bound.n == 12
    assert found.features.norm.reference != found.features.norm.model
    assert found.gap.n_test == 8
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not net.training


@pytest.mark.parametrize("name", ["timm-vit", pytest.param("transformers-bert", marks=pytest.mark.slow)])
def test_hessian_distance_of_the_head_is_that_of_the_dense_hessian(name):
    build, batches = NETWORKS[name]
    net, start = moved(build())
    data = batches(3)
    head = f"{'head' if name == 'timm-vit' else 'classifier'}.weight"
    found = audit(net, start=start, train=data, layers=head, samples=12, **ENOUGH)
    matrix = Dense(net, data, (head,)).whole
    move = (net.get_parameter(head).detach() - start[head]).double().flatten()
    (layer,) = found.layers
    assert layer.name == head
    assert layer.hessian_distance.value == pytest.approx(float(move @ matrix @ move), rel=1e-3)
    assert layer.hessian_distance_psd.value == pytest.approx(float(move @ matrix @ move), rel=1e-2)  # convex in the last layer


@pytest.fixture
def net():
    return moved(nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 3)))


@pytest.fixture
def data():
    return images(3, 2)


def test_maximum_goes_over_examples_or_batches(net, data):
    tuned, start = net
    by = {over: audit(tuned, start=start, train=data, over=over, samples=12, **ENOUGH).totals for over in ("mean", "batch", "sample")}
    plain = {over: totals.hessian_distance.value for over, totals in by.items()}
    assert plain["mean"] < plain["batch"] < plain["sample"]
    assert by["mean"].hessian_distance.stderr == 0.0
    assert by["sample"].hessian_distance.stderr is None  # nobody knows how far the largest of all lies above that of twelve


def test_full_row_sums_to_the_curvature_along_the_whole_move(net, data):
    tuned, start = net
    found = audit(tuned, start=start, train=data, mode="full_row", samples=12, **ENOUGH)
    matrix = Dense(tuned, data, ("1.weight", "3.weight")).whole
    move = torch.cat([(tuned.get_parameter(name).detach() - start[name]).double().flatten() for name in ("1.weight", "3.weight")])
    assert found.totals.hessian_distance.value == pytest.approx(float(move @ matrix @ move), rel=1e-3)
    assert found.totals.hessian_distance_psd is None


def test_head_can_be_measured_from_zero(net, data):
    tuned, start = net
    found = audit(tuned, start=start, train=data, head="zero", **ENOUGH)
    assert found.layers[-1].frob == pytest.approx(float(tuned[3].weight.detach().norm()), rel=1e-6)
    assert any("measured from zero" in note for note in found.notes)
    without = {name: value for name, value in start.items() if not name.startswith("3.")}
    assert audit(tuned, start=without, train=data, **ENOUGH).layers[-1].frob == found.layers[-1].frob
    with pytest.raises(ConfigError, match="--head source: the start has no head"):
        audit(tuned, start=without, train=data, head="source", budget=None)


def test_largest_loss_is_seen_given_or_clipped(net, data):
    tuned, start = net
    seen = audit(tuned, start=start, train=data, **ENOUGH).bound
    given = audit(tuned, start=start, train=data, loss_bound=20.0, **ENOUGH).bound
    clipped = audit(tuned, start=start, train=data, p_min=0.4, **ENOUGH).bound
    assert (seen.C_from, given.C_from, clipped.C_from) == ("max_observed", "given", "clipped")
    assert given.C == 20
    assert given.measure == pytest.approx(seen.measure * (20 / seen.C) ** 0.5)
    assert pytest.approx(0.9163, abs=1e-4) == clipped.C
    assert clipped.empirical_loss < seen.empirical_loss
    with pytest.raises(ConfigError, match=r"--loss-bound 0\.01: an example has a loss of"):
        audit(tuned, start=start, train=data, loss_bound=0.01, **ENOUGH)


def test_another_loss_and_targets_that_are_no_classes(net):
    tuned, start = net
    generator = torch.Generator().manual_seed(0)
    data = [(torch.randn(4, 3, 2, 2, generator=generator), torch.randn(4, 3, generator=generator)) for _ in range(2)]

    def squares(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().sum(dim=1)

    found = audit(tuned, start=start, train=data, test=data, loss=squares, **ENOUGH)
    assert found.settings.loss == "squares"
    assert found.gap.train_accuracy is found.calibration is found.features is None
    assert found.gap.gap == 0
    assert found.bound.measure > 0


def test_a_kernel_without_second_derivative_is_named_and_differences_go_around_it(net, data):
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            ctx.save_for_backward(value)
            return value.tanh()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            (value,) = ctx.saved_tensors
            return grad * (1 - value.tanh().square())

    class Layer(nn.Module):
        def forward(self, value):
            return Once.apply(value)

    tuned, start = net
    exact = audit(tuned, start=start, train=data, **ENOUGH)
    tuned[2] = Layer()
    with pytest.raises(ModelError, match="differences=True"):
        audit(tuned, start=start, train=data, budget=None)
    found = audit(tuned.double(), start=start, train=[(x.double(), y) for x, y in data], differences=True, **ENOUGH)
    assert found.totals.hessian_distance.value == pytest.approx(exact.totals.hessian_distance.value, rel=1e-3)


def test_what_cannot_be_audited_is_said_in_a_sentence(net, data, monkeypatch):
    tuned, start = net
    with pytest.raises(ConfigError, match=r"audit\(start=...\) is missing; give start=state_dict"):
        audit(tuned, train=data)
    with pytest.raises(ConfigError, match=r"audit\(train=...\): this generator is used up after one pass"):
        audit(tuned, start=start, train=(batch for batch in data))
    with pytest.raises(DataError, match="there is no example in it"):
        audit(tuned, start=start, train=[])
    with pytest.raises(DataError, match="a batch must be a pair"):
        audit(tuned, start=start, train=[data[0][0]])
    with pytest.raises(ModelError, match="the network is in train mode"):
        audit(copy.deepcopy(tuned).train(), start=start, train=data)
    with pytest.raises(ModelError, match="of another architecture"):
        audit(tuned, start={**start, "1.weight": torch.zeros(5, 12)}, train=data)
    with pytest.raises(ModelError, match=r"float32 or float64, got torch.bfloat16; pass net.float\(\)"):
        audit(copy.deepcopy(tuned).bfloat16(), start=start, train=data)
    with pytest.raises(ConfigError, match=r"audit\(sampels=...\): unknown option. Did you mean 'samples'"):
        audit(tuned, start=start, train=data, sampels=3)
    with pytest.raises(ConfigError, match=r"audit\(data=...\) does not belong to a network in memory"):
        audit(tuned, start=start, train=data, data="cars/")
    with pytest.raises(ConfigError, match=r"audit\(start=...\) does not belong to anything but a network in memory"):
        audit("run", start=start)


def test_batches_in_a_new_order_each_time_are_refused(net):
    tuned, start = net
    dataset = torch.utils.data.TensorDataset(torch.randn(40, 3, 2, 2), torch.zeros(40, dtype=torch.int64))
    with pytest.raises(NonDeterministicError, match="the first batch is another one in each pass; give batches without shuffling"):
        audit(tuned, start=start, train=torch.utils.data.DataLoader(dataset, batch_size=4, shuffle=True))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_shortage_of_memory_says_what_to_lower(net, data, monkeypatch, error):
    def short(*args, **options):
        raise error

    tuned, start = net
    monkeypatch.setattr("holdfast.auditing.study.measure_trace", short)
    with pytest.raises(
        ConfigError, match=r"out of memory while measuring the trace with 12 examples at once .* lower --batch-size \(such as"
    ):
        audit(tuned, start=start, train=data)


def test_batch_size_does_not_change_what_is_found(net, data):
    tuned, start = net
    totals = [audit(tuned, start=start, train=data, batch_size=size, **ENOUGH).totals for size in (None, 5)]
    for key in ("trace", "hessian_distance", "lambda_max"):
        assert totals[0][key].value == pytest.approx(totals[1][key].value, rel=1e-4)


def test_a_budget_of_products_is_kept_and_what_is_missing_is_said(net, data):
    tuned, start = net
    found = audit(tuned, start=start, train=data, budget="20products", rtol=0.01)
    assert found.cost.products <= 20
    assert not found.totals.trace.met
    assert any("type --full, or raise --budget" in note for note in found.notes)
    none = audit(tuned, start=start, train=data, budget="2products")
    assert none.totals.trace is none.totals.hessian_distance is none.spectrum is none.bound is None
    assert any(note.startswith("The trace was left out") for note in none.notes)


def test_slow_products_are_made_on_fewer_examples_unless_their_number_was_asked_for(net, monkeypatch):
    tuned, start = net
    monkeypatch.setattr("holdfast.auditing.bench._product_seconds", lambda operator, subject, seed: 0.08)  # for 16 examples
    data = images(40, 2)
    by_clock = audit(tuned, start=start, train=data, budget=20, rtol=0.9)  # 62 products want 0.3 s each, so 64 examples at most
    assert by_clock.settings.samples == 64
    assert by_clock.notes[0].startswith("Curvature was measured on 64 training examples instead of 128")
    asked = audit(tuned, start=start, train=data, budget=20, rtol=0.9, samples=128)
    assert asked.settings.samples == 128
    assert not any("instead of 128" in note for note in asked.notes)


def test_a_distance_form_from_short_recursions_is_called_rough(net, data):
    tuned, start = net
    found = audit(tuned, start=start, train=data, budget="none", rtol=0.02, samples=6)
    assert found.bound.distance_measure > 0
    assert any(note.startswith("The distance form of the bound is rough: the positive part of the trace of ") for note in found.notes)
