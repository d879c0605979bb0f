"""Every reference file through the public API, every output array compared.

Sizes and hyper-parameters come from the files, so the same tests serve any second set with the same names and arrays. Tolerances for
float64 are those of the files' own description: rtol 1e-9, atol 1e-12.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.golden.arrays import Arrays, Stored, Toy, agree
from torch import Tensor, nn

from holdfast import attach
from holdfast.losses.functional import cross_entropy
from holdfast.measures.features import (
    class_entropies,
    conditional_entropy,
    differential_entropy,
    feature_norm,
    gradient_norm,
    mutual_information,
    norm_of_mean_feature,
    pca_view,
)
from holdfast.regularizers.adarand import AdaRand
from holdfast.regularizers.class_directions import prior_objective
from holdfast.regularizers.functional import feature_norm_penalty, random_reference_loss, sample_reference
from holdfast.regularizers.l2_sp import L2SP
from holdfast.regularizers.priors import ClassPrior, ClassStatistics
from holdfast.schedules import cosine_factor, multistep_factor

pytestmark = pytest.mark.golden

FOLDER = Path(os.environ.get("HOLDFAST_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))
NOT_BUILT: dict[str, list[str]] = {}


def methods_ft_ce(a: Arrays) -> None:
    features, weight, bias = (a[name].clone().requires_grad_() for name in ("features", "weight", "bias"))
    logits = features @ weight.T + bias
    loss = cross_entropy(logits, a["labels"]).mean()
    loss.backward()
    agree(logits.detach(), a["logits"])
    agree(loss.detach(), a["loss"])
    agree(features.grad, a["grad_features"])
    agree(weight.grad, a["grad_weight"])
    agree(bias.grad, a["grad_bias"])
    agree(weight.grad.norm(), a["grad_norm_weight"])


def methods_fnp(a: Arrays) -> None:
    features = a["features"].clone().requires_grad_()
    loss = feature_norm_penalty(features)
    loss.backward()
    agree(loss.detach(), a["loss"])
    agree(features.grad, a["grad_features"])
    agree(feature_norm_penalty(a["features"], reduction="sum_dims"), a["loss_sum_over_dims"])
    net = Toy(
        torch.eye(features.shape[1], dtype=torch.float64),
        torch.zeros(2, features.shape[1], dtype=torch.float64),
        torch.zeros(2, dtype=torch.float64),
    )
    terms = attach(net, [{"name": "fnp", "weight": float(a["lam"])}], num_classes=2)
    labels = torch.zeros(len(features), dtype=torch.int64)
    total = terms.loss(a["features"], labels)
    agree(total.detach() - terms.values["cross-entropy"], a["lam"] * a["loss"])


def randreg(a: Arrays, prior: str) -> None:
    net = Toy(a["extractor"], a["weight"], a["bias"])
    draws = Stored(a["uniform_draws"] if prior == "uniform" else a["normal_draws"])
    some = [(a["inputs"], a["labels"])]
    terms = attach(
        net, [{"name": "randreg", "prior": prior, "weight": float(a["lam"])}], some, num_classes=len(a["weight"]), draws=lambda *_: draws
    )
    term = terms.objective.configured[-1].term
    if prior == "pretrained":
        statistics = ClassStatistics(1)
        for part in a["pretrained_features"].split(7):
            statistics.update(part, torch.zeros(len(part), dtype=torch.int64))
        estimated = statistics.prior()
        agree(estimated.mean[0], a["mu_hat"])
        agree(estimated.std[0], a["sigma_hat"])
        count = len(a["pretrained_features"])
        agree(estimated.std[0] * (count / (count - 1)) ** 0.5, a["sigma_hat_ddof1"])
        term.mean, term.std = estimated.mean[0], estimated.std[0]
        agree(sample_reference(term.mean, term.std, draws.draws), a["reference"])
    else:
        agree(draws.draws, a["reference"])
    total = terms.loss(a["inputs"], a["labels"])
    total.backward()
    agree(net.features.detach(), a["features"])
    agree(terms.values["cross-entropy"], a["loss_ce"])
    agree(terms.values["randreg"], a["loss_reg"])
    agree(total.detach(), a["loss_total"])
    agree(net.features.grad, a["grad_features_total"])
    features = a["features"].clone().requires_grad_()
    random_reference_loss(features, a["reference"]).backward()
    agree(features.grad, a["grad_features_reg"])


def methods_randreg_uniform(a: Arrays) -> None:
    randreg(a, "uniform")


def methods_randreg_normal(a: Arrays) -> None:
    randreg(a, "normal")


def methods_randreg_pre(a: Arrays) -> None:
    randreg(a, "pretrained")


def everyone(a: Arrays) -> ClassPrior:
    return ClassPrior(a["mu0"], a["sigma"], torch.ones(len(a["mu0"]), dtype=torch.bool))


def replay(a: Arrays, method: dict[str, object]) -> None:
    """The stored steps in a plain loop: forward values, gradients, weights, and the prior's state after each."""
    steps, (classes, _) = len(a["inputs"]), a["mu0"].shape
    net = Toy(a["extractor0"], a["weight0"], a["bias0"])
    terms = attach(
        net,
        [{"weight": float(a["lam"]), **method}],
        [(a["inputs"][0], a["labels"][0])],
        num_classes=classes,
        total_steps=steps,
        draws=lambda name, step: Stored(a["normal_draws"][step]),
    )
    name = str(method["name"])
    term = terms.objective.configured[-1].term
    term.set_prior(everyone(a))
    optimizer = torch.optim.SGD(net.parameters(), lr=float(a["lr_classifier"]), momentum=float(a["momentum"]), nesterov=True)
    for t in range(steps):
        mean = term.mean.clone()
        agree(sample_reference(mean[a["labels"][t]], term.std[a["labels"][t]], a["normal_draws"][t]), a["step_reference"][t])
        optimizer.zero_grad()
        terms.loss(a["inputs"][t], a["labels"][t]).backward()
        agree(net.features.detach(), a["step_feat"][t])
        agree(net.head(net.features).detach(), a["step_logits"][t])
        agree(terms.values["cross-entropy"], a["step_loss_ce"][t])
        agree(terms.values[name], a["step_loss_reg"][t])
        agree(net.features.grad, a["step_grad_feat"][t])
        agree(net.head.weight.grad, a["step_grad_W"][t])
        optimizer.step()
        terms.after_step()
        agree(net.extractor.weight.detach(), a["step_A"][t])
        agree(net.head.weight.detach(), a["step_W"][t])
        agree(net.head.bias.detach(), a["step_b"][t])
        agree(term.mean, a["step_mu"][t])
        if isinstance(term, AdaRand):
            prior_step(a, t, mean, term)
    if isinstance(term, AdaRand):
        agree(term.exp_avg, a["adam_exp_avg"])
        agree(term.exp_avg_sq, a["adam_exp_avg_sq"])


