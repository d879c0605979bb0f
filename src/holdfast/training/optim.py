"""Parameter groups, optimizers and learning rates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from holdfast.config.schema import FitConfig
from holdfast.models.classifier import Classifier
from holdfast.schedules import cosine_factor, multistep_factor

__all__ = ["learning_rate_factor", "make_optimizer", "set_learning_rate"]


def make_optimizer(config: FitConfig, classifier: Classifier, terms: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over backbone, head and the terms' own parameters, in up to three groups.

    SGD (with Nesterov momentum, where there is momentum) and AdamW as ``torch.optim`` defines them. Each group remembers its rate at
    factor 1 as ``base_lr``. The terms' parameters, which are as new as the head, take the head's rate.
    """
    head_lr = config.lr if config.head_lr is None else config.head_lr
    groups = [
        {"params": [p for _, p in classifier.backbone_parameters() if p.requires_grad], "base_lr": config.lr, "name": "backbone"},
        {"params": [p for _, p in classifier.head_parameters() if p.requires_grad], "base_lr": head_lr, "name": "head"},
        {"params": list(terms.parameters()), "base_lr": head_lr, "name": "terms"},
    ]
    groups = [{**group, "lr": group["base_lr"]} for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, nesterov=config.momentum > 0, weight_decay=config.weight_decay)
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay)


def learning_rate_factor(config: FitConfig, total_steps: int) -> Callable[[int, int], float]:
    """The factor as a function of (step, epoch), both 0-based."""
    if config.schedule == "cosine":
        return lambda step, epoch: cosine_factor(step, total_steps, config.warmup_steps)

    def factor(step: int, epoch: int) -> float:
        warmup = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
        return warmup * (multistep_factor(epoch, config.milestones, config.gamma) if config.schedule == "step" else 1.0)

    return factor


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give each group its own rate times ``factor``."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
