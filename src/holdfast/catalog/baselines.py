"""Strong baselines: plain fine-tuning with the options of training that make it strong, under the names that papers have for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BASELINES", "DEFAULT", "Baseline"]


@dataclass(frozen=True)
class Baseline:
    """The record of one baseline.

    Args:
        name: What ``holdfast compare --methods`` calls it.
        summary: One line.
        options: Options of ``holdfast fit`` that make it, by field name.
        good_for: When to reach for it.
        caveats: Where it lost, or what to watch.
        cost: What it costs beside plain fine-tuning.
        sources: Papers.
    """

    name: str
    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)
    good_for: str = ""
    caveats: str = ""
    cost: str = "none"
    sources: tuple[str, ...] = ()

    @property
    def typed(self) -> str:
        """Its options as typed after ``holdfast fit``.

        Example:
            >>> BASELINES["tuned"].typed
            '--layer-decay 0.8 --ema 0.999 --patience 10'
        """
        return " ".join(
            f"--{key.replace('_', '-')} {value:g}" if isinstance(value, float) else f"--{key.replace('_', '-')} {value}"
            for key, value in self.options.items()
        )


_ALL = (
    Baseline(
        "linear-probe",
        "the head alone, solved on features of the pretrained network",
        {"recipe": "linear-probe"},
        good_for="the floor that fine-tuning has to beat, in seconds; few images, or features that fit already",
        caveats=(
            "Nothing is augmented and no feature changes. It is the same for every seed of training, so that its cells differ by their "
            "data seeds alone. Trained by steps with augmentation instead: --freeze backbone."
        ),
        cost="one pass over the data and a convex problem, in place of all epochs",
        sources=(
            "Multinomial logistic regression with an L2 penalty chosen on validation, as in Kornblith, Shlens and Le, Do Better ImageNet "
            "Models Transfer Better?, CVPR 2019, and Radford et al., ICML 2021 (CLIP)",
        ),
    ),
    Baseline(
        "lp-ft",
        "the linear probe first, then all weights from its head",
        {"recipe": "lp-ft"},
        good_for="few images, and test data that differ from the training data; joins every method: --recipe lp-ft --method adarand",
        caveats="With the rate of a fresh head the good start may be trained away: try a smaller --lr too.",
        cost="one pass over the data and a convex problem before the first epoch",
        sources=(
            "Kumar, Raghunathan, Jones, Ma and Liang, Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, "
            "ICLR 2022",
        ),
    ),
    Baseline(
        "llrd",
        "a smaller learning rate for each layer further from the head",
        {"layer_decay": 0.8},
        good_for="deep networks, transformers above all, whose first layers need to change least",
        caveats="The factor multiplies over layers: in a network of many layers the first ones stand nearly still.",
        sources=(
            "Howard and Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018 (discriminative fine-tuning)",
            "Clark, Luong, Le and Manning, ELECTRA, ICLR 2020 (0.8 for its base model, which is the default here)",
        ),
    ),
    Baseline(
        "ema",
        "keeps the moving average of the weights instead of the last ones",
        {"ema": 0.999},
        good_for="short trainings and large rates, whose last weights depend on the last batches",
        caveats="The average lags behind: it loses where training has not come to rest. Both forms of the weights are in result.json.",
        cost="another copy of the weights, and an evaluation of them after each epoch",
        sources=("Polyak and Juditsky, 1992; decay and warm-up as in TensorFlow's moving averages, Tan and Le, EfficientNet, ICML 2019",),
    ),
    Baseline(
        "early-stopping",
        "ends training after 5 epochs without a better result on validation",
        {"patience": 5},
        good_for="not paying for epochs that help no more",
        caveats=(
            "Every run keeps the epoch that is best on validation anyway, so that this saves time and hardly changes accuracy. Needs a "
            "validation split and another --select than last."
        ),
        cost="less: the epochs after the best one and 5 more are not made",
        sources=("Prechelt, Early Stopping, but When?, 1998",),
    ),
    Baseline(
        "head-lr",
        "ten times the learning rate for the head, which starts from nothing",
        {"head_lr_factor": 10.0},
        good_for="small rates for the backbone, and few steps",
        caveats="With a rate that suits the head already, ten times that is too much.",
        sources=(
            "Usual since Long et al., Learning Transferable Features with Deep Adaptation Networks, ICML 2015; the protocol of BSS, "
            "Co-Tuning and DELTA in the Transfer-Learning-Library",
        ),
    ),
    Baseline(
        "tuned",
        "layer-wise rates, averaged weights and early stopping together",
        {"layer_decay": 0.8, "ema": 0.999, "patience": 10},
        good_for="the plain fine-tuning that a method should beat; search its rate too: --grid tuned.lr=0.003,0.01,0.03",
        caveats="Needs a validation split and another --select than last.",
        cost="that of llrd, ema and early-stopping",
        sources=("The composition is ours; parts as named there",),
    ),
)

DEFAULT = (
    "no --method: plain fine-tuning, which no other baseline of 'holdfast list baselines' was shown to beat in a long training; "
    "in a short one --recipe lp-ft was better; the method to try beside it: --method adarand"
)
"""What a run without ``--method`` says of itself. The measurements are in ``benchmarks/RESULTS.md``, under Baselines."""

BASELINES: dict[str, Baseline] = {record.name: record for record in _ALL}
