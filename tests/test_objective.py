"""What the objective does around a forward pass: further data, further layers, the frozen network, changes of the network."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from holdfast import Needs, Regularizer, TaskLoss, attach
from holdfast.attach import head_form, prepare_network
from holdfast.errors import ConfigError, ModelError
from holdfast.models.classifier import Classifier
from holdfast.models.reference import FrozenReference
from holdfast.objective import WeightedTerm
from holdfast.terms import ModelTransform
from holdfast.testing import SmallNet
from holdfast.types import HeadForm, Source, Step

K = 3


def rows(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=generator), torch.randint(K, (count,), generator=generator)


class WithNorm(nn.Module):
    """Batch statistics tell whether two batches went through together."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU())
        self.head = nn.Linear(5, K)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(inputs))
        return logits


class Spy(Regularizer):
    """Keeps the last step it saw."""

    NEEDS = Needs(layers=("pooled",), reference=True)

    def penalty(self, step: Step) -> Tensor:
        self.step = step
        return step.features["pooled"].square().mean()


class SpyOnSource(Spy):
    NEEDS = Needs(layers=("pooled",), extra=("source",))


class SpyOnViews(Spy):
    NEEDS = Needs(views=1)


class SpyOnMaps(Spy):
    def layers(self, net: nn.Module) -> tuple[str, ...]:
        return ("body.0",)


def test_extra_rows_go_through_the_same_forward_pass() -> None:
    net, spy = WithNorm(), SpyOnSource()
    alone = copy.deepcopy(net)
    terms = attach(net, [spy], num_classes=K)
    (inputs, labels), (more, others) = rows(4), rows(6, seed=1)
    terms.loss(inputs, labels, extra={"source": (more, others)})
    together = alone(torch.cat([inputs, more]))
    torch.testing.assert_close(spy.step.logits, together[:4])
    torch.testing.assert_close(spy.step.extra["source"].logits, together[4:])
    torch.testing.assert_close(alone.head(spy.step.extra["source"].features["pooled"]), together[4:])
    assert torch.equal(spy.step.extra["source"].labels, others)
    assert spy.step.batch_size == 4
    assert torch.equal(net.body[1].running_mean, alone.body[1].running_mean)