def prior_step(a: Arrays, t: int, mean: Tensor, term: AdaRand) -> None:
    steps = len(a["inputs"])
    agree(term.running_mean, a["step_running_mu"][t])
    metrics = term.metrics()
    agree(metrics["intra"], a["step_l_intra"][t])
    agree(metrics["inter"], a["step_l_inter"][t])
    agree(term.intra * metrics["intra"] + term.inter * metrics["inter"], a["step_loss_prior"][t])
    agree(prior_objective(mean, term.running_mean, term.active, intra=term.intra, inter=term.inter).gradient, a["step_grad_mu"][t])
    factor = cosine_factor(t, steps) if term.prior_schedule == "cosine" else 1.0
    agree(term.prior_lr * factor, a["step_lr_prior"][t])


def adarand(a: Arrays, *, intra: bool = True, inter: bool = True) -> None:
    constant = bool((a["step_lr_prior"] == a["lr_prior0"]).all())
    replay(
        a,
        {
            "name": "adarand",
            "alpha": float(a["alpha"]),
            "intra": intra,
            "inter": inter,
            "prior_lr": float(a["lr_prior0"]),
            "prior_schedule": "constant" if constant else "cosine",
            "prior_beta1": float(a["adam_beta1"]),
            "prior_beta2": float(a["adam_beta2"]),
            "prior_eps": float(a["adam_eps"]),
        },
    )


def methods_adarand_full(a: Arrays) -> None:
    adarand(a)


