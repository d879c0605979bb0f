"""Wrong labels: transition matrices, and whatever finds, makes or mends them. No import of torch.

The formulas are public here; what reads and writes datasets is in ``examples``, ``features``, ``voters`` and ``review``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.labels.adversarial import Adversarial, accuracy_bounds, adversarial_labels
    from holdfast.labels.anchor_points import Anchors, DualT, anchors, dual_t
    from holdfast.labels.annotators import DawidSkene, dawid_skene
    from holdfast.labels.clean_set import from_clean_set, from_posterior
    from holdfast.labels.confident_learning import ConfidentJoint, confident_joint
    from holdfast.labels.estimators import Estimate, Intervals, bootstrap, estimate_transition
    from holdfast.labels.injection import (
        Injected,
        draw_labels,
        empirical_transition,
        inject_asymmetric,
        inject_class_prior,
        inject_from_matrix,
        inject_from_model,
        inject_pair,
        inject_symmetric,
    )
    from holdfast.labels.instance_noise import inject_instance
    from holdfast.labels.issues import Issues, average_precision, label_issues, precision_at
    from holdfast.labels.ju2022 import ReleasedDualT, released_dual_t, released_noise
    from holdfast.labels.majority import accuracy_weights, hard_labels, majority_probabilities, majority_vote
    from holdfast.labels.probabilities import cross_validated_probabilities, expected_calibration_error
    from holdfast.labels.report import NoiseReport, corrected_accuracy, noise_report
    from holdfast.labels.revision import judged_by_known, likeliest_transition, posterior_of_truth
    from holdfast.labels.rules import Rule, apply_rules, read_rules
    from holdfast.labels.votes import VoteStatistics, vote_counts, vote_statistics

__all__ = [
    "Adversarial",
    "Anchors",
    "ConfidentJoint",
    "DawidSkene",
    "DualT",
    "Estimate",
    "Injected",
    "Intervals",
    "Issues",
    "NoiseReport",
    "ReleasedDualT",
    "Rule",
    "VoteStatistics",
    "accuracy_bounds",
    "accuracy_weights",
    "adversarial_labels",
    "anchors",
    "apply_rules",
    "average_precision",
    "bootstrap",
    "confident_joint",
    "corrected_accuracy",
    "cross_validated_probabilities",
    "dawid_skene",
    "draw_labels",
    "dual_t",
    "empirical_transition",
    "estimate_transition",
    "expected_calibration_error",
    "from_clean_set",
    "from_posterior",
    "hard_labels",
    "inject_asymmetric",
    "inject_class_prior",
    "inject_from_matrix",
    "inject_from_model",
    "inject_instance",
    "inject_pair",
    "inject_symmetric",
    "judged_by_known",
    "label_issues",
    "likeliest_transition",
    "majority_probabilities",
    "majority_vote",
    "noise_report",
    "posterior_of_truth",
    "precision_at",
    "read_rules",
    "released_dual_t",
    "released_noise",
    "vote_counts",
    "vote_statistics",
]

_MODULES = {
    "adversarial": (
        "Adversarial",
        "accuracy_bounds",
        "adversarial_labels",
    ),
    "anchor_points": (
        "Anchors",
        "DualT",
        "anchors",
        "dual_t",
    ),
    "clean_set": (
        "from_clean_set",
        "from_posterior",
    ),
    "confident_learning": (
        "ConfidentJoint",
        "confident_joint",
    ),
    "annotators": (
        "DawidSkene",
        "dawid_skene",
    ),
    "estimators": (
        "Estimate",
        "Intervals",
        "bootstrap",
        "estimate_transition",
    ),
    "injection": (
        "Injected",
        "draw_labels",
        "empirical_transition",
        "inject_asymmetric",
        "inject_class_prior",
        "inject_from_matrix",
        "inject_from_model",
        "inject_pair",
        "inject_symmetric",
    ),
    "instance_noise": ("inject_instance",),
    "issues": (
        "Issues",
        "average_precision",
        "label_issues",
        "precision_at",
    ),
    "ju2022": (
        "ReleasedDualT",
        "released_dual_t",
        "released_noise",
    ),
    "majority": (
        "accuracy_weights",
        "hard_labels",
        "majority_probabilities",
        "majority_vote",
    ),
    "probabilities": (
        "cross_validated_probabilities",
        "expected_calibration_error",
    ),
    "report": (
        "NoiseReport",
        "corrected_accuracy",
        "noise_report",
    ),
    "revision": (
        "judged_by_known",
        "likeliest_transition",
        "posterior_of_truth",
    ),
    "rules": (
        "Rule",
        "apply_rules",
        "read_rules",
    ),
    "votes": (
        "VoteStatistics",
        "vote_counts",
        "vote_statistics",
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: losses and options need the matrices alone, and SciPy takes its time."""
    if name in _HOME:
        return getattr(importlib.import_module(f"holdfast.labels.{_HOME[name]}"), name)
    raise AttributeError(f"module 'holdfast.labels' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