@pytest.mark.parametrize(
    ("spy", "sentence"), [(SpyOnSource(), "needs rows of the source data"), (SpyOnViews(), r"needs 1 further view\(s\)")]
)
def test_a_missing_part_of_the_batch_is_named(spy: Spy, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        attach(SmallNet(K), [spy], num_classes=K).loss(*rows(4))


def test_views_reach_the_terms_as_they_are() -> None:
    spy, view = SpyOnViews(), torch.zeros(4, 6)
    attach(SmallNet(K), [spy], num_classes=K).loss(*rows(4), views=[view])
    assert spy.step.views[0] is view


def test_the_frozen_network_runs_once_for_all_terms() -> None:
    passes: list[int] = []

    class Counting(Spy):
        def penalty(self, step: Step) -> Tensor:
            return (step.features["pooled"] - step.reference.features(step.inputs)["pooled"]).square().mean()

    terms = attach(SmallNet(K), [Counting(), SpyOnMaps(), Counting()], num_classes=K)
    reference = terms._context.reference
    assert isinstance(reference, FrozenReference)
    reference._classifier.net.body[0].register_forward_hook(lambda *_: passes.append(1))
    terms.loss(*rows(4))
    assert len(passes) == 1
    terms.after_step()
    terms.loss(*rows(4))
    assert len(passes) == 2


def test_the_frozen_network_runs_in_the_precision_of_the_trained_one() -> None:
    spy = Spy()
    terms = attach(SmallNet(K), [spy], num_classes=K)
    inputs, labels = rows(4)
    with torch.autocast("cpu", torch.bfloat16):
        terms.loss(inputs, labels)
        trained = spy.step.features["pooled"]
        frozen = spy.step.reference.features(inputs)["pooled"]
    assert trained.dtype is frozen.dtype is torch.float32
    assert torch.equal(trained, frozen)
    assert not torch.equal(frozen, attach(SmallNet(K), [spy], num_classes=K)._context.reference.features(inputs)["pooled"])


def test_captured_layers_are_those_of_model_and_reference() -> None:
    spy = SpyOnMaps()
    net = SmallNet(K)
    terms = attach(net, [spy], num_classes=K)
    inputs, labels = rows(4)
    terms.loss(inputs, labels)
    torch.testing.assert_close(spy.step.features["body.0"], net.body[0](inputs))
    torch.testing.assert_close(spy.step.reference.features(inputs)["body.0"], net.body[0](inputs))
    assert spy.step.features["body.0"].requires_grad


def test_other_values_in_place_of_the_networks_own() -> None:
    net, spy = WithNorm(), Spy()
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.body[0].weight.mul_(2)
    terms = attach(net, [spy], num_classes=K)
    inputs, labels = rows(4)
    terms.loss(inputs, labels)
    before = net.body[1].running_mean.clone()
    tensors = {name: value.detach().clone() for name, value in other.state_dict().items()}
    outputs = spy.step.forward(inputs, tensors)
    torch.testing.assert_close(outputs.logits, other(inputs))
    assert torch.equal(net.body[1].running_mean, before)
    torch.testing.assert_close(tensors["body.1.running_mean"], other.body[1].running_mean)


class Doubling(ModelTransform):
    """Multiplies what enters the head by what ``begin`` drew."""

    def transform(self, net: nn.Module) -> None:
        self.drawn = [1.0]
        net.head.register_forward_pre_hook(lambda module, inputs: (inputs[0] * self.drawn[-1],))

    def begin(self, net: nn.Module, generator: torch.Generator) -> None:
        self.drawn.append(float(torch.rand((), generator=generator)))


def test_a_model_transform_draws_once_a_pass_and_the_same_on_every_micro_batch() -> None:
    transform = Doubling()
    terms = attach(SmallNet(K), [transform], num_classes=K, accumulate=2)
    for _ in range(2):
        terms.loss(*rows(4))
        terms.loss(*rows(4))
        terms.after_step()
    _, first, again, second, _ = transform.drawn
    assert first == again != second


def weighted(name: str, needs: Needs) -> WeightedTerm:
    return WeightedTerm(name, type("Term", (Regularizer,), {"NEEDS": needs})())


def test_a_method_without_its_source_head_is_refused() -> None:
    net = SmallNet(K)
    with pytest.raises(ConfigError, match="'needy' needs the classification head of the pretraining"):
        prepare_network(
            Classifier(copy.deepcopy(net)), FrozenReference(net, source_head=False), [weighted("needy", Needs(source_head=True))]
        )


def test_the_head_takes_the_form_that_a_method_asks_for() -> None:
    assert head_form([weighted("a", Needs())]) == HeadForm(bias=True, std=0.01)
    form = HeadForm(bias=False, std=None)
    assert head_form([weighted("a", Needs()), weighted("b", Needs(head=form))]) == form
    with pytest.raises(ConfigError, match="'b' and 'c' ask for different heads"):
        head_form([weighted("b", Needs(head=form)), weighted("c", Needs(head=HeadForm()))])
    classifier = Classifier(SmallNet(K, width=400))
    classifier.reset_head(50, seed=0, form=form)
    assert classifier.head.bias is None
    assert float(classifier.head.weight.detach().std()) == pytest.approx((2 / 400) ** 0.5, rel=0.02)


def test_capturing_refuses_what_cannot_be_captured() -> None:
    class Pair(nn.Module):
        def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
            return inputs, inputs

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()
            self.head = nn.Linear(6, K)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(self.pair(inputs)[0])

    classifier = Classifier(Net())
    with pytest.raises(ModelError, match=r"no layer 'pare'\. Did you mean 'pair'"):
        classifier.capture(["pare"])
    classifier.capture(["pair"])
    with pytest.raises(ModelError, match="'pair' returns a tuple"):
        classifier(rows(2)[0])


def test_a_frozen_pass_ends_at_the_last_layer_that_is_wanted() -> None:
    net = SmallNet(K)
    ran: list[str] = []
    for name in ("body.0", "body.1", "body.2", "head"):
        net.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    reference = FrozenReference(net)
    reference.capture(["body.1"])
    assert set(reference.features(rows(2)[0], ["body.1"])) == {"body.1"}
    assert ran == ["body.0", "body.1"]
    ran.clear()
    assert set(reference.features(rows(2)[0])) == {"body.1", "pooled"}
    assert ran == ["body.0", "body.1", "body.2"]
    ran.clear()
    reference.logits(rows(2)[0])  # nothing of the shorter passes stays behind
    assert ran == ["body.0", "body.1", "body.2", "head"]


def test_source_tells_which_splits_there_are() -> None:
    seen: dict[str, bool] = {}

    class Asking(TaskLoss):
        def setup(self, source: Source) -> None:
            seen.update({split: source.has(split) for split in ("train", "val", "source")})
            seen["rows"] = sum(len(batch) for batch in source.batches("val")) == 5

        def loss(self, step: Step) -> Tensor | Mapping[str, Tensor]:
            return step.logits.mean()

    attach(SmallNet(K), [Asking()], [rows(4)], num_classes=K, val=[rows(5)])
    assert seen == {"train": True, "val": True, "source": False, "rows": True}
