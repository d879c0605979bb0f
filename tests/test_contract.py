"""Every method of the catalog keeps the protocol; the checks themselves find what they are for."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from holdfast import attach
from holdfast.catalog import METHODS, Option
from holdfast.config.plugins import load_plugin
from holdfast.errors import DataError
from holdfast.terms import ModelTransform, Needs, Regularizer, TaskLoss, Term
from holdfast.testing import check_loss, check_regularizer
from holdfast.types import Source, Step, Update

VARIANTS = [
    ("plain", {}),
    ("fnp", {}),
    ("randreg", {"prior": "uniform"}),
    ("randreg", {"prior": "normal"}),
    ("randreg", {"prior": "pretrained"}),
    ("randreg-cp", {}),
    ("adarand", {}),
    ("adarand", {"intra": False}),
    ("adarand", {"inter": False}),
    ("adarand", {"distance": "cosine", "alpha": 0.0, "prior_schedule": "constant"}),
    ("l2-sp", {}),
    ("distance", {}),
    ("distance", {"norm": "infop", "radius": "body=0.1", "head_radius": "none"}),
    ("distance", {"norm": "infop_exact", "ratio": "0.05", "scale_by_depth": 0.5}),
    ("distance", {"radius": "0", "layers": "body.0,head"}),
    ("distance-penalty", {}),
    ("distance-penalty", {"norm": "infop", "layers": "body.2", "scale_by_depth": 0.5}),
    ("bss", {}),
    ("bss", {"k": 7, "gather": False}),
    ("delta", {"layers": "body.0", "attention": False}),
    ("delta", {"layers": "body.0,body.2", "attention": True, "attention_epochs": 2, "reduction": "mean"}),
    ("delta", {"layers": "body.2", "attention": True, "attention_epochs": 1, "attention_train_backbone": False}),
    ("core-tuning", {}),
    ("bi-tuning", {}),
    ("uot", {}),
    ("co-tuning", {}),
    ("co-tuning", {"relationship": "direct", "calibration": 0.5}),
    ("dr-tune", {"queue_size": 20, "rotation_every": 2}),
    ("dr-tune", {"queue_size": 5, "rotation_every": 1}),
    ("core-tuning", {"detach_originals": False, "normalize": "positives", "alpha": 2.0, "gather": False}),
    ("backward", {"transition": "symmetric:0.3"}),
    ("backward", {"transition": "pair:0.3", "clamp_min": "0", "ridge": 0.1}),
    ("backward", {"transition": "pair:0.3", "nonneg": "abs"}),
    ("backward", {"transition": "pair:0.3", "nonneg": "relu", "clip_inverse": True}),
    ("forward", {"transition": "pair:0.3"}),
    ("label-smoothing", {}),
    ("gce", {}),
    ("gce", {"truncate": 0.4, "prune_start": 0}),
    ("sce", {}),
    ("js", {}),
    ("js", {"label_weight": 0.3, "views": 2}),
    ("elr", {}),
    ("sat", {}),
    ("sat", {"start_epoch": 0}),
    ("dac", {}),
    ("dac", {"warmup_epochs": 0}),
    ("apl", {"passive": "rce"}),
    ("apl", {"passive": "mae"}),
    ("mixup", {}),
]

STOPS_GRADIENT = {"bi-tuning", "core-tuning", "dr-tune", "elr", "sat"}
"""Methods that hold parts of their value constant; their own tests and reference files check the gradient."""


def test_every_method_is_checked() -> None:
    checked = {name for name, record in METHODS.items() if "plugin" not in record.target and record.kind != "model transform"}
    assert {name for name, _ in VARIANTS} == checked


def cases() -> Iterator[Any]:
    """The first variant of each method in a bare pytest, and all in CI."""
    seen: set[str] = set()
    for name, options in VARIANTS:
        marks = pytest.mark.slow if name in seen else ()
        seen.add(name)
        yield pytest.param(name, options, marks=marks, id=f"{name}-{'-'.join(map(str, options.values()))}")


@pytest.mark.parametrize(("name", "options"), list(cases()))
def test_method_keeps_the_contract(name: str, options: dict[str, object]) -> None:
    term = METHODS[name].load()(**options)
    stops = name in STOPS_GRADIENT and options.get("detach_originals", True) is True
    if isinstance(term, TaskLoss):
        check_loss(term, stops_gradient=stops)
    else:
        check_regularizer(term, stops_gradient=stops)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_record_matches_its_class(name: str) -> None:
    record = METHODS[name]
    cls = record.load()
    assert issubclass(cls, {"task loss": TaskLoss, "regularizer": Regularizer, "model transform": ModelTransform}[record.kind])
    parameters = [
        p
        for p in list(inspect.signature(cls.__init__).parameters.values())[1:]
        if p.kind is not p.VAR_KEYWORD and p.kind is not p.VAR_POSITIONAL
    ]
    assert [(p.name, p.default) for p in parameters] == [(option.name, option.default) for option in record.options]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters)
    for option in record.all_options.values():
        assert isinstance(option, Option)
        assert option.parse(option.default) == option.default


class NoGradient(Regularizer):
    NEEDS = Needs(layers=("pooled",))

    def penalty(self, step: Step) -> torch.Tensor:
        return torch.tensor(step.features["pooled"].detach().square().mean().item())


class Idle(Regularizer):
    def penalty(self, step: Step) -> dict[str, torch.Tensor]:
        return {}


class ForgetsState(Regularizer):
    NEEDS = Needs(layers=("pooled",))

    def __init__(self) -> None:
        super().__init__()
        self.count = 1

    def penalty(self, step: Step) -> torch.Tensor:
        return step.features["pooled"].square().mean() * self.count

    def after_step(self, update: Update) -> None:
        self.count += 1


class MeansOfMeans(Regularizer):
    NEEDS = Needs(layers=("pooled",))
    STATE = ("mean",)

    def setup(self, source: Source) -> None:
        self.mean = next(iter(source.batches())).inputs.new_zeros(5)

    def penalty(self, step: Step) -> torch.Tensor:
        self.mean = 0.5 * self.mean + 0.5 * step.features["pooled"].detach().mean(0)
        return (step.features["pooled"] - self.mean).square().mean()


class WrongGradient(Regularizer):
    NEEDS = Needs(layers=("pooled",))

    def penalty(self, step: Step) -> torch.Tensor:
        features = step.features["pooled"]
        return (features * features.detach()).mean()


class ChangesLabels(Regularizer):
    NEEDS = Needs(layers=("pooled",))

    def penalty(self, step: Step) -> torch.Tensor:
        step.labels.fill_(0)
        return step.features["pooled"].square().mean()


@pytest.mark.parametrize(
    ("term", "sentence"),
    [
        (NoGradient(), "has no gradient"),
        (Idle(), "returns no penalty and does nothing after a step"),
        (ForgetsState(), "differs from an uninterrupted run"),
        (MeansOfMeans(), "finite differences|discarded step|micro-batches"),
        (WrongGradient(), "finite differences"),
        (ChangesLabels(), "changed in place"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Term) else "",
)
def test_contract_finds_a_broken_method(term: Regularizer, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_regularizer(term)


@pytest.mark.usefixtures("own_catalog")
def test_the_method_that_the_documentation_shows_keeps_the_contract() -> None:
    module = load_plugin(str(Path(__file__).parent / "plugins" / "class_mean.py"))
    check_regularizer(module.ClassMean())


class RefusesData(Regularizer):
    NEEDS = Needs(layers=("pooled",))

    def setup(self, source: Source) -> None:
        if source.num_classes == 2:
            raise DataError("two classes are too few")

    def penalty(self, step: Step) -> torch.Tensor:
        return step.features["pooled"].square().mean()


def test_contract_lets_a_method_refuse_absent_classes_only() -> None:
    with pytest.raises(AssertionError, match="RefusesData: setup refuses data in which no class is absent"):
        check_regularizer(RefusesData())


def test_terms_of_a_dict_are_logged_by_name_and_weighted_apart() -> None:
    from holdfast.testing import SmallNet

    net = SmallNet(3)
    inputs, labels = torch.randn(4, 6), torch.tensor([0, 1, 2, 0])
    terms = attach(net, [{"name": "l2-sp", "weight": 0.5, "head_weight": 2.0}, {"name": "fnp", "weight": 3.0}], num_classes=3)
    with torch.no_grad():
        net.body[0].weight += 1
    total = terms.loss(inputs, labels)
    values = terms.values
    assert list(values) == ["cross-entropy", "l2-sp/backbone", "l2-sp/head", "fnp"]
    expected = values["cross-entropy"] + 0.5 * values["l2-sp/backbone"] + 2.0 * values["l2-sp/head"] + 3.0 * values["fnp"]
    assert total.item() == pytest.approx(expected, rel=1e-6)
    assert values["l2-sp/backbone"] == pytest.approx(net.body[0].weight.numel() / 2, rel=1e-5)
