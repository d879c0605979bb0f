"""The records of the AdaRand paper's own methods: penalties on features, and plain fine-tuning."""

from __future__ import annotations

from holdfast.catalog.records import Method, Option, weight_option

__all__ = ["FEATURE_METHODS"]

_ADARAND = "Yamaguchi et al., Adaptive Random Feature Regularization, CVPR 2024, arXiv 2403.10097"
_RELEASE = "the authors' release, commit 25cc27d"
_LAMBDA = "weight of the penalty (λ); scale with the feature width, see below"
_WIDTH_CAVEAT = (
    "The penalty is a mean over the D feature dimensions, so the paper's weight 1 at D = 2048 corresponds to D / 2048 at another "
    "width: 0.125 at D = 256. On a narrow network try both, and choose by validation."
)


FEATURE_METHODS: tuple[Method, ...] = (
    Method(
        name="plain",
        kind="task loss",
        target="holdfast.losses.cross_entropy:CrossEntropy",
        summary="cross-entropy alone: all weights trained, head re-initialised",
        objective="L = -(1/B) Σ_i log p_i[y_i]",
        cost="1.00, the step all others are measured against",
        good_for="the baseline every other method has to beat",
        caveats="forgets most on small data",
        sources=(_ADARAND + ", baseline",),
        term="cross-entropy",
    ),
    Method(
        name="fnp",
        kind="regularizer",
        target="holdfast.regularizers.fnp:FeatureNormPenalty",
        summary="feature norm penalty: pulls features towards zero",
        objective="L = L_CE + weight · (1/(B·D)) Σ_i ‖z_i‖²",
        weights=(weight_option(1.0, _LAMBDA, "paper"),),
        cost="1.00",
        good_for="the simplest feature penalty; a check whether any is worth it",
        caveats=_WIDTH_CAVEAT,
        sources=(_ADARAND + ", FNP",),
    ),
    Method(
        name="randreg",
        kind="regularizer",
        target="holdfast.regularizers.randreg:RandReg",
        summary="pulls features towards random vectors, drawn afresh for every example and step",
        objective="L = L_CE + weight · (1/(B·D)) Σ_i ‖z_i - r_i‖²,  r_i from the prior",
        weights=(weight_option(1.0, _LAMBDA, _RELEASE),),
        options=(
            Option(
                "prior",
                str,
                "pretrained",
                "uniform: U[0, 1); normal: N(0, 1); pretrained: N(mean, std) of the pretrained features, per dimension",
                choices=("uniform", "normal", "pretrained"),
                source="paper, the best of the three in its Table 3 on most datasets",
            ),
        ),
        needs="prior=pretrained: one pass of the pretrained network over the training split, before training",
        cost="1.00",
        good_for="self-supervised or other networks without useful classes",
        caveats=_WIDTH_CAVEAT,
        sources=(_ADARAND + ", RandReg", _RELEASE),
    ),
    Method(
        name="randreg-cp",
        kind="regularizer",
        target="holdfast.regularizers.randreg_cp:ConditionalRandReg",
        summary="pulls features towards random vectors around the pretrained mean of their class",
        objective="L = L_CE + weight · (1/(B·D)) Σ_i ‖z_i - r_i‖²,  r_i ~ N(μ_{y_i}, σ_{y_i}²), fixed",
        weights=(weight_option(1.0, _LAMBDA, _RELEASE),),
        needs="one pass of the pretrained network over the training split, before training; hard labels",
        cost="1.00",
        good_for="small data, pretrained features that already separate the classes",
        caveats=_WIDTH_CAVEAT + " The class means never move, which holds back long trainings.",
        sources=(_ADARAND + ", RandReg with the class-conditional prior", _RELEASE),
    ),
    Method(
        name="adarand",
        kind="regularizer",
        target="holdfast.regularizers.adarand:AdaRand",
        summary="pulls features towards random class-conditional vectors whose means adapt to the features and spread apart",
        objective=(
            "L = L_CE + weight · (1/(B·D)) Σ_i ‖z_i - r_i‖²,  r_i ~ N(μ_{y_i}, σ_{y_i}²);\n"
            "after each step, Adam on μ for L_intra + L_inter with\n"
            "L_intra = mean_k (cos(μ_k, running mean_k) - 1)²,  L_inter = mean_{k≠l} cos(μ_k, μ_l)²"
        ),
        weights=(weight_option(1.0, _LAMBDA, _RELEASE),),
        options=(
            Option("alpha", float, 0.5, "momentum of the running class means (α)", low=0.0, high=1.0, source="paper"),
            Option("intra", bool, True, "whether L_intra is used", source="paper; its ablation switches it off"),
            Option("inter", bool, True, "whether L_inter is used", source="paper; its ablation switches it off"),
            Option("prior_lr", float, 0.01, "learning rate of the Adam that moves μ", low=0.0, source=_RELEASE),
            Option(
                "prior_schedule",
                str,
                "cosine",
                "cosine: falls as cos(7π/16 · t/T) over the run; constant",
                choices=("cosine", "constant"),
                source=_RELEASE,
            ),
            Option("prior_beta1", float, 0.9, "Adam's decay of the first moment of μ's gradient", low=0.0, high=1.0, source=_RELEASE),
            Option("prior_beta2", float, 0.999, "Adam's decay of the second moment", low=0.0, high=1.0, source=_RELEASE),
            Option("prior_eps", float, 1e-8, "Adam's addition to the denominator", low=0.0, source=_RELEASE),
            Option(
                "distance",
                str,
                "squared-cosine",
                "squared-cosine: as released; cosine: L_intra = mean(1 - c), L_inter = mean(c), as the paper words it",
                choices=("squared-cosine", "cosine"),
                source=_RELEASE,
            ),
        ),
        needs="one pass of the pretrained network over the training split, before training; hard labels",
        cost="1.01 (floor 1.00): work on a K x D matrix; memory of 5 such matrices",
        good_for="the default choice on small datasets; strongest in the paper's comparison",
        caveats=_WIDTH_CAVEAT + " Underfitted (short) trainings on plenty of data can lose against plain fine-tuning.",
        sources=(_ADARAND, _RELEASE),
    ),
)
