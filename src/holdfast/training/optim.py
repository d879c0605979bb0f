"""Parameter groups, optimizers and learning rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from holdfast.config.schema import FitConfig
from holdfast.models.classifier import Classifier
from holdfast.models.select import layer_depths
from holdfast.models.target_classifier import SGD
from holdfast.schedules import cosine_factor, linear_factor, multistep_factor, warmup_factor
from holdfast.terms import Term

__all__ = ["classifier_sgd", "learning_rate_factor", "make_optimizer", "set_learning_rate", "warmup_steps"]


def make_optimizer(config: FitConfig, classifier: Classifier, terms: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over backbone, head and the terms' own parameters, each in a group, the backbone in one a layer with ``layer_decay``.

    SGD (with Nesterov momentum, where there is momentum) and AdamW as ``torch.optim`` defines them. Each group remembers its rate at
    factor 1 as ``base_lr``. The terms' parameters are as new as the head and take its rate, apart from those that began as pretrained
    weights, which take the backbone's. Frozen parameters are left out.
    """
    head_lr = _head_lr(config)
    pretrained = [parameter for term in terms.modules() if isinstance(term, Term) for parameter in term.pretrained_parameters()]
    known = set(map(id, pretrained))
    groups = [
        *_backbone_groups(config, classifier),
        {"params": [p for _, p in classifier.head_parameters() if p.requires_grad], "base_lr": head_lr, "name": "head"},
        {"params": [p for p in terms.parameters() if p.requires_grad and id(p) not in known], "base_lr": head_lr, "name": "terms"},
        {"params": pretrained, "base_lr": config.lr, "name": "pretrained weights of terms"},
    ]
    groups = [{**group, "lr": group["base_lr"]} for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, nesterov=config.momentum > 0, weight_decay=config.weight_decay)
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, amsgrad=config.amsgrad)


def classifier_sgd(config: FitConfig) -> SGD:
    """How methods train a classifier before the run: by the SGD of the run, or by the usual one where the run has another optimizer."""
    batchnorm = config.batchnorm == "train"
    if config.optimizer != "sgd":
        return SGD(train_batchnorm=batchnorm)
    return SGD(config.lr, _head_lr(config), config.momentum, config.weight_decay, batchnorm)


def _head_lr(config: FitConfig) -> float:
    if config.head_lr_factor is not None:
        return config.lr * config.head_lr_factor
    return config.lr if config.head_lr is None else config.head_lr


def _backbone_groups(config: FitConfig, classifier: Classifier) -> list[dict[str, Any]]:
    """One group, or with layer-wise decay one for each depth d of D, at the rate ``lr · layer_decay^(D - d)``; the head is at depth D."""
    trained = {name: parameter for name, parameter in classifier.backbone_parameters() if parameter.requires_grad}
    if config.layer_decay == 1:
        return [{"params": list(trained.values()), "base_lr": config.lr, "name": "backbone"}]
    depths = layer_depths(classifier.net, classifier.head_name)
    deepest = max(depths.values())
    return [
        {
            "params": [parameter for name, parameter in trained.items() if depths[name] == depth],
            "base_lr": config.lr * config.layer_decay ** (deepest - depth),
            "name": f"layer {depth}",
        }
        for depth in range(deepest + 1)
    ]


def warmup_steps(config: FitConfig, steps_per_epoch: int) -> int:
    """Steps of warm-up, at least one where ``warmup_epochs`` is above 0."""
    if not config.warmup_epochs:
        return config.warmup_steps
    return max(1, round(config.warmup_epochs * steps_per_epoch))


def learning_rate_factor(config: FitConfig, total_steps: int, steps_per_epoch: int) -> Callable[[int, int], float]:
    """The factor as a function of (step, epoch), both 0-based: warm-up times schedule, the cosine beginning after the warm-up."""
    warmup = warmup_steps(config, steps_per_epoch)

    def after(step: int, epoch: int) -> float:
        if config.schedule == "cosine":
            return cosine_factor(max(step, warmup), total_steps, warmup)
        if config.schedule == "linear":
            return linear_factor(max(step, warmup), total_steps, warmup)
        return multistep_factor(epoch, config.milestones, config.gamma) if config.schedule == "step" else 1.0

    return lambda step, epoch: warmup_factor(step, warmup, config.warmup, config.warmup_start) * after(step, epoch)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give each group its own rate times ``factor``."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
