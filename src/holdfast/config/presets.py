"""Named training options. A preset fills in what no file, option or keyword says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from holdfast.config.layers import Layer, from_preset

__all__ = ["is_transformer_or_self_supervised", "labels_layer", "preset_layer", "preset_methods"]

_PROTOCOL: dict[str, Any] = {
    "epochs": 200,
    "batch_size": 64,
    "augment": "resized-crop",
    "image_size": 224,
    "normalization": "half",
    "split": "paper",
    "data_seed": 42,
    "val_fraction": 0.1,
    "select": "val-accuracy",
}
_SUPERVISED_CNN: dict[str, Any] = {
    "optimizer": "sgd",
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "schedule": "step",
    "milestones": [60, 120, 160],
    "gamma": 0.1,
    "warmup_steps": 0,
}
_OTHERS: dict[str, Any] = {"optimizer": "adamw", "lr": 3e-5, "weight_decay": 0.1, "schedule": "cosine", "warmup_steps": 30}

_ROBUST_IMAGES: dict[str, Any] = {
    "epochs": 30,
    "batch_size": 32,
    "image_size": 224,
    "val_fraction": 0.1,
    "select": "val-accuracy",
    "patience": 11,  # the release stops when more than 10 epochs in a row are worse than the best
    "optimizer": "adamw",
    "amsgrad": True,
    "lr": 1e-4,
    "weight_decay": 0.0,
    "schedule": "step",
    "milestones": [10, 20],
    "gamma": 0.1,
}
_ROBUST_TEXTS: dict[str, Any] = {
    "epochs": 5,
    "batch_size": 8,
    "max_length": 128,
    "select": "val-loss",
    "patience": 11,
    "optimizer": "adamw",
    "lr": 2e-5,
    "weight_decay": 0.0,
    "schedule": "linear",
}

_NAMES = re.compile(r"vit|deit|beit|swin|eva0|cait|xcit|siglip|clip|dino|simclr|barlow|moco|byol|swav|mae(?![a-z])")


def preset_layer(name: str, model: str) -> Layer:
    """The options of a preset for a model.

    ``paper`` is the protocol of AdaRand (CVPR 2024, supplement, and the authors' release, commit 25cc27d): SGD with steps for
    convolutional networks with supervised pretraining; AdamW with cosine for transformers and for SimCLR, Barlow Twins and CLIP.
    ``ju2022`` are the configurations of Ju et al. (ICML 2022; Robust-Fine-Tuning, commit 55a1e5c) for images and for texts.

    Args:
        name: Value of ``--preset``.
        model: Spec of the model, whose name decides between the two.
    """
    if name == "none":
        return from_preset(name, {})
    if name == "ju2022":
        return from_preset(name, _ROBUST_TEXTS if model.startswith("hf:") else _ROBUST_IMAGES)
    family = _OTHERS if is_transformer_or_self_supervised(model) else _SUPERVISED_CNN
    return from_preset(name, {**_PROTOCOL, **family})


def labels_layer(labels: str) -> Layer:
    """The options that ``--labels`` brings: with wrong labels about, the best epoch is not the one that agrees most with them."""
    return from_preset(f"labels {labels}", {"select": "val-corrected"} if labels == "robust" else {})


def preset_methods(name: str, model: str) -> Mapping[str, Mapping[str, str]]:
    """The options of methods that a preset brings, for those that are chosen and where nothing else is said.

    ``ju2022``: the norms, layers and placeholder radii of Ju et al.; the radii that they tuned are not published.

    Args:
        name: Value of ``--preset``.
        model: Spec of the model, whose name decides between the forms.

    Example:
        >>> preset_methods("ju2022", "torchvision:resnet18")["distance"]["layers"]
        'layer*'
    """
    if name != "ju2022":
        return {}
    options = {"norm": "frob", "radius": "1", "head_radius": "1"}
    if model.startswith("hf:"):
        options["radius"] = "*attention*=1,*encoder*!*attention*=1"
    elif re.search(r"vit_|deit", model.lower()):
        options["layers"] = "blocks" if model.startswith("timm:") else "encoder"
    elif not is_transformer_or_self_supervised(model):
        options |= {"norm": "infop", "bn": "diagonal"}
    if re.search(r"resne[x]?t", model.lower()):
        options["layers"] = "layer*"  # not the stem
    return {"distance": options, "distance-penalty": {"norm": options["norm"]}}


def is_transformer_or_self_supervised(model: str) -> bool:
    """Whether a model's name says that it is a vision transformer or was pretrained without labels.

    Example:
        >>> is_transformer_or_self_supervised("timm:vit_base_patch16_224"), is_transformer_or_self_supervised("timm:resnet50")
        (True, False)
    """
    return _NAMES.search(model.lower()) is not None
