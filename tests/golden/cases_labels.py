"""Labels: what estimates transition matrices, makes labels wrong, and merges votes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from tests.golden.arrays import Arrays

from holdfast import labels
from holdfast.labels.transition import pair, symmetric

Case = dict[str, np.ndarray]


def cases(a: Arrays) -> Iterator[tuple[str, Case]]:
    """The arrays of each case, by the names behind its own."""
    for case in sorted({name.partition("/")[0] for name in a}):
        yield case, {name.removeprefix(f"{case}/"): a[name].numpy() for name in a if name.startswith(f"{case}/")}


def close(actual: object, expected: np.ndarray, *, rtol: float = 1e-10, atol: float = 1e-14) -> None:
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=rtol, atol=atol)


def exact(actual: object, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(actual), expected)


def label_noise_transition_estimates(a: Arrays) -> None:
    for _, case in cases(a):
        probs, noisy = case["probs"], case["noisy_labels"]
        anchors(probs, case)
        found = labels.dual_t(probs, noisy)
        exact(found.counts, case["spade_counts"])
        close(found.spade, case["spade_clean"])
        close(found.transition, case["dual_clean"])
        released = labels.released_dual_t(probs, noisy)
        close(released.spade, case["ref_spade"])
        close(released.club, case["ref_club_mutating"])
        close(released.club, case["ref_anchor_filtered_mutating"])
        close(released.product, case["ref_dual"])
        joint = labels.confident_joint(probs, noisy)
        close(joint.thresholds, case["cl_thresholds"])
        exact(joint.counts, case["cl_confident_joint_rows_observed"])
        close(joint.joint, case["cl_joint_rows_observed"])
        close(joint.transition, case["cl_T_rows_true"])
        close(joint.prior, case["cl_prior_true"])
        close(joint.joint, case["cleanlab_joint_rounded"], rtol=0, atol=(1 + 1e-9) / len(noisy))
        np.testing.assert_array_equal(probs, case["probs"])


def anchors(probs: np.ndarray, case: Case) -> None:
    found = labels.anchors(probs)
    close(found.rows, case["anchor_filtered_clean"])
    exact(found.examples, case["anchor_index"])
    close(found.transition, case["anchor_filtered_clean"] / case["anchor_filtered_clean"].sum(axis=1, keepdims=True))
    close(labels.anchors(probs, percentile=None).rows, case["ref_anchor_max"])


def label_noise_noise_injection(a: Arrays) -> None:
    for name in a:
        kind, _, rest = name.partition("/")
        if kind.startswith("T_"):
            classes, rate = rest.split("_")
            matrices(kind, int(classes), float(rate), a[name].numpy())
        if kind == "ref" and rest.endswith("/labels"):
            released(a, rest.removesuffix("/labels"))
    numbers = {name: value.numpy() for name, value in a.items()}
    exact(labels.draw_labels(numbers["cdf/labels_in"], numbers["cdf/T"], numbers["cdf/uniforms"]), numbers["cdf/labels_out"])
    report(numbers)


def matrices(kind: str, classes: int, rate: float, expected: np.ndarray) -> None:
    everyone = np.arange(classes)
    forms = {
        "T_sym_noself": (symmetric(classes, rate), labels.inject_symmetric(everyone, classes, rate)),
        "T_sym_self": (symmetric(classes, rate, self_flips=True), labels.inject_symmetric(everyone, classes, rate, self_flips=True)),
        "T_pair": (pair(classes, rate), labels.inject_pair(everyone, classes, rate)),
    }
    form, injected = forms[kind]
    close(form, expected, rtol=1e-15, atol=0)
    close(injected.transition, expected, rtol=1e-15, atol=0)


def released(a: Arrays, rule: str) -> None:
    kind, rate = rule.split("_")
    base, rows, classes = a["ref/base_labels"].numpy(), a["ref/train_indices"].numpy(), int(a["ref/num_classes"])
    found = labels.released_noise(base, classes, float(rate), asymmetric=kind == "asym", rows=rows)
    exact(found.labels, a[f"ref/{rule}/labels"].numpy())
    exact(np.flatnonzero(found.flipped[rows]), a[f"ref/{rule}/wrong_positions"].numpy())


def report(a: Case) -> None:
    found = labels.noise_report(a["report/true"], a["report/noisy"], a["report/pred"], len(a["report/empirical_T"]))
    names = {
        "noise_rate": "noise_rate",
        "noisy_accuracy": "noisy_train_acc",
        "clean_accuracy": "clean_train_acc",
        "corrected": "wrong_correct",
        "memorised": "wrong_memorised",
        "other": "wrong_other",
        "rightly_labelled": "clean_correct",
        "transition": "empirical_T",
    }
    assert set(names) == {field.name for field in dataclasses.fields(found)}
    for ours, theirs in names.items():
        close(getattr(found, ours), a[f"report/{theirs}"], rtol=1e-12)


def label_noise_label_models(a: Arrays) -> None:
    for _, case in cases(a):
        votes, classes = case["L"], int(case["n_class"])
        statistics = labels.vote_statistics(votes, classes, true_labels=case["true"])
        for name in ("coverage", "overlap", "conflict"):
            close(getattr(statistics, name), case[name])
        exact(labels.vote_counts(votes, classes), case["vote_counts"])
        close(labels.majority_probabilities(votes, classes), case["mv_proba"])
        exact(labels.majority_vote(votes, classes), case["mv_hard_ties_abstain"])
        exact(labels.majority_vote(votes, classes, ties="lowest"), case["mv_hard_ties_lowest"])
        for number in sorted(int(name.removeprefix("ds_proba_iter")) for name in case if name.startswith("ds_proba_iter")):
            dawid_skene(votes, classes, number, case)


def dawid_skene(votes: np.ndarray, classes: int, iterations: int, case: Case) -> None:
    found = labels.dawid_skene(votes, classes, iterations=iterations, tol=0)
    atol = 1e-7 if iterations >= 50 else 1e-9
    close(found.probs, case[f"ds_proba_iter{iterations}"], rtol=1e-6, atol=atol)
    close(found.prior, case[f"ds_prior_iter{iterations}"], rtol=1e-6, atol=atol)
    close(found.confusion, case[f"ds_confusion_true_observed_iter{iterations}"], rtol=1e-6, atol=atol)
    close(found.log_likelihoods, case[f"ds_loglik_iter{iterations}"], rtol=1e-6, atol=atol)
    assert (np.diff(found.log_likelihoods) > -1e-9).all()
