"""Above ``fit``: ways to a finished run that take more than one phase, each phase with a directory of its own.

:func:`fit_config`, :func:`resume` and :func:`plan_config` are those of :mod:`holdfast.build` for every run; what a run's options ask for
decides whether it is a recipe's. No import of torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.run import Run

if TYPE_CHECKING:
    from holdfast.config.schema import FitConfig
    from holdfast.planning import Plan
    from holdfast.training.events import Listener

__all__ = ["fit_config", "plan_config", "resume"]


def fit_config(config: FitConfig, *, listener: Listener) -> Run:
    """Fine-tune as configured, by all phases that takes."""
    if config.labels == "robust":
        from holdfast.recipes.robust_labels import fit_robust

        return fit_robust(config, listener=listener)
    if config.recipe == "lp-ft":
        from holdfast.recipes.lp_ft import fit_lp_ft

        return fit_lp_ft(config, listener=listener)
    from holdfast.build import fit_config as fit_once

    return fit_once(config, listener=listener)


def resume(path: str | Path, *, overrides: Mapping[str, Any], listener: Listener) -> Run:
    """Go on with a run in whichever phase it stopped."""
    recorded = Run.open(path).config if Path(path, "config.yaml").is_file() else {}
    if recorded.get("labels") == "robust":
        from holdfast.recipes.robust_labels import resume_robust

        return resume_robust(path, overrides=overrides, listener=listener)
    if recorded.get("recipe") == "lp-ft":
        from holdfast.recipes.lp_ft import resume_lp_ft

        return resume_lp_ft(path, overrides=overrides, listener=listener)
    from holdfast.build import resume as resume_once

    return resume_once(path, overrides=overrides, listener=listener)


def plan_config(config: FitConfig) -> Plan:
    """What the last phase would do and take; nothing is written, and nothing estimated or probed."""
    if config.labels == "robust":
        from holdfast.recipes.robust_labels import after_estimate

        config = after_estimate(config)
    from holdfast.build import plan_config as plan_once

    return plan_once(config)
