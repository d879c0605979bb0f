"""The records of methods that train with more than the target's labels: source classes, source data, mixed or queued examples."""

from __future__ import annotations

from holdfast.catalog.records import Method, Option, weight_option

__all__ = ["JOINT_METHODS"]

_COTUNING = "You et al., Co-Tuning for Transfer Learning, NeurIPS 2020"

JOINT_METHODS: tuple[Method, ...] = (
    Method(
        name="co-tuning",
        kind="regularizer",
        target="holdfast.regularizers.co_tuning:CoTuning",
        summary="goes on training the pretrained head, on the source classes that each target class is related to",
        objective=(
            "L = L_CE + weight · (1/B) Σ_i -Σ_s ρ[y_i, s] log softmax(W_s z_i + b_s)[s],\n"
            "ρ = p(source class | target class), found before training from q = softmax(calibration · source logits):\n"
            "direct: ρ_k = mean of q over class k; reverse: ρ[k, s] ∝ p(k | s) mean q_s,\n"
            "p(k | s) = softmax_k(t A_ks),  A minimises C Σ_i CE(A q_i, y_i) + ½‖A‖²,  C and t chosen on validation"
        ),
        weights=(weight_option(2.3, "weight of the source classes (λ)", f"{_COTUNING}; release thuml/CoTuning"),),
        options=(
            Option(
                "relationship",
                str,
                "reverse",
                "how ρ is estimated; without a validation split it is direct",
                choices=("reverse", "direct"),
                source="release thuml/CoTuning",
            ),
            Option(
                "calibration",
                float,
                1.0,
                "factor of the source logits (κ) that makes the pretrained classifier calibrated on its own validation data; "
                "0.8840456604957581 for the first ImageNet weights of torchvision's ResNet-50",
                low=1e-3,
                source="release thuml/CoTuning: its constant is of that network alone",
            ),
        ),
        needs=(
            "the classification head of the pretraining; one pass of the pretrained network over the training and validation splits, and a "
            "regression of the labels on its outputs, before training; hard labels"
        ),
        cost="1.03 (floor 1.01): a second head on the same features",
        good_for="a supervised source whose classes resemble those of the target; few examples",
        caveats=(
            "Not for networks without a classifier (CLIP, self-supervised). In the AdaRand paper (Cars, ResNet-50) 90.66 against 91.17 of "
            "AdaRand and 90.82 of UOT. The regression takes minutes with hundreds of target classes; with many thousands of source classes "
            "type --method.relationship direct. The source head learns at the rate of the backbone; its authors took a tenth "
            "of the new head's: --lr 0.001 --head-lr 0.01."
        ),
        sources=(_COTUNING, "release thuml/CoTuning; Transfer-Learning-Library, commit c4aa59e"),
    ),
    Method(
        name="uot",
        kind="task loss",
        target="holdfast.losses.uot:UOTFineTuning",
        summary="joint training on the source classes that resemble the target, chosen by unbalanced optimal transport",
        objective=(
            "L = L_CE(target batch) + source_weight · L_CE(as many rows of the selected source classes, with their own head);\n"
            "selected before training: the classes with the largest Σ_j Γ_ij, where Γ minimises\n"
            "⟨Γ, M⟩ + ε Σ Γ(log Γ - 1) + ρ₁ KL(Γ1 ‖ 1) + ρ₂ KL(Γᵀ1 ‖ 1),  M_ij = (1 - cos(mean_i, mean_j)) / cost_scale"
        ),
        weights=(weight_option(0.3, "weight of the source data (λ_u)", "Liu et al.", name="source_weight"),),
        options=(
            Option("classes", int, 100, "how many source classes are kept", low=1, source="Liu et al."),
            Option("cost_scale", float, 0.1, "divisor of the cosine distances", low=1e-4, source="Liu et al."),
            Option("epsilon", float, 1.0, "weight of the entropy of the plan (ε)", low=1e-4, source="Liu et al."),
            Option("rho_source", float, 1.0, "price of leaving masses of source classes (ρ₁)", low=0.0, source="Liu et al."),
            Option("rho_target", float, 100.0, "price of leaving masses of target classes (ρ₂)", low=0.0, source="Liu et al."),
        ),
        needs="the data of pretraining (--source-data); one pass of the pretrained network over it and the training split; hard labels",
        cost="1.98 (floor 2.01): a source row beside each row of the target",
        good_for="a target close to some source classes, with the source data at hand",
        caveats=(
            "In the AdaRand paper (Cars, ResNet-50) 90.82 against 91.17 of AdaRand. Without the source data it does not exist. "
            "Both heads start from N(0, 2/D)."
        ),
        sources=("Liu et al., Improved Fine-Tuning by Better Leveraging Pre-Training Data, NeurIPS 2022",),
    ),
    Method(
        name="core-tuning",
        kind="task loss",
        target="holdfast.losses.core_tuning:CoreTuning",
        summary="cross-entropy and focal contrast on mixed hard pairs of features",
        objective=(
            "rows z, z⁻ = (1-λ⁻) z + λ⁻ z_π, z⁺ = λ⁺ z_hp + (1-λ⁺) z_hn, labels Y mixed alike, M = 3B:\n"
            "L = -(1/M) Σ_m Y_m · log softmax(W z_m) + contrastive_weight · mean_m ℓ_m,\n"
            "ℓ_m = -(1/M) Σ_{n: Y_n = Y_m} (1 - p_mn) log p_mn,  p_mn = softmax over n ≠ m of v_m·v_n/τ,  v = h(z)"
        ),
        weights=(weight_option(10.0, "weight of the contrast (η)", "the authors' release", name="contrastive_weight"),),
        options=(
            Option("temperature", float, 0.07, "temperature of the contrast (τ)", low=1e-4, source="the authors' release"),
            Option("alpha", float, 1.0, "both parameters of the Beta distribution of λ⁻ and λ⁺", low=1e-3, source="the authors' release"),
            Option("floor", float, 0.8, "least λ⁻", low=0.0, high=1.0, source="the authors' release"),
            Option("width", int, 256, "size of the projections", low=1, source="the authors' release"),
            Option(
                "normalize",
                str,
                "rows",
                "a row's contrast is divided by M, or by its number of positives (then take a smaller contrastive_weight)",
                choices=("rows", "positives"),
                source="the authors' release",
            ),
            Option("detach_originals", bool, True, "whether the network learns from mixed rows alone", source="the authors' release"),
            Option("gather", bool, True, "whether ranks contrast the whole batch; false is the published form", source="holdfast"),
        ),
        needs="hard labels; takes a head without bias; brings a projection head of its own",
        cost="1.03 (floor 1.01): head, projection and contrast on three times the rows",
        good_for="self-supervised features, whose classes are not yet clustered; larger batches",
        caveats=(
            "In the AdaRand paper (Cars, ResNet-50) 90.01 against 91.17 of AdaRand and 90.27 of FNP. Published as three times the memory; "
            "here no second forward pass is made. Sees only its own micro-batch under accumulation."
        ),
        sources=("Zhang et al., Contrast-Regularized Fine-Tuning (Core-tuning), NeurIPS 2021",),
    ),
    Method(
        name="dr-tune",
        kind="task loss",
        target="holdfast.losses.dr_tune:DRTune",
        summary="the head also learns from a queue of pretrained features, brought to where the network's own have gone",
        objective=(
            "L = (Σ_i CE(W z_i + b, y_i) + Σ_q CE(W ṽ_q + b, y_q)) / (B + Q),  ṽ_q constant, of the length of the features:\n"
            "pretrained features v_q, turned as one body to the features u_q that the network gave for the same input,\n"
            "then shifted by class to Σ a_q u_q,  a = softmax over the class of cos(u_q, w_c)"
        ),
        options=(
            Option("queue_size", int, 2048, "entries of the queue (Q)", low=1, source="release weeknan/DR-Tune"),
            Option(
                "rotation_every",
                int,
                10,
                "steps from one rotation to the next, counted in each epoch; 1 rotates always, between them there is none",
                low=1,
                source="release weeknan/DR-Tune",
            ),
        ),
        needs="the pretrained network, run at every step and once over the training split before; two Q x D queues; hard labels",
        cost="1.33 (floor 1.31): the forward pass of the pretrained network, and now and then a singular value decomposition of D x D",
        good_for="classifiers that overfit on features worth keeping; better than plain in 7 of 8 pretrained networks of the AdaRand paper",
        caveats=(
            "With Q = 2048 and batches of 64, 97 % of the loss is the queue's, which trains the head alone: the network learns "
            "more slowly. "
            "More classes than entries starve the queue: 31.9 % on ImageNet with CLIP, against 79.7 % of plain fine-tuning. In the "
            "AdaRand paper (ResNet-50) above AdaRand on Pets alone, below FNP on Birds and DTD, below plain on Flowers. Under "
            "accumulation the length of the calibrated features is that of a micro-batch."
        ),
        sources=("Zhou et al., DR-Tune, ICCV 2023", "release weeknan/DR-Tune"),
    ),
    Method(
        name="bi-tuning",
        kind="task loss",
        target="holdfast.losses.bi_tuning:BiTuning",
        summary="cross-entropy, and contrast of two views with keys of a slowly following copy of the network",
        objective=(
            "L = L_CE + contrastive_weight · (L_z + L_y):\n"
            "L_z: projections z = normalize(proj(h)) against the keys' projections in per-class queues,\n"
            "L_y: features [h; 1] against the queued keys' features, both compared through the head's row of their class;\n"
            "each the divergence of softmax(similarities / T) from uniform over the own key and the Q keys of the class"
        ),
        weights=(weight_option(1.0, "weight of both contrasts", "Transfer-Learning-Library", name="contrastive_weight"),),
        options=(
            Option("queue_length", int, 40, "keys kept of each class (Q)", low=1, source="Transfer-Learning-Library"),
            Option("momentum", float, 0.999, "momentum of the key encoder (m)", low=0.0, high=1.0, source="Zhong et al."),
            Option("temperature", float, 0.07, "divisor of the similarities (T)", low=1e-4, source="Zhong et al."),
            Option("width", int, 128, "size of the projections", low=1, source="Zhong et al."),
        ),
        needs="a second augmented view of each batch; hard labels; memory of a second network and (D + P) x K x Q numbers",
        cost="1.37 (floor 1.34): a forward pass of the key encoder, and the contrast with K x Q keys",
        good_for="self-supervised features and many examples of each class",
        caveats="Queues grow with the number of classes. Under accumulation it sees a micro-batch at a time.",
        sources=("Zhong et al., Bi-tuning of Pre-trained Representations, arXiv 2011.06182",),
    ),
)
