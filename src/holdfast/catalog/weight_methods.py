"""The records of methods that hold on to weights, feature maps, spectra or normalisation."""

from __future__ import annotations

from holdfast.catalog.records import Method, Option, weight_option

__all__ = ["WEIGHT_METHODS"]

_TLLIB = "Transfer-Learning-Library, commit c4aa59e"

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
                False,
                "weigh channels by what a classifier of the target loses without them",
                source="holdfast; the release's own runs have it on, and pay for the training that finds them",
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
            "Use with weight decay 0. The weight 0.01 was published with attention and a learning rate of 0.001 for the backbone, a tenth "
            "of the head's: --method.attention true --lr 0.001 --head-lr 0.01. Without attention a map of H x W positions counts about H·W "
            "times as much, and training with 0.01 diverges: begin with 1e-5. A larger batch makes a larger sum, and needs a smaller "
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
