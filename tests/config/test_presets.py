"""The options of the AdaRand paper and of Ju et al., by model family."""

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


@pytest.mark.parametrize("preset", ["paper", "ju2022"])
@pytest.mark.parametrize("model", ["timm:resnet50", "timm:vit_base_patch16_224", "hf:bert"])
def test_preset_values_are_options_in_their_range(model, preset):
    fields = {field.name for field in dataclasses.fields(FitConfig)}
    for key, value in preset_layer(preset, model).values.items():
        assert key in fields
        assert typed_value(key, value, key) == value


def test_a_preset_is_never_changed_by_its_user():
    paper("timm:resnet50").milestones.append(170)
    assert paper("timm:resnet50").milestones == [60, 120, 160]


def robust(model, **options):
    return resolve([command_line({**NEEDED, "model": model, "preset": "ju2022", **options})])


def distance_of(config):
    (entry,) = [entry for entry in config.methods if entry["name"] == "distance"]
    return {key: entry[key] for key in ("norm", "radius", "ratio", "head_radius", "layers", "bn")}


def test_the_release_of_ju_et_al_trains_images_with_amsgrad_by_steps():
    config = robust("torchvision:resnet101")
    assert (config.optimizer, config.amsgrad, config.lr, config.weight_decay) == ("adamw", True, 1e-4, 0.0)
    assert (config.schedule, config.milestones, config.epochs, config.batch_size) == ("step", [10, 20], 30, 32)
    assert [entry["name"] for entry in config.methods] == ["plain"]


def test_the_release_of_ju_et_al_trains_texts_with_a_falling_line():
    config = robust("hf:bert")
    assert (config.optimizer, config.amsgrad, config.lr, config.schedule) == ("adamw", False, 2e-5, "linear")
    assert distance_of(robust("hf:bert", method="distance"))["radius"] == "*attention*=1,*encoder*!*attention*=1"


@pytest.mark.parametrize(
    ("model", "norm", "layers", "bn"),
    [
        ("torchvision:resnet101", "infop", "layer*", "diagonal"),
        ("timm:resnext50_32x4d", "infop", "layer*", "diagonal"),
        ("demo:glyphnet", "infop", "all", "diagonal"),
        ("torchvision:vit_b_16", "frob", "encoder", "off"),
        ("timm:vit_base_patch16_224", "frob", "blocks", "off"),
        ("timm:swin_tiny_patch4_window7_224", "frob", "all", "off"),
    ],
)
def test_ju2022_says_which_layers_of_a_network_are_bounded(model, norm, layers, bn):
    expected = {"norm": norm, "radius": "1", "ratio": "auto", "head_radius": "1", "layers": layers, "bn": bn}
    assert distance_of(robust(model, method="adarand+distance")) == expected


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"method.radius": "0.5"}, {"radius": "0.5"}),
        ({"method.ratio": "0.5"}, {"radius": "none", "ratio": "0.5"}),
        ({"method.distance.radius": "layer4=2"}, {"radius": "layer4=2", "layers": "all"}),
        ({"method.head-radius": "none", "method.bn": "off"}, {"head_radius": "none", "bn": "off"}),
        ({"method": [{"name": "distance", "norm": "frob", "ratio": 0.2}]}, {"norm": "frob", "radius": "none", "ratio": "0.2"}),
    ],
)
def test_what_is_typed_wins_over_the_options_of_ju2022(options, changed):
    plain = distance_of(robust("torchvision:resnet18", method="distance"))
    assert distance_of(robust("torchvision:resnet18", **{"method": "distance", **options})) == plain | changed


def test_a_resolved_run_of_ju2022_resolves_to_itself():
    config = robust("torchvision:resnet18", method="distance", **{"method.radius": "0.5"})
    again = resolve([command_line(dataclasses.asdict(config))])
    assert again == config
