"""The training options of the AdaRand paper, by model family."""

from __future__ import annotations

import dataclasses

import pytest

from holdfast.config.layers import command_line
from holdfast.config.load import resolve
from holdfast.config.presets import is_transformer_or_self_supervised, preset_layer
from holdfast.config.schema import FitConfig
from holdfast.config.values import typed_value

NEEDED = {"data": "cars/", "out": "runs/a"}


def paper(model, **options):
    return resolve([command_line({**NEEDED, "model": model, "preset": "paper", **options})])


def test_convolutional_networks_train_by_steps():
    config = paper("timm:resnet50")
    assert (config.optimizer, config.lr, config.momentum, config.weight_decay) == ("sgd", 0.01, 0.9, 0.0)
    assert (config.schedule, config.milestones, config.gamma) == ("step", [60, 120, 160], 0.1)


def test_transformers_train_by_adamw_with_cosine_and_warm_up():
    config = paper("timm:vit_base_patch32_224")
    assert (config.optimizer, config.lr, config.weight_decay) == ("adamw", 3e-5, 0.1)
    assert (config.schedule, config.warmup_steps, config.milestones) == ("cosine", 30, [])


@pytest.mark.parametrize("model", ["timm:resnet50", "torchvision:vit_b_16"])
def test_the_rest_of_the_protocol_is_shared(model):
    config = paper(model)
    assert (config.epochs, config.batch_size, config.select) == (200, 64, "val-accuracy")
    assert (config.augment, config.image_size, config.normalization) == ("resized-crop", 224, "half")
    assert (config.split, config.data_seed, config.val_fraction) == ("paper", 42, 0.1)


def test_the_paper_steps_leave_with_the_schedule():
    assert paper("timm:resnet50", schedule="cosine").milestones == []


def test_the_paper_warm_up_gives_way_to_one_in_epochs():
    config = paper("timm:vit_base_patch16_224", warmup_epochs=2)
    assert (config.warmup_steps, config.warmup_epochs) == (0, 2.0)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("timm:vit_base_patch16_224", True),
        ("torchvision:vit_b_32", True),
        ("timm:swin_tiny_patch4_window7_224", True),
        ("timm:resnet50_clip.openai", True),
        ("python:mine:resnet50_simclr", True),
        ("python:mine:resnet50_barlow_twins", True),
        ("timm:resnet50", False),
        ("timm:mobilenetv3_small_100", False),
        ("torchvision:efficientnet_b0", False),
        ("demo:glyphnet", False),
    ],
)
def test_the_name_of_a_model_decides(model, expected):
    assert is_transformer_or_self_supervised(model) is expected


@pytest.mark.parametrize("model", ["timm:resnet50", "timm:vit_base_patch16_224"])
def test_preset_values_are_options_in_their_range(model):
    fields = {field.name for field in dataclasses.fields(FitConfig)}
    for key, value in preset_layer("paper", model).values.items():
        assert key in fields
        assert typed_value(key, value, key) == value


def test_a_preset_is_never_changed_by_its_user():
    paper("timm:resnet50").milestones.append(170)
    assert paper("timm:resnet50").milestones == [60, 120, 160]
