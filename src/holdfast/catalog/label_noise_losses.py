"""The records of task losses for wrong labels: corrected by a transition matrix, bounded, with moving targets, abstaining, mixed."""

from __future__ import annotations

from holdfast.catalog.records import Method, Option, weight_option

__all__ = ["LABEL_NOISE_LOSSES"]

_PATRINI = "Patrini et al., Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach, CVPR 2017"
_JU = "Ju, Li and Zhang, Robust Fine-Tuning of Deep Neural Networks with Hessian-based Generalization Guarantees, ICML 2022"
_JU_RELEASE = "release NEU-StatsML-Research/Robust-Fine-Tuning, commit 55a1e5c"
_GCE = "Zhang and Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels, NeurIPS 2018"
_SCE = "Wang et al., Symmetric Cross Entropy for Robust Learning with Noisy Labels, ICCV 2019"
_JS = "Englesson and Azizpour, Generalized Jensen-Shannon Divergence Loss for Learning with Noisy Labels, NeurIPS 2021"
_ELR = "Liu et al., Early-Learning Regularization Prevents Memorization of Noisy Labels, NeurIPS 2020"
_SAT = "Huang, Zhang and Zhang, Self-Adaptive Training: beyond Empirical Risk Minimization, NeurIPS 2020"
_DAC = "Thulasidasan et al., Combating Label Noise in Deep Learning Using Abstention, ICML 2019"
_APL = "Ma et al., Normalized Loss Functions for Deep Learning with Noisy Labels, ICML 2020"
_MIXUP = "Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018"

_COST = "not measured in a step: a few operations on the logits"
_STATE_COST = "not measured in a step: a few operations on the logits, and memory of N x K numbers"
_MATRIX_NEEDS = "the transition matrix of the labels (--method.transition); hard labels"
_SINGLE_LABEL = "the observed classes must be those of the matrix"


def _matrix_options(start_source: str) -> tuple[Option, ...]:
    return (
        Option(
            "transition",
            str,
            "none",
            "F[true, observed], rows that sum to 1: a file ending in .csv, .npy, .npz or .json, or symmetric:RATE or pair:RATE; required",
            source="it has to be given: what is known of your labels, or an estimate",
            example="symmetric:0.4",
        ),
        Option("start_epoch", int, 0, "epochs of plain cross-entropy before", low=0, source=start_source),
        Option(
            "force", bool, False, "correct even where the matrix is singular or rho above 20", source="holdfast; such a correction is noise"
        ),
    )


_BACKWARD_TRANSITION, _BACKWARD_START, _BACKWARD_FORCE = _matrix_options(f"{_JU_RELEASE}: from its first epoch")

