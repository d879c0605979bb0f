"""Named training options. A preset fills in what no file, option or keyword says."""

from __future__ import annotations

import re
from typing import Any

from holdfast.config.layers import Layer, from_preset

__all__ = ["is_transformer_or_self_supervised", "preset_layer"]

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

_NAMES = re.compile(r"vit|deit|beit|swin|eva0|cait|xcit|siglip|clip|dino|simclr|barlow|moco|byol|swav|mae(?![a-z])")


def preset_layer(name: str, model: str) -> Layer:
    """The options of a preset for a model.

    ``paper`` is the protocol of AdaRand (CVPR 2024, supplement, and the authors' release, commit 25cc27d): SGD with steps for
    convolutional networks with supervised pretraining; AdamW with cosine for transformers and for SimCLR, Barlow Twins and CLIP.

    Args:
        name: Value of ``--preset``.
        model: Spec of the model, whose name decides between the two.
    """
    if name == "none":
        return from_preset(name, {})
    family = _OTHERS if is_transformer_or_self_supervised(model) else _SUPERVISED_CNN
    return from_preset(name, {**_PROTOCOL, **family})


def is_transformer_or_self_supervised(model: str) -> bool:
    """Whether a model's name says that it is a vision transformer or was pretrained without labels.

    Example:
        >>> is_transformer_or_self_supervised("timm:vit_base_patch16_224"), is_transformer_or_self_supervised("timm:resnet50")
        (True, False)
    """
    return _NAMES.search(model.lower()) is not None