def methods_adarand_alpha_lam(a: Arrays) -> None:
    adarand(a)


def methods_adarand_no_intra(a: Arrays) -> None:
    adarand(a, intra=False)


def methods_adarand_no_inter(a: Arrays) -> None:
    adarand(a, inter=False)


def methods_randreg_cp(a: Arrays) -> None:
    replay(a, {"name": "randreg-cp"})


def methods_adarand_init(a: Arrays) -> None:
    statistics = ClassStatistics(int(a["num_classes"]))
    for features, labels in zip(a["features"].split(7), a["labels"].split(7), strict=True):
        statistics.update(features, labels)
    prior = statistics.prior()
    agree(statistics.count[:, 0].long(), a["counts"])
    agree(prior.active.to(a["active"].dtype), a["active"])
    agree(prior.mean, a["mu"])
    agree(prior.std, a["sigma"])
    pooled = ClassStatistics(1)
    pooled.update(a["features"], torch.zeros_like(a["labels"]))
    agree(pooled.prior().mean[0], a["pooled_mean"])
    agree(pooled.prior().std[0], a["pooled_std"])


def one_step(a: Arrays, net: nn.Module, inputs: Tensor, prior: ClassPrior, draws: Tensor) -> AdaRand:
    """One update of the prior at a constant rate; the options are the published ones where the file names none."""
    options = {"name": "adarand", "alpha": float(a["alpha"]), "prior_lr": float(a["lr_prior"]), "prior_schedule": "constant"}
    terms = attach(net, [options], [(inputs, a["labels"])], num_classes=len(prior.mean), draws=lambda *_: Stored(draws))
    term = terms.objective.configured[-1].term
    term.set_prior(prior)
    terms.loss(inputs, a["labels"]).backward()
    term.value = terms.values["adarand"]
    terms.after_step()
    agree(term.running_mean, a["running_mu"])
    agree(term.metrics()["intra"], a["l_intra"])
    agree(term.metrics()["inter"], a["l_inter"])
    agree(prior_objective(prior.mean, term.running_mean, term.active).gradient, a["grad_mu"])
    agree(term.mean, a["mu"])
    return term


def methods_adarand_batch1(a: Arrays) -> None:
    classes, width = a["mu0"].shape
    net = Toy(a["extractor0"], torch.zeros(classes, width, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64))
    term = one_step(a, net, a["inputs"], everyone(a), a["normal_draws"])
    agree(net.features.detach(), a["features"])
    agree(term.value, a["loss_reg"])
    reference = sample_reference(a["mu0"][a["labels"]], a["sigma"][a["labels"]], a["normal_draws"])
    agree(reference, a["reference"])
    features = a["features"].clone().requires_grad_()
    random_reference_loss(features, reference).backward()
    agree(features.grad, a["grad_features_reg"])


