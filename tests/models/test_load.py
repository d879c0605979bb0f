from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from tests.models import small_networks
from torch import Tensor, nn

from holdfast.catalog import MODELS
from holdfast.errors import CheckpointError, ConfigError, ModelError
from holdfast.models.demo_recipe import NAMES
from holdfast.models.load import load_pretrained
from holdfast.models.matching import load_tensors
from holdfast.models.recipes import FAMILIES
from holdfast.types import InputSpec

NETWORKS = f"python:{small_networks.__file__}"
HALF = (0.5, 0.5, 0.5)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, and an empty cache of torch and of the hub."""
    monkeypatch.setenv("HOLDFAST_OFFLINE", "1")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path


def save(net: nn.Module, path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda tensors: tensors) -> str:
    save_file(change({name: tensor.clone() for name, tensor in net.state_dict().items()}), path)
    return str(path)


def equal(net: nn.Module, other: nn.Module, *, apart_from: str = "\0") -> bool:
    own, others = net.state_dict(), other.state_dict()
    return own.keys() == others.keys() and all(torch.equal(own[name], others[name]) for name in own if not name.startswith(apart_from))


@pytest.mark.parametrize(
    ("spec", "options", "expected"),
    [
        ("timm:resnet18", {}, InputSpec(224, *IMAGENET)),
        ("timm:vit_tiny_patch16_224", {"image_size": 32}, InputSpec(32, HALF, HALF)),
        ("torchvision:mobilenet_v3_small", {"image_size": 64}, InputSpec(64, *IMAGENET)),
        ("torchvision:efficientnet_b1", {}, InputSpec(240, *IMAGENET)),
        ("demo:mobilenetv1-025", {}, InputSpec(224, HALF, HALF)),
        ("demo:glyphnet", {}, InputSpec(32, HALF, HALF)),
        (f"{NETWORKS}:with_config", {}, InputSpec(48, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))),
        (f"{NETWORKS}:linear_net", {}, InputSpec(224, *IMAGENET)),
    ],
)
def test_size_and_statistics_are_those_of_the_weights(spec: str, options: dict[str, Any], expected: InputSpec) -> None:
    assert load_pretrained(spec, weights="random", **options).input == expected


def test_random_weights_are_seeded_said_and_leave_the_global_stream_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (load_pretrained("timm:resnet18", weights="random", image_size=32, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert equal(first.net, again.net)
    assert not equal(first.net, other.net)
    assert first.notes == ["--weights random: timm:resnet18 starts from nothing, drawn with seed 0"]
    assert first.origin == {"spec": "timm:resnet18", "weights": "random", "sha256": None, "random": True, "hub": None}
    assert not first.source_head


def test_a_weights_file_is_loaded_and_recorded(tmp_path: Path) -> None:
    source = timm.create_model("resnet18")
    path = save(source, tmp_path / "net.safetensors")
    loaded = load_pretrained("timm:resnet18", weights=path, image_size=32)
    assert equal(loaded.net, source)
    assert loaded.source_head
    assert loaded.notes == []
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert loaded.origin == {"spec": "timm:resnet18", "weights": path, "sha256": digest, "random": False, "hub": None}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "model."])
def test_prefixes_of_wrappers_are_dropped(tmp_path: Path, prefix: str) -> None:
    source = timm.create_model("resnet18")
    path = save(source, tmp_path / "net.safetensors", lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()})
    assert equal(load_pretrained("timm:resnet18", weights=path, image_size=32).net, source)


def test_a_head_of_another_class_count_is_kept_as_the_source_head(tmp_path: Path) -> None:
    source = timm.create_model("resnet18", num_classes=17)
    loaded = load_pretrained("timm:resnet18", weights=save(source, tmp_path / "net.safetensors"), image_size=32)
    assert loaded.source_head
    assert equal(loaded.net, source)


def test_a_file_without_head_leaves_a_fresh_one_and_says_so(tmp_path: Path) -> None:
    source = timm.create_model("resnet18")
    path = save(
        source,
        tmp_path / "net.safetensors",
        lambda tensors: {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")},
    )
    loaded = load_pretrained("timm:resnet18", weights=path, image_size=32)
    assert not loaded.source_head
    assert loaded.notes == [f"--weights {path} brings no head 'fc'"]
    assert equal(loaded.net, source, apart_from="fc.")


@pytest.mark.parametrize(
    ("spec", "other", "counts"),
    [
        pytest.param("timm:resnet18", "timm:resnet34", r"unexpected \(layer1\.2", marks=pytest.mark.slow),
        pytest.param("timm:resnet34", "timm:resnet18", r"missing \(layer1\.2", marks=pytest.mark.slow),
        pytest.param(
            *("torchvision:resnet18", "torchvision:resnet50", r"of another shape \(.*in the file, .*in the network"), marks=pytest.mark.slow
        ),
        ("torchvision:resnet18", "timm:vit_tiny_patch16_224", r"missing \(conv1.weight, .*; \d+ unexpected \(blocks\.0"),
        ("timm:vit_tiny_patch16_224", "torchvision:resnet18", r"missing \(cls_token, .*; \d+ unexpected \(bn1\."),
        ("demo:mobilenetv1-025", "timm:mobilenetv1_100", r"of another shape \(.*in the file, .*in the network"),
    ],
)
def test_weights_of_another_network_are_counted_and_named(tmp_path: Path, spec: str, other: str, counts: str) -> None:
    path = save(load_pretrained(other, weights="random").net, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=rf"other\.safetensors does not fit {spec}, tensors: .*\d+ {counts}"):
        load_pretrained(spec, weights=path)


@pytest.mark.parametrize("source_size", [48, 96])
def test_timm_position_embeddings_are_resampled_to_the_image_size(tmp_path: Path, source_size: int) -> None:
    source = timm.create_model("vit_tiny_patch16_224", img_size=source_size)
    path = save(source, tmp_path / "net.safetensors")
    loaded = load_pretrained("timm:vit_tiny_patch16_224", weights=path, image_size=64)
    grid = source_size // 16
    expected = timm.layers.resample_abs_pos_embed(source.pos_embed, [4, 4], [grid, grid])
    torch.testing.assert_close(loaded.net.pos_embed, expected)
    assert equal(loaded.net, source, apart_from="pos_embed")
    assert loaded.notes == [f"--weights {path} was converted to the form of timm:vit_tiny_patch16_224"]


@pytest.mark.slow
def test_timm_windows_are_resampled_to_the_image_size(tmp_path: Path) -> None:
    source = timm.create_model("swin_tiny_patch4_window7_224")
    path = save(source, tmp_path / "net.safetensors")
    loaded = load_pretrained("timm:swin_tiny_patch4_window7_224", weights=path, image_size=64)
    # The last stage has a map of 2 x 2, so its window shrinks from 7 to 2 and its table of biases from 13 x 13 to 3 x 3.
    assert loaded.net.layers[3].blocks[0].attn.relative_position_bias_table.shape == (9, 24)
    assert equal(loaded.net.layers[3].blocks[0].mlp, source.layers[3].blocks[0].mlp)
    assert loaded.notes == [f"--weights {path} was converted to the form of timm:swin_tiny_patch4_window7_224"]


def test_what_timm_loads_leniently_is_checked_all_the_same(tmp_path: Path) -> None:
    # timm takes weights of this tag without the final norm, which starts at ones and zeros, and would take them without anything else.
    source = timm.create_model("convnextv2_atto", num_classes=0)
    bare = {name: value for name, value in source.state_dict().items() if not name.startswith("head.")}
    save_file(bare, tmp_path / "whole.safetensors")
    save_file({name: value for name, value in bare.items() if not name.startswith("stages.2.blocks.0")}, tmp_path / "holes.safetensors")

    loaded = load_pretrained("timm:convnextv2_atto.fcmae", weights=str(tmp_path / "whole.safetensors"), image_size=32)
    assert all(torch.equal(loaded.net.state_dict()[name], value) for name, value in bare.items())
    assert not loaded.source_head
    with pytest.raises(CheckpointError, match=r"missing \(stages\.2\.blocks\.0"):
        load_pretrained("timm:convnextv2_atto.fcmae", weights=str(tmp_path / "holes.safetensors"), image_size=32)


def test_names_of_the_authors_release_are_understood_where_timm_knows_them(tmp_path: Path) -> None:
    source = timm.create_model("convnext_atto", num_classes=1000)

    def authors_name(name: str) -> str:
        for ours, theirs in (
            ("head.norm", "norm"),
            ("head.fc", "head"),
            ("stem.", "downsample_layers.0."),
            ("conv_dw", "dwconv"),
            ("mlp.fc", "pwconv"),
        ):
            name = name.replace(ours, theirs)
        return re.sub(r"stages\.(\d)\.downsample", r"downsample_layers.\1", re.sub(r"stages\.(\d)\.blocks", r"stages.\1", name))

    path = save(source, tmp_path / "net.safetensors", lambda tensors: {authors_name(name): value for name, value in tensors.items()})
    loaded = load_pretrained("timm:convnext_atto", weights=path, image_size=32)
    assert equal(loaded.net, source)
    assert loaded.source_head


def test_torchvision_position_embeddings_are_resampled_to_the_image_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = {"patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64}
    build = torchvision.models.VisionTransformer
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, **options: build(**small, **options))
    source = build(**small, image_size=64)
    loaded = load_pretrained("torchvision:vit_b_16", weights=save(source, tmp_path / "net.safetensors"), image_size=32)
    resampled = loaded.net.state_dict()["encoder.pos_embedding"]
    assert resampled.shape == (1, 5, 32)
    # torchvision interpolates with aligned corners: the corners of the 4 x 4 grid are kept.
    assert torch.allclose(resampled[0, 1:], source.encoder.pos_embedding[0, 1:].reshape(4, 4, 32)[::3, ::3].reshape(4, 32), atol=1e-6)
    assert equal(loaded.net, source, apart_from="encoder.pos_embedding")


def test_old_names_of_torchvision_densenet_are_understood(tmp_path: Path) -> None:
    source = torchvision.models.densenet121()

    def older(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.").replace("conv1.", "conv.1.").replace("conv2.", "conv.2."): value
            for name, value in tensors.items()
            if "num_batches_tracked" not in name
        }

    loaded = load_pretrained("torchvision:densenet121", weights=save(source, tmp_path / "net.safetensors", older), image_size=64)
    assert equal(loaded.net, source)


def test_the_file_that_torchvision_distributes_is_taken_from_its_cache(offline: Path) -> None:
    source = torchvision.models.mobilenet_v3_small()
    url = torchvision.models.MobileNet_V3_Small_Weights.DEFAULT.url
    path = offline / "hub" / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    torch.save(source.state_dict(), path)
    loaded = load_pretrained("torchvision:mobilenet_v3_small", image_size=64)
    assert equal(loaded.net, source)
    assert loaded.origin["hub"] == url
    assert len(loaded.origin["sha256"]) == 64


def test_the_file_that_timm_names_is_taken_from_the_cache_of_the_hub(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = timm.create_model("resnet18")
    path = save(source, offline / "model.safetensors")
    asked = []

    def cached(repo_id: str, filename: str, *, revision: str | None) -> str | None:
        asked.append((repo_id, filename, revision))
        return path if filename == "model.safetensors" else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    loaded = load_pretrained("timm:resnet18", image_size=32)
    assert equal(loaded.net, source)
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors", None)]
    assert loaded.origin["hub"] == "timm/resnet18.a1_in1k"


@pytest.mark.parametrize("spec", ["timm:resnet18", "torchvision:resnet18", "timm:gcvit_tiny"])
def test_weights_that_cannot_be_had_offline_name_the_option_that_brings_them(offline: Path, spec: str) -> None:
    with pytest.raises(ModelError, match=rf"--model {spec}: .*HOLDFAST_OFFLINE is set.*--weights FILE"):
        load_pretrained(spec)


def test_a_failed_download_is_one_sentence(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("name resolution failed")

    monkeypatch.setenv("HOLDFAST_OFFLINE", "0")
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    for spec in ("timm:resnet18", "torchvision:resnet18"):
        with pytest.raises(ModelError, match=rf"--model {spec}: .*\(name resolution failed\).*--weights FILE"):
            load_pretrained(spec)


def test_a_head_is_added_where_timms_source_has_none() -> None:
    loaded = load_pretrained("timm:vit_small_patch14_dinov2", weights="random", image_size=28)
    assert loaded.head_name == "head"
    assert not loaded.source_head


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("resnet18", "'resnet18' names no family; write timm:resnet18, "),
        ("tim:resnet18", "unknown model family in 'tim:resnet18'. Did you mean 'timm:'"),
        ("timm:", "has no name after the colon; for example timm:resnet50"),
        ("timm:resnet81", r"timm .* has no such network. Did you mean 'timm:resnet18'"),
        ("timm:resnet18.a9_in1k", r"no weights of that tag. Did you mean 'timm:resnet18\.\w+_in1k'"),
        ("torchvision:mobilenetv3_small", "no such classifier. Did you mean 'torchvision:mobilenet_v3_small'"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no such classifier"),
        ("demo:mobilenet", "Known: glyphnet, mobilenetv1-025"),
        ("demo:mobilenetv1-025", "its weights do not come with holdfast; pass --weights FILE, or --weights random"),
        ("python:nowhere", "expected python:MODULE:FUNCTION"),
        ("python:no_such_module_here:build", "there is no module or file 'no_such_module_here'"),
        ("python:nowhere.py:build", "there is no module or file 'nowhere.py'"),
        (f"{NETWORKS}:linear_nett", "has no function 'linear_nett'. Did you mean 'linear_net'"),
        (f"{NETWORKS}:needs_width", "the function requires width; only num_classes may be required"),
    ],
)
def test_a_wrong_model_is_answered_with_what_to_type(spec: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_pretrained(spec)


@pytest.mark.parametrize(
    ("spec", "size", "reason"),
    [
        ("timm:nest_tiny_jx", 30, "its own is 224"),
        ("torchvision:vit_b_16", 30, "indivisible by patch size"),
        ("timm:vit_tiny_patch16_224", 8, "failed on images"),
    ],
)
def test_an_image_size_that_a_network_cannot_have_is_an_error(spec: str, size: int, reason: str) -> None:
    with pytest.raises(ModelError, match=rf"--image-size {size}: {spec} cannot be built for this size .*{reason}|{reason}.*--image-size"):
        load_pretrained(spec, weights="random", image_size=size)


def test_an_image_size_that_is_too_small_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"failed on images of shape 2 x 3 x 16 x 16 .*--image-size"):
        load_pretrained("torchvision:alexnet", weights="random", image_size=16)


def test_a_network_of_the_users_own_brings_its_weights() -> None:
    loaded = load_pretrained(f"{NETWORKS}:linear_net", image_size=8)
    assert loaded.source_head
    assert not loaded.origin["random"]
    assert loaded.head_name == "4"
    assert any("no pretrained_cfg with input_size, mean, std, ImageNet's taken" in note for note in loaded.notes)
    assert any("are those that the function returns" in note for note in loaded.notes)
    assert not any("ImageNet" in note for note in load_pretrained(f"{NETWORKS}:with_config").notes)
    assert load_pretrained(f"{NETWORKS}:needs_classes", image_size=8).net[4].out_features == 1000


def test_a_module_is_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_nets.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    assert load_pretrained("python:my_own_nets:build", image_size=8).net[1].out_features == 3
    assert load_pretrained("python:my_own_nets.py:build", image_size=8).net[1].out_features == 3
    assert os.getcwd() not in __import__("sys").path[:1]


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("no_network", "the function returned a str, expected a torch.nn.Module"),
        ("breaks", r"the function failed \(RuntimeError: no luck\)"),
    ],
)
def test_a_function_that_gives_no_network_is_an_error(function: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        load_pretrained(f"{NETWORKS}:{function}")


def test_a_module_that_cannot_be_imported_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_nets.py").write_text("import a_library_that_is_not_here\n")
    monkeypatch.chdir(tmp_path)
    for name in ("broken_nets", "broken_nets.py"):
        with pytest.raises(ModelError, match=r"importing .* failed .*a_library_that_is_not_here"):
            load_pretrained(f"python:{name}:build")


def test_files_without_the_counter_of_batchnorm_are_complete() -> None:
    source = torchvision.models.resnet18()
    net = torchvision.models.resnet18()
    tensors = {name: value for name, value in source.state_dict().items() if "num_batches_tracked" not in name}
    loaded = load_tensors(net, "fc", tensors, lambda net, tensors: None, label="file", model="net")
    assert loaded.source_head
    assert not loaded.converted
    assert equal(net, source)


def test_the_catalog_knows_every_family_and_demo_network() -> None:
    assert tuple(MODELS) == FAMILIES
    assert tuple(MODELS["demo"].members) == NAMES