LABEL_NOISE_LOSSES: tuple[Method, ...] = (
    Method(
        name="backward",
        kind="task loss",
        target="holdfast.losses.backward:BackwardCorrection",
        summary="wrong labels: cross-entropy corrected by the inverse of a transition matrix, unbiased",
        objective=(
            "L = (1/B) Σ_i w_i Σ_k R[y_i, k] (-log p_i[k]),  R = F⁻¹,  F[true, observed]\n"
            "in expectation over wrong labels it is the cross-entropy of the true ones;\n"
            "nonneg: Σ_k g((1/B) Σ_i w_i R[y_i, k] (-log p_i[k])),  g = |·| or max(·, 0)"
        ),
        options=(
            _BACKWARD_TRANSITION,
            Option(
                "clamp_min", str, "none", "least loss of an example, such as 0; biased where it acts", word="none", source="as published"
            ),
            Option(
                "nonneg",
                str,
                "none",
                "a class whose share of the batch's loss is negative counts with its absolute value (abs), or not at all (relu)",
                choices=("none", "abs", "relu"),
                source="as published: none; Lu et al., AISTATS 2020, for the others",
            ),
            Option(
                "clip_inverse",
                bool,
                False,
                "set negative entries of R to 0 and make its rows sum to 1 again: bounded, but biased",
                source=f"{_JU_RELEASE}, where it is commented out",
            ),
            Option("ridge", float, 0.0, "λ of R = (FᵀF + λI)⁻¹Fᵀ", low=0.0, source="holdfast: the inverse itself"),
            _BACKWARD_START,
            _BACKWARD_FORCE,
        ),
        needs=_MATRIX_NEEDS,
        cost=_COST,
        good_for="noise that depends on the class alone, a matrix that is known well, and a network held near its start (distance)",
        caveats=(
            f"The loss has no lower bound: a network that fits single examples makes it negative, which is counted. Watch rho(F): it "
            f"multiplies the spread of the loss, and above 20 the matrix is refused. Where the matrix is a guess, forward is safer; "
            f"{_SINGLE_LABEL}."
        ),
        sources=(_PATRINI, _JU, _JU_RELEASE),
    ),
    Method(
        name="forward",
        kind="task loss",
        target="holdfast.losses.forward:ForwardCorrection",
        summary="wrong labels: cross-entropy of predictions blurred by a transition matrix",
        objective="L = (1/B) Σ_i -w_i log Σ_k p_i[k] F[k, y_i],  F[true, observed]",
        options=_matrix_options("Patrini et al.: from the beginning"),
        needs=_MATRIX_NEEDS,
        cost=_COST,
        good_for="noise that depends on the class alone; stable where backward is not",
        caveats=(
            "Consistent but not unbiased: a large network can still learn wrong labels by heart. With a column of zeros the matrix says "
            "that a class is never observed, and a label of it stops the run."
        ),
        sources=(_PATRINI,),
    ),
    Method(
        name="label-smoothing",
        kind="task loss",
        target="holdfast.losses.label_smoothing:LabelSmoothing",
        summary="cross-entropy with a part of the target spread over all classes",
        objective="L = (1/B) Σ_i w_i CE(p_i, (1 - a) onehot(y_i) + a/K)",
        options=(Option("smoothing", float, 0.1, "that part (a)", low=0.0, high=1.0, source="Szegedy et al."),),
        cost=_COST,
        good_for="some wrong labels without any idea which; calibration",
        caveats=(
            "The opposite of the backward correction of symmetric noise, which is smoothing with a negative a; yet it helps where networks "
            "fit too closely (Lukasik et al.). Features of a class are drawn together, which can hurt a later transfer."
        ),
        sources=(
            "Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016",
            "Lukasik et al., Does Label Smoothing Mitigate Label Noise?, ICML 2020",
        ),
    ),
    Method(
        name="gce",
        kind="task loss",
        target="holdfast.losses.gce:GeneralizedCrossEntropy",
        summary="wrong labels: generalized cross-entropy, between cross-entropy and mean absolute error",
        objective=(
            "L = (1/B) Σ_i w_i (1 - p_i[y_i]^q) / q\n"
            "truncate k > 0, after prune_start epochs: the constant (1 - k^q) / q for examples whose p[y] was at most k when last judged"
        ),
        options=(
            Option("q", float, 0.7, "0 is cross-entropy, 1 is 1 - p[y] (q)", low=0.0, high=1.0, source=_GCE),
            Option(
                "truncate",
                float,
                0.0,
                "p[y] at or below which an example is left out (k); 0 for none, 0.5 as published",
                low=0.0,
                high=0.999,
                source="holdfast: the form without state",
            ),
            Option("prune_start", int, 10, "epochs before any example is left out", low=0, source="the release: 40 of 120 epochs"),
            Option("prune_every", int, 1, "epochs from one judgement to the next", low=1, source="holdfast; the release: 10"),
        ),
        needs="hard labels; with truncate, a number for each example",
        cost=_COST,
        good_for="wrong labels of unknown kind, up to about half of them; the first loss to try",
        caveats="Slow to fit many classes, as its gradient is small where p[y] is: lower q for 100 classes, or train longer.",
        sources=(_GCE,),
    ),
    Method(
        name="sce",
        kind="task loss",
        target="holdfast.losses.sce:SymmetricCrossEntropy",
        summary="wrong labels: cross-entropy and its reverse",
        objective="L = weight · L_CE + reverse_weight · (1/B) Σ_i -A (1 - p_i[y_i])",
        options=(Option("log_zero", float, -4.0, "what stands for log 0 (A); much code has log 1e-4 = -9.21", high=0.0, source=_SCE),),
        weights=(
            weight_option(0.1, "weight of the cross-entropy (α); 6 for 100 classes", _SCE),
            weight_option(1.0, "weight of the reverse (β); 0.1 for 100 classes", _SCE, name="reverse_weight"),
        ),
        needs="hard labels",
        cost=_COST,
        good_for="wrong labels, with time to tune two weights",
        caveats="The published weights differ by a factor of 60 between 10 and 100 classes; a small α slows learning.",
        sources=(_SCE,),
    ),
    Method(
        name="js",
        kind="task loss",
        target="holdfast.losses.js:JensenShannon",
        summary="wrong labels: Jensen-Shannon divergence of label and predictions, for one view or several",
        objective=(
            "L = (1/B) Σ_i w_i [H(π₁ e_{y_i} + Σ_m π_m p_im) - Σ_m π_m H(p_im)] / (-(1 - π₁) ln(1 - π₁))\n"
            "p_im the prediction for view m of example i, π_m = (1 - π₁) / M"
        ),
        options=(
            Option(
                "label_weight",
                float,
                0.5,
                "weight of the label (π₁): near 0 like cross-entropy, near 1 like mean absolute error",
                low=0.001,
                high=0.999,
                source=f"{_JS}: tuned from 0.1 to 0.9, larger for more noise",
            ),
            Option("views", int, 0, "further augmented views of each example (GJS); 1 in the paper", low=0, high=8, source="holdfast: JS"),
        ),
        needs="hard labels; with views, augmentation",
        cost="not measured in a step: a few operations on the logits; with each further view a forward and a backward pass more",
        good_for="wrong labels; with views, many classes",
        caveats="With views, BatchNorm statistics follow each view by itself. π₁ has to be chosen.",
        sources=(_JS,),
    ),
    Method(
        name="elr",
        kind="task loss",
        target="holdfast.losses.elr:EarlyLearning",
        summary="wrong labels: early-learning regularization, which holds predictions to their own past",
        objective=(
            "L = L_CE + regularization_weight · (1/B) Σ_i ln(1 - ⟨t_i, p_i⟩),\n"
            "t_i the running mean of the example's own predictions: t ← β t + (1 - β) p"
        ),
        weights=(weight_option(3.0, "weight of the term (λ); 7 for 100 classes", f"{_ELR}, CIFAR-10", name="regularization_weight"),),
        options=(Option("momentum", float, 0.7, "of the running means (β); 0.9 for 100 classes", low=0.0, high=1.0, source=_ELR),),
        needs="a number for each example; hard labels",
        cost=_STATE_COST,
        good_for="wrong labels that the network learns late, and enough epochs to see each example several times",
        caveats=(
            "With few epochs the running means are still close to zero and it is cross-entropy. The total may be negative. In the first "
            "epochs predictions must be better than the labels: not for a learning rate that learns all of them by heart at once."
        ),
        sources=(_ELR,),
    ),
    Method(
        name="sat",
        kind="task loss",
        target="holdfast.losses.sat:SelfAdaptiveTraining",
        summary="wrong labels: self-adaptive training, whose targets move from the labels to the predictions",
        objective=("from start_epoch on: t_i ← m t_i + (1 - m) p_i,  w_i = max_k t_i[k],\nL = -Σ_i (w_i / Σ_j w_j) Σ_k t_i[k] log p_i[k]"),
        options=(
            Option("momentum", float, 0.9, "of the targets (m)", low=0.0, high=1.0, source=_SAT),
            Option("start_epoch", int, 10, "epochs of plain cross-entropy before (E_s)", low=0, source="the paper: 60 of 200 epochs"),
        ),
        needs="a number for each example; hard labels",
        cost=_STATE_COST,
        good_for="wrong labels, and longer trainings",
        caveats=(
            "Weights of examples are refused: it has its own. Under accumulation the weights w are normalized within a micro-batch. "
            "Predictions that are wrong at start_epoch are kept."
        ),
        sources=(_SAT,),
    ),
    Method(
        name="dac",
        kind="task loss",
        target="holdfast.losses.dac:AbstainingClassifier",
        summary="wrong labels: a further output lets the network abstain while it learns",
        objective=(
            "K + 1 outputs, a the probability of the last:\n"
            "L = (1/B) Σ_i w_i [(1 - a_i) (-log(p_i[y_i] / (1 - a_i))) + α (-log(1 - a_i))]\n"
            "after warmup_epochs of cross-entropy; α rises from (running mean of (1 - a) CE) / start_divisor to final_alpha"
        ),
        options=(
            Option("warmup_epochs", int, 5, "epochs of cross-entropy before", low=1, source="holdfast; the release: 20 of 200"),
            Option("final_alpha", float, 1.0, "price of abstaining at the end", low=0.0, source=_DAC),
            Option("start_divisor", float, 64.0, "what the first price is divided by", low=1.0, source="the release"),
            Option("momentum", float, 0.95, "of the running mean that gives the first price", low=0.0, high=1.0, source="the release"),
        ),
        needs="a head with one output more, which is made by itself; in a loop of your own give the model one; hard labels",
        cost=_COST,
        good_for="wrong labels that can be told from the image (a class of blurred pictures); finding them",
        caveats=(
            "Noise that nothing in the image gives away is not found. Accuracy and predictions use the K classes alone. A low final_alpha "
            "makes it abstain from everything: watch dac/abstained."
        ),
        sources=(_DAC,),
    ),
    Method(
        name="apl",
        kind="task loss",
        target="holdfast.losses.apl:ActivePassiveLoss",
        summary="wrong labels: active passive loss, normalized cross-entropy with RCE or MAE",
        objective=(
            "L = weight · (1/B) Σ_i log p_i[y_i] / Σ_k log p_i[k] + passive_weight · passive,\n"
            "passive = (1/B) Σ_i -A (1 - p_i[y_i])  (rce)  or  (1/B) Σ_i 2 (1 - p_i[y_i])  (mae)"
        ),
        weights=(
            weight_option(1.0, "weight of the normalized cross-entropy (α); 10 for 100 classes", _APL),
            weight_option(1.0, "weight of the passive loss (β); 0.1 to 1 for 100 classes", _APL, name="passive_weight"),
        ),
        options=(
            Option("passive", str, "rce", "reverse cross-entropy or mean absolute error", choices=("rce", "mae"), source=_APL),
            Option("log_zero", float, -4.0, "what stands for log 0 in rce (A); the release has log 1e-4", high=0.0, source=_SCE),
        ),
        needs="hard labels",
        cost=_COST,
        good_for="symmetric noise at high rates",
        caveats="Both parts are bounded, so it underfits where there are many classes, or where training is short.",
        sources=(_APL,),
    ),
    Method(
        name="mixup",
        kind="task loss",
        target="holdfast.losses.mixup:Mixup",
        summary="cross-entropy on pairs of examples mixed with each other, inputs and labels alike",
        objective="x = λ x_i + (1 - λ) x_π(i),  L = (1/B) Σ_i λ CE(x, y_i) + (1 - λ) CE(x, y_π(i)),  λ ~ Beta(α, α), one a batch",
        options=(
            Option("alpha", float, 0.2, "of the Beta distribution (α); 1 is common for noise", low=1e-3, source=f"{_MIXUP}: ImageNet"),
        ),
        needs="inputs that can be mixed, such as images; no weights of examples",
        cost="not measured in a step: one mixed copy of the inputs",
        good_for="regularization in general, and some wrong labels",
        caveats=(
            "Other methods see soft targets, which class-conditional ones such as adarand refuse. Training accuracy is that of mixed "
            "images against the first label. With accumulation partners come from the micro-batch. Long trainings still fit the noise."
        ),
        sources=(_MIXUP,),
    ),
)
