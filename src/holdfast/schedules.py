"""Learning-rate factors as pure functions of the step or epoch: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

__all__ = ["cosine_factor", "linear_factor", "multistep_factor", "warmup_factor"]


def multistep_factor(epoch: int, milestones: Sequence[int], gamma: float = 0.1) -> float:
    """Factor ``gamma`` for each milestone reached.

    AdaRand (CVPR 2024) lowers the rate after epochs 60, 120 and 160: the first lower epoch has 0-based index 60.

    Args:
        epoch: 0-based epoch.
        milestones: Epochs from which a further factor applies.
        gamma: Factor for each milestone.

    Example:
        >>> [multistep_factor(epoch, (1, 3)) for epoch in range(4)]
        [1.0, 0.1, 0.1, 0.010000000000000002]
    """
    return float(gamma ** sum(epoch >= milestone for milestone in milestones))


def cosine_factor(step: int, total_steps: int, warmup_steps: int = 0) -> float:
    """Linear warm-up from 0, then ``cos(7π/16 · t)`` with t from 0 to 1; the last factor is about 0.195.

    The form of the AdaRand release (commit 25cc27d), for its AdamW runs (``warmup_steps`` 30) and its prior (0).

    Args:
        step: 0-based step.
        total_steps: Steps of the run, warm-up included.
        warmup_steps: Steps of warm-up; the factor of step ``t`` is ``t / warmup_steps``.

    Example:
        >>> cosine_factor(0, 100), cosine_factor(15, 100, warmup_steps=30)
        (1.0, 0.5)
    """
    if step < warmup_steps:
        return step / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return math.cos(7 * math.pi / 16 * progress)


def linear_factor(step: int, total_steps: int, warmup_steps: int = 0) -> float:
    """Factor that falls in a line from 1, at the end of the warm-up, to 0 behind the last step.

    Args:
        step: 0-based step, behind the warm-up.
        total_steps: Steps of the run, warm-up included.
        warmup_steps: Steps of warm-up.

    Example:
        >>> [linear_factor(step, 4) for step in range(4)]
        [1.0, 0.75, 0.5, 0.25]
    """
    return (total_steps - step) / max(1, total_steps - warmup_steps)


def warmup_factor(step: int, warmup_steps: int, shape: Literal["linear", "cosine", "constant"] = "linear", start: float = 0.0) -> float:
    """Factor that rises from ``start`` to 1 over the warm-up, and 1 after it.

    With ``p = step / warmup_steps``: ``linear`` is ``start + (1 - start)·p``, ``cosine`` is ``start + (1 - start)·(1 - cos(π·p))/2``,
    ``constant`` stays at ``start`` until the end of the warm-up.

    Args:
        step: 0-based step.
        warmup_steps: Steps of warm-up, 0 for none.
        shape: How it rises.
        start: Factor of the first step.

    Example:
        >>> [warmup_factor(step, 4, start=0.5) for step in (0, 2, 4, 9)]
        [0.5, 0.75, 1.0, 1.0]
    """
    if step >= warmup_steps:
        return 1.0
    progress = step / warmup_steps
    risen = {"linear": progress, "cosine": (1 - math.cos(math.pi * progress)) / 2, "constant": 0.0}[shape]
    return start + (1 - start) * risen