def methods_adarand_inactive_class(a: Arrays) -> None:
    classes, width = a["mu0"].shape
    net = Toy(
        torch.eye(width, dtype=torch.float64), torch.zeros(classes, width, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    )
    prior = ClassPrior(a["mu0"], torch.zeros_like(a["mu0"]), a["active"].bool())
    term = one_step(a, net, a["features"], prior, torch.zeros_like(a["features"]))
    agree(term.active.to(a["active"].dtype), a["active"])


def methods_l2sp(a: Arrays) -> None:
    numbers = sorted(int(name.removeprefix("source_")) for name in a if name.startswith("source_"))

    class Net(nn.Module):
        def __init__(self, values: list[Tensor], head: list[Tensor]) -> None:
            super().__init__()
            self.body = nn.ParameterList([value.clone() for value in values])
            self.head = nn.ParameterList([value.clone() for value in head])

    net = Net([a[f"target_{i}"] for i in numbers], [a["head_0"], a["head_1"]])
    start = {f"body.{i}": a[f"source_{i}"] for i in numbers}
    step = SimpleNamespace(model=net, head=net.head, reference=SimpleNamespace(weights=start), logits=a["head_0"])
    values = L2SP().penalty(step)
    total = a["alpha"] * values["backbone"] + a["beta"] * values["head"]
    total.backward()
    agree(values["backbone"].detach(), a["penalty_backbone"])
    agree(values["head"].detach(), a["penalty_head"])
    agree(total.detach(), a["weighted_total"])
    for i in numbers:
        agree(net.body[i].grad, a[f"grad_target_{i}"])
    for i in range(2):
        agree(net.head[i].grad, a[f"grad_head_{i}"])


def methods_diagnostics(a: Arrays) -> None:
    features, labels, weight, bias = a["features"], a["labels"], a["weight"], a["bias"]
    agree(feature_norm(features), a["mean_feature_norm"])
    agree(norm_of_mean_feature(features), a["norm_of_mean_feature"])
    agree(differential_entropy(features), a["entropy"])
    agree(differential_entropy(a["features_with_duplicate"]), a["entropy_duplicate"])
    agree(differential_entropy(features, full=True), a["entropy_full"])
    for ours, published in ((features, "entropy_reference"), (a["features_with_duplicate"], "entropy_duplicate_reference")):
        # The release shifts every coordinate difference by 1e-6 where we have a floor.
        torch.testing.assert_close(torch.as_tensor(differential_entropy(ours), dtype=torch.float64), a[published], rtol=1e-6, atol=0)
    found, expected = class_entropies(features, labels, int(a["num_classes"])), a["per_class_entropy"]
    assert torch.equal(found.isnan(), expected.isnan())
    agree(found.nan_to_num(), expected.nan_to_num())
    agree(conditional_entropy(features, labels).value, a["conditional_entropy"])
    agree(mutual_information(features, labels), a["mutual_information"])
    logits = features @ weight.T + bias
    head = weight.clone().requires_grad_()
    cross_entropy(features @ head.T + bias, labels).mean().backward()
    agree(head.grad, a["grad_weight"])
    agree(gradient_norm(logits, labels, features), a["grad_norm"])
    agree(a["grad_weight"].norm(), a["grad_norm"])
    view = pca_view(features)
    for ours, name in zip(view, ("mean", "components", "projection", "explained_variance_ratio"), strict=True):
        agree(ours, a[f"pca_{name}"])


def methods_schedules(a: Arrays) -> None:
    rates = [0.01 * multistep_factor(epoch, (60, 120, 160)) for epoch in range(len(a["multistep_lr_by_epoch"]))]
    agree(torch.tensor(rates, dtype=torch.float64), a["multistep_lr_by_epoch"])
    for name in ("prior", "adamw"):
        steps, warmup = len(a[f"cosine_{name}"]), int(a[f"warmup_{name}"])
        factors = [cosine_factor(step, steps, warmup) for step in range(steps)]
        agree(torch.tensor(factors, dtype=torch.float64), a[f"cosine_{name}"])


MODULES = [
    sys.modules[__name__],
    *(importlib.import_module(f"tests.golden.{file.stem}") for file in sorted(Path(__file__).parent.glob("cases_*.py"))),
]
CHECKS: dict[str, list[Callable[[Arrays], None]]] = defaultdict(list)
"""What compares a file, by folder and name; several modules may share one file."""
for module in MODULES:
    for function in [name for name in vars(module) if name.startswith(("methods_", "curvature_", "label_noise_"))]:
        CHECKS[function].append(getattr(module, function))
FILES = sorted(FOLDER.glob("*/*.npz")) if FOLDER.is_dir() else []


@pytest.mark.parametrize("path", FILES or [None], ids=[f"{path.parent.name}-{path.stem}" for path in FILES] or ["absent"])
def test_reference_numbers(path: Path | None) -> None:
    if path is None:
        pytest.skip(f"no reference files in {FOLDER}; set HOLDFAST_GOLDEN")
    folder, name = path.parent.name, path.stem
    checks = CHECKS[f"{folder}_{name}"]
    built = name not in NOT_BUILT.get(folder, ())
    assert checks or not built, f"{folder}/{name}.npz is not known here; add a check that compares its arrays"
    with np.load(path, allow_pickle=False) as arrays:
        stored = {key: arrays[key] if arrays[key].dtype.kind == "U" else torch.as_tensor(arrays[key]) for key in arrays.files}
    for check in checks:
        check(stored)
    if not built:
        pytest.skip(f"{folder}/{name}: {'not all of it' if checks else 'nothing'} is built yet")
