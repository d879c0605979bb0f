"""The records of methods that hold on to weights, feature maps, spectra or normalisation."""

from __future__ import annotations

from holdfast.catalog.records import Method, Option, weight_option

__all__ = ["WEIGHT_METHODS"]

_TLLIB = "Transfer-Learning-Library, commit c4aa59e"
_RFT = "Robust-Fine-Tuning, commit 55a1e5c"

WEIGHT_METHODS: tuple[Method, ...] = (
    Method(
        name="l2-sp",
        kind="regularizer",
        target="holdfast.regularizers.l2_sp:L2SP",
        summary="pulls weights towards their pretrained values, and the new head towards zero",
        objective="L = L_CE + weight · ½ Σ ‖p - p⁰‖² (backbone) + head_weight · ½ Σ ‖p‖² (head)",
        weights=(
            weight_option(0.01, "weight of the backbone's distance from its start (α)", "Li et al."),
            weight_option(0.01, "weight of the head's squared norm (β)", "Li et al.", name="head_weight"),
        ),
        needs="the pretrained weights, in memory during training",
        cost="1.05 (floor 1.03): one read of both weight sets",
        good_for="networks whose features have no clear class structure; combines with feature penalties",
        caveats="use with weight decay 0: the two would pull in different directions",
        sources=("Li et al., Explicit Inductive Bias for Transfer Learning, ICML 2018",),
    ),
    Method(
        name="distance",
        kind="regularizer",
        target="holdfast.regularizers.distance:Distance",
        summary="hard constraint: after each step every layer is brought back to within a distance of its pretrained weights",
        objective=(
            "after each step, for each layer with pretrained weights S, and S = 0 for the head:\n"
            "D = W - S;  W = S + D · min(1, r / ‖D‖),  r = radius or ratio · ‖S‖;\n"
            "frob: ‖D‖ over the layer; infop: Σ_j |D_ij| row by row; infop_exact: the nearest W whose rows have that"
        ),
        options=(
            Option(
                "norm",
                str,
                "frob",
                "what is bounded: the Frobenius norm of a layer's difference, or the sum of magnitudes of each row, by scaling rows or by "
                "the nearest point",
                choices=("frob", "infop", "infop_exact"),
                source="Ju et al. use the first two",
            ),
            Option(
                "radius",
                str,
                "none",
                "the largest distance r, for all layers or by pattern on their names; encoder!*attention*=1 is for all of encoder but "
                "attention",
                low=0.0,
                word="none",
                by_pattern=True,
                source="tuned radii are not published; the release's placeholder is 1",
            ),
            Option(
                "ratio",
                str,
                "auto",
                "the same as a share of the norm of the pretrained weight (or of its row); auto: 0.1 where no radius is given. Sweep 0.02, "
                "0.05, 0.1, 0.2, 0.5",
                low=0.0,
                word="auto",
                by_pattern=True,
                source="a guess of holdfast",
            ),
            Option(
                "head_radius",
                str,
                "1",
                "the largest norm of the new head, around 0; none to leave it free",
                low=0.0,
                word="none",
                source="a guess of holdfast; the release's placeholder",
            ),
            Option(
                "layers",
                str,
                "all",
                "the layers that are bounded, by patterns on their names joined by commas, as layer3,layer4.*.conv1",
                source="holdfast; Ju et al. leave the stem of a ResNet free: 'layer*'",
            ),
            Option(
                "bn",
                str,
                "off",
                "bound the scales of BatchNorm too, as the diagonal matrix γ/√(variance + 1e-6), channel by channel",
                choices=("off", "diagonal"),
                source="holdfast; Ju et al.: diagonal",
            ),
            Option(
                "scale_by_depth",
                float,
                1.0,
                "factor s on the bounds of the third quarter of the network (layer3 of a ResNet), s² of the last",
                low=0.0,
                source=_RFT,
            ),
            Option("embeddings", bool, False, "bound tables of embeddings too", source="holdfast"),
        ),
        needs="the pretrained weights, in memory during training",
        cost="1.02 (floor 1.01): one read of both weight sets and one write of the weights; with infop_exact 1.25",
        good_for="wrong labels: a network that must stay near its start cannot memorise them; combines with every method",
        caveats=(
            "Defaults are guesses: choose ratio and head_radius on validation. The optimizer does not know of the projection, so its "
            "momentum goes on pushing outwards; AdamW minds less than SGD. Embeddings, biases and, unless asked for, BatchNorm are free. "
            "--preset ju2022 brings the norm, layers and placeholder radii of Ju et al.; layers.csv of the run shows what each radius does."
        ),
        sources=(
            "Gouk et al., Distance-Based Regularisation of Deep Networks for Fine-Tuning, ICLR 2021",
            "Ju, Li, Zhang, Robust Fine-Tuning of Deep Neural Networks with Hessian-based Generalization Guarantees, ICML 2022",
            _RFT,
        ),
    ),
    Method(
        name="distance-penalty",
        kind="regularizer",
        target="holdfast.regularizers.distance_penalty:DistancePenalty",
        summary="soft form of distance: penalises the norm of each layer's difference from its pretrained weights",
        objective=(
            "L = L_CE + weight · Σ_layers N(W - S) + head_weight · N(W_head);\nfrob: N(D) = ‖D‖_F²;  infop: N(D) = max_i Σ_j |D_ij|"
        ),
        weights=(
            weight_option(0.01, "weight of the backbone's distance from its start (λ)", "a guess of holdfast, near that of l2-sp"),
            weight_option(0.01, "weight of the head's distance from 0", "a guess of holdfast", name="head_weight"),
        ),
        options=(
            Option(
                "norm",
                str,
                "frob",
                "the square of the Frobenius norm, or the largest row sum of magnitudes",
                choices=("frob", "infop"),
                source="Ju et al.",
            ),
            Option("layers", str, "all", "the layers of the backbone that count, by patterns on their names joined by commas", source=_RFT),
            Option("bn", bool, True, "count the scales of BatchNorm too, as they are", source=_RFT),
            Option(
                "scale_by_depth",
                float,
                1.0,
                "factor s on the penalty of the third quarter of the network (layer3 of a ResNet), s² of the last",
                low=0.0,
                source=_RFT,
            ),
        ),
        needs="the pretrained weights, in memory during training",
        cost="1.03 (floor 1.02): one read of both weight sets",
        good_for="a bound that may give way where the data insist",
        caveats=(
            "frob is l2-sp without biases and shifts, at twice the weight; use either with weight decay 0. infop pulls back one row of "
            "each layer at a step."
        ),
        sources=(
            "Ju, Li, Zhang, Robust Fine-Tuning of Deep Neural Networks with Hessian-based Generalization Guarantees, ICML 2022",
            _RFT,
        ),
    ),
    Method(
        name="delta",
        kind="regularizer",
        target="holdfast.regularizers.delta:Delta",
        summary="keeps feature maps near those of the pretrained network, channels by importance if wanted, and the new head near zero",
        objective=(
            "L = L_CE + weight · ½ Σ_j ‖F_j - F⁰_j‖² + head_weight · ½ Σ ‖p‖² (head),  F_j the maps of layer j, summed over the batch;\n"
            "with attention: ½ Σ_j C_j/(H_j W_j) Σ_c a_{j,c} ‖F_{j,c} - F⁰_{j,c}‖²,\n"
            "a_j = softmax(standardised (loss without channel c - loss) / 5)"
        ),
        weights=(
            weight_option(0.01, "weight of the distance of the maps", f"{_TLLIB}, for batches of 48"),
            weight_option(0.01, "weight of the head's squared norm", _TLLIB, name="head_weight"),
        ),
        options=(
            Option(
                "attention",
                bool,
                True,
                "weigh channels by what a classifier of the target loses without them, which takes a training of that classifier first",
                source=_TLLIB,
            ),
            Option(
                "layers",
                str,
                "auto",
                "names of layers joined by commas, as layer3.5.conv3,layer4.2.conv3; auto: four depths of ResNet, ViT, ConvNeXt, Swin, "
                "MobileNet, EfficientNet, DenseNet, VGG and most networks of timm",
                source=f"ResNet: {_TLLIB}",
            ),
            Option(
                "reduction",
                str,
                "sum",
                "sum over the examples of a step, or mean; weight 0.01 · 48 with mean is the published one",
                choices=("sum", "mean"),
                source=_TLLIB,
            ),
            Option("attention_epochs", int, 10, "epochs that the classifier of the attention is trained", low=0, source=_TLLIB),
            Option(
                "attention_train_backbone",
                bool,
                True,
                "train all weights of that classifier, or its head alone on pretrained features",
                source=_TLLIB,
            ),
            Option("attention_batch_size", int, 32, "examples per batch for the attention", low=1, source=_TLLIB),
            Option("attention_batches", int, 10, "batches on which channels are taken out, at most", low=1, source=_TLLIB),
        ),
        needs=(
            "the pretrained network, run at every step; layers that give maps; with attention, a training of its own before the run and "
            "one partial forward pass for each channel and batch"
        ),
        cost="1.31 (floor 1.30): the forward pass of the pretrained network, as far as the last layer that is compared",
        good_for="a target close to the source, little data; where weights may move as long as features stay",
        caveats=(
            "Use with weight decay 0. The weight 0.01 was published for a learning rate of 0.001 in the backbone, a tenth of the head's: "
            "type --lr 0.001 --head-lr 0.01 with it. Without attention a map of H x W positions counts about H·W times as much, and "
            "training with 0.01 fails: begin with 1e-5, or with reduction=mean. A larger batch makes a larger sum, and needs a smaller "
            "weight or reduction=mean. On Cars it is ahead of BSS with 15 % of the images (45.0 to 43.3) and equal with half of them "
            "(Transfer-Learning-Library); in the AdaRand paper it gains 0.7 points with all, less than BSS, FNP, RandReg and AdaRand."
        ),
        sources=("Li et al., DELTA: Deep Learning Transfer using Feature Map with Attention, ICLR 2019", _TLLIB),
    ),
    Method(
        name="bss",
        kind="regularizer",
        target="holdfast.regularizers.bss:BatchSpectralShrinkage",
        summary="batch spectral shrinkage: pushes the smallest singular values of a batch's features towards zero",
        objective="L = L_CE + weight · Σ_{i≤k} σ_{m+1-i}²,  σ_1 ≥ … ≥ σ_m the singular values of the features (B, D) of the whole batch",
        weights=(weight_option(1e-3, "weight of the penalty", f"Chen et al.; {_TLLIB}"),),
        options=(
            Option("k", int, 1, "how many of the smallest singular values are shrunk", low=1, source=f"Chen et al.; {_TLLIB}"),
            Option("gather", bool, True, "take the spectrum over all ranks; false: of each rank's rows, as published", source="holdfast"),
        ),
        cost="1.00 (floor 1.00): one Gram matrix and its decomposition, of the smaller of B and D",
        good_for="little data, beside another method: it suppresses directions of the features that do not transfer",
        caveats=(
            "Not divided by the batch size, and the smallest of B singular values falls as B grows: a weight belongs to a batch size. With "
            "accumulation it sees a micro-batch at a time. On Cars it gains 1.2 to 2.2 points with 15 to 50 % of the images and 0.2 with "
            "all (Transfer-Learning-Library); in the AdaRand paper FNP, RandReg and AdaRand are ahead of it."
        ),
        sources=("Chen et al., Catastrophic Forgetting Meets Negative Transfer: Batch Spectral Shrinkage, NeurIPS 2019", _TLLIB),
    ),
    Method(
        name="stochnorm",
        kind="model transform",
        target="holdfast.transforms.stochnorm:StochNorm",
        summary="BatchNorm that chooses, channel by channel, between the statistics of the batch and the running ones",
        objective=(
            "L = L_CE, with every BatchNorm layer in training as\n"
            "y = γ ((1 - s) z₀ + s z₁) + β,  s ~ Bernoulli(p) for each channel and step,\n"
            "z₀ normalized by the running statistics (constants), z₁ by those of the batch"
        ),
        options=(
            Option(
                "p", float, 0.5, "probability of the batch's statistics; 1 is BatchNorm", low=0.0, high=1.0, source="Kou et al., section 4"
            ),
        ),
        needs="a network with BatchNorm whose statistics follow the batches",
        cost="1.06 (floor 1.05): a second normalization in each BatchNorm layer",
        good_for="convolutional networks on small data; combines with every penalty",
        caveats="does nothing for networks with LayerNorm, which it refuses; the trained network is an ordinary one",
        sources=("Kou et al., Stochastic Normalization, NeurIPS 2020",),
    ),
)
