"""Which labels look wrong? ``python -m benchmarks.label_issues --data DEST``: rankings of 20 % symmetric noise.

The rankings of ``holdfast labels issues``, cleanlab's and a random order, of the same probabilities: those of a classifier on frozen
features that has not seen the label. Average precision, and precision among the first 100; three seeds of the noise. ``DEST`` holds
``cars98a``, unpacked, and ``mobilenetv1_025_imagenet.safetensors``; without it only the digits are ranked.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.noisy_cells import IMAGENET, SEEDS
from benchmarks.noisy_summary import spread
from holdfast import labels
from holdfast.config.schema import FitConfig
from holdfast.labels.arrays import FloatArray, IntArray, MaskArray
from holdfast.labels.examples import read_examples
from holdfast.labels.features import example_features
from holdfast.labels.issues import SCORES

RATE = 0.2
FIRST = 100
RANDOM_ORDERS = 200


class Judged(NamedTuple):
    """Labels (N,), of which some are wrong (N,), and the probabilities (N, K) they are judged by."""

    observed: IntArray
    wrong: MaskArray
    probs: FloatArray


Ranking = Callable[[Judged], Sequence[IntArray]]
"""Orders (N,), first to last; more than one where their mean counts."""


def judge(true: IntArray, features: FloatArray, num_classes: int, seed: int) -> Judged:
    """Make labels wrong, and judge them without having seen them."""
    noisy = labels.inject_symmetric(true, num_classes, RATE, seed=seed).labels
    return Judged(noisy, noisy != true, labels.cross_validated_probabilities(features, noisy, num_classes, seed=seed))


def ours(score: str) -> Ranking:
    """That of ``--score``."""
    return lambda judged: [labels.label_issues(judged.probs, judged.observed, score=score).order]


def cleanlabs(score: str, *, adjusted: bool = False) -> Ranking:
    """By its label quality scores."""

    def rank(judged: Judged) -> Sequence[IntArray]:
        from cleanlab.rank import get_label_quality_scores

        scores = get_label_quality_scores(judged.observed, judged.probs, method=score, adjust_pred_probs=adjusted)
        return [np.argsort(scores, kind="stable")]

    return rank


def cleanlabs_issues(judged: Judged) -> Sequence[IntArray]:
    """What its ``find_label_issues`` finds, worst first, and then the others by self-confidence."""
    from cleanlab.filter import find_label_issues

    found = find_label_issues(judged.observed, judged.probs, return_indices_ranked_by="self_confidence", n_jobs=1)
    others = labels.label_issues(judged.probs, judged.observed).order
    return [np.concatenate([found, others[~np.isin(others, found)]])]


def at_random(judged: Judged) -> Sequence[IntArray]:
    """Many random orders."""
    rng = np.random.default_rng(0)
    return [rng.permutation(len(judged.wrong)) for _ in range(RANDOM_ORDERS)]


RANKINGS: dict[str, Ranking] = {
    "random order": at_random,
    **{f"`--score {score}`": ours(score) for score in SCORES},
    **{f"cleanlab, `{score}`": cleanlabs(score) for score in ("self_confidence", "normalized_margin", "confidence_weighted_entropy")},
    **{f"cleanlab, `{score}`, adjusted": cleanlabs(score, adjusted=True) for score in ("self_confidence", "normalized_margin")},
    "cleanlab, `find_label_issues` first": cleanlabs_issues,
}
"""By name in the table."""


def measured(ranking: Ranking, judged: Judged) -> tuple[float, float]:
    """Average precision and precision among the first, the mean over orders."""
    found = [(labels.average_precision(judged.wrong, o), labels.precision_at(judged.wrong, o, FIRST)) for o in ranking(judged)]
    precision, first = np.mean(found, axis=0)
    return float(precision), float(first)


def table(by_data: Mapping[str, Sequence[Judged]]) -> list[str]:
    """Lines of a Markdown table: mean and standard deviation over seeds."""
    columns = [f"{name}: {what}" for name in by_data for what in ("average precision", f"precision at {FIRST}")]
    lines = [f"| ranking | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, ranking in RANKINGS.items():
        cells = []
        for seeds in by_data.values():
            cells += [spread(values, 3) for values in zip(*(measured(ranking, judged) for judged in seeds), strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def judged_data(spec: str, model: str, weights: Path | None = None, image_size: int | None = None) -> list[Judged]:
    """The training split of a dataset under each seed."""
    examples = read_examples(spec).with_splits(FitConfig(data=spec))
    rows = np.flatnonzero(examples.in_split("train"))
    features = example_features(
        examples, rows.tolist(), model=model, weights=None if weights is None else str(weights), image_size=image_size
    )
    true = examples.indices(examples.labels, examples.classes, "the label")[rows]
    return [judge(true, features, len(examples.classes), seed) for seed in SEEDS]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with cars98a and the weights")
    options = parser.parse_args(argv)
    found = {"digits": judged_data("demo:digits", "demo:glyphnet")}
    if options.data is not None:
        found["cars98a"] = judged_data(str(options.data / "cars98a"), "demo:mobilenetv1-025", options.data / IMAGENET, 128)
    for name, seeds in found.items():
        right = spread([100 * float((judged.probs.argmax(axis=1) == judged.observed)[~judged.wrong].mean()) for judged in seeds])
        wrong = spread([100 * float(judged.wrong.mean()) for judged in seeds])
        print(f"{name}: {len(seeds[0].wrong)} labels, {wrong} % wrong; the judge agrees with {right} % of the right ones")
    print(f"cleanlab {version('cleanlab')}\n")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
