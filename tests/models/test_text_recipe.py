from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

pytest.importorskip("transformers", reason="needs the extra text")

from tests.small_texts import WORDS, write_network
from transformers import AutoModel, AutoModelForSequenceClassification, BertConfig, GPT2Config, ViTConfig

from holdfast.errors import CheckpointError, ConfigError, ModelError
from holdfast.measures.operators import CurvatureOperator
from holdfast.models.checkpointing import checkpoint_blocks
from holdfast.models.classifier import Classifier
from holdfast.models.load import Pretrained, load_pretrained
from holdfast.models.reference import FrozenReference
from holdfast.models.select import layer_depths, map_layers, measured_layers
from holdfast.models.text_encoder import TextEncoder
from holdfast.types import TextSpec

TEXTS = ["the cat sleeps", "a very bad red dog is not a big fly", "fly"]

KINDS = ("bert", "roberta", "distilbert")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "net"


def spec_of(loaded: Pretrained) -> TextSpec:
    assert isinstance(loaded.input, TextSpec)
    return loaded.input


def batch_of(loaded: Pretrained, texts: list[str]) -> dict[str, Tensor]:
    spec = spec_of(loaded)
    return spec.tokenizer.batch(spec.tokenizer.encode(texts, spec.max_length))


def classifier_of(loaded: Pretrained) -> Classifier:
    classifier = Classifier(loaded.net, loaded.head_name).eval()
    classifier.verify(loaded.input)
    return classifier


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_classifier_gives_the_logits_of_transformers(kind: str, folder: Path) -> None:
    write_network(folder, kind, head=True)
    loaded = load_pretrained(f"hf:{folder}")
    classifier, inputs = classifier_of(loaded), batch_of(load_pretrained(f"hf:{folder}"), TEXTS)
    expected = AutoModelForSequenceClassification.from_pretrained(folder).eval()(**inputs).logits
    outputs = classifier(inputs)
    torch.testing.assert_close(outputs.logits, expected)
    torch.testing.assert_close(classifier.head(outputs.features["pooled"]), expected)
    assert loaded.source_head
    assert loaded.origin["pooling"] is None


@pytest.mark.parametrize(("kind", "pooling"), [("bert", "pooler"), ("roberta", "pooler"), ("distilbert", "cls")])
def test_an_encoder_gets_a_head_on_its_pooler_or_its_first_token(kind: str, pooling: str, folder: Path) -> None:
    write_network(folder, kind)
    loaded = load_pretrained(f"hf:{folder}")
    inputs = batch_of(loaded, TEXTS)
    output = AutoModel.from_pretrained(folder).eval()(**inputs)
    expected = output.pooler_output if pooling == "pooler" else output.last_hidden_state[:, 0]
    torch.testing.assert_close(classifier_of(loaded)(inputs).features["pooled"], expected)
    assert (loaded.head_name, loaded.source_head, loaded.origin["pooling"]) == ("head", False, pooling)


def by_hand(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Text by text, without what fills it up."""
    rows = []
    for row, tokens in zip(states, mask, strict=True):
        own = row[: int(tokens.sum())]
        count = len(own)
        rows.append(
            {"mean": own.sum(0) / count, "mean_sqrt_len": own.sum(0) / count**0.5, "max": own.max(0).values, "cls": own[0]}[pooling]
        )
    return torch.stack(rows)


FLAGS = {"mean": "mean_tokens", "mean_sqrt_len": "mean_sqrt_len_tokens", "max": "max_tokens", "cls": "cls_token"}


@pytest.mark.parametrize("pooling", FLAGS)
@pytest.mark.parametrize("form", ["flags", "name"])
def test_a_folder_of_sentence_transformers_is_pooled_as_it_says(pooling: str, form: str, folder: Path) -> None:
    flags = {f"pooling_mode_{flag}": name == pooling for name, flag in FLAGS.items()}
    write_network(folder, pooling=json.dumps(flags if form == "flags" else {"pooling_mode": pooling}))
    loaded = load_pretrained(f"hf:{folder}")
    inputs = batch_of(loaded, TEXTS)
    states = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state
    torch.testing.assert_close(classifier_of(loaded)(inputs).features["pooled"], by_hand(states, inputs["attention_mask"], pooling))
    assert loaded.notes[-1] == f"hf:{folder}: what follows the pooling is left out (Normalize)"
    assert not any("pooler" in name for name, _ in loaded.net.named_parameters())  # nothing without a gradient


@pytest.mark.parametrize("kind", KINDS)
def test_what_fills_a_batch_up_changes_no_output(kind: str, folder: Path) -> None:
    write_network(folder, kind, head=True)
    loaded = load_pretrained(f"hf:{folder}")
    classifier = classifier_of(loaded)
    layers = map_layers(loaded.net)
    assert len(layers) == 2
    classifier.capture(layers)
    alone, beside = classifier(batch_of(loaded, TEXTS[:1])), classifier(batch_of(loaded, TEXTS))
    torch.testing.assert_close(beside.logits[:1], alone.logits)
    tokens = len(TEXTS[0].split()) + 2
    for layer in layers:
        assert alone.features[layer].shape == (1, tokens, 16)
        torch.testing.assert_close(beside.features[layer][:1, :tokens], alone.features[layer])
        assert not beside.features[layer][0, tokens:].any()
        assert beside.features[layer][1].all(dim=-1).any(dim=-1)
    early = classifier.features(batch_of(loaded, TEXTS), layers[:1])
    assert torch.equal(early[layers[0]], beside.features[layers[0]])


def test_tokens_are_filled_up_to_the_longest_text_and_cut_with_their_end(folder: Path) -> None:
    write_network(folder)
    spec = spec_of(load_pretrained(f"hf:{folder}", max_length=5))
    long, short, empty = spec.tokenizer.encode(["the cat is very big", "dog", ""], spec.max_length)
    assert [WORDS[token] for token in long.ids[0]] == ["[CLS]", "the", "cat", "is", "[SEP]"]
    assert (long.length, short.length, empty.length) == (7, 3, spec.tokenizer.special_tokens)
    batch = spec.tokenizer.batch([short, long])
    assert batch["input_ids"].tolist() == [[2, WORDS.index("dog"), 3, 0, 0], long.ids[0].tolist()]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


@pytest.mark.parametrize(("kind", "limit"), [("bert", 40), ("roberta", 41)])
def test_texts_are_no_longer_than_the_network_takes(kind: str, limit: int, folder: Path) -> None:
    write_network(folder, kind)
    assert spec_of(load_pretrained(f"hf:{folder}")).max_length == limit
    assert spec_of(load_pretrained(f"hf:{folder}", max_length=limit)).max_length == limit
    with pytest.raises(ConfigError, match=rf"--max-length {limit + 1}: hf:.* takes texts of at most {limit} tokens; type {limit} or less"):
        load_pretrained(f"hf:{folder}", max_length=limit + 1)
    with pytest.raises(ConfigError, match=r"--max-length 2: 2 tokens stand around every text; type more"):
        load_pretrained(f"hf:{folder}", max_length=2)


def renamed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    changed = {}
    for name, tensor in tensors.items():
        for new, old in names.items():
            name = name.replace(new, old)
        changed[prefix + name] = tensor
    return changed


@pytest.mark.parametrize("further", [False, True])
def test_an_encoder_inside_another_network_and_old_names_are_understood(further: bool, folder: Path) -> None:
    write_network(folder)
    plain = load_pretrained(f"hf:{folder}")
    other = {"cls.predictions.bias": torch.zeros(5), "bert.embeddings.position_ids": torch.arange(40)[None]} if further else {}
    save_file({**renamed(load_file(folder / "model.safetensors"), "bert."), **other}, folder / "model.safetensors")
    loaded = load_pretrained(f"hf:{folder}")
    assert FrozenReference.from_pretrained(loaded).fingerprint == FrozenReference.from_pretrained(plain).fingerprint
    assert not any("converted" in note for note in loaded.notes)


def test_an_encoder_without_pooler_weights_takes_the_first_token_instead_of_a_random_pooler(folder: Path) -> None:
    write_network(folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if not name.startswith("pooler")}, folder / "model.safetensors")
    assert load_pretrained(f"hf:{folder}").origin["pooling"] == "cls"


def test_random_weights_and_a_file_of_ones_own(folder: Path, tmp_path: Path) -> None:
    write_network(folder, head=True)
    random = load_pretrained(f"hf:{folder}", weights="random")
    assert not random.source_head
    assert any("starts from nothing" in note for note in random.notes)
    save_file({name: tensor.clone() for name, tensor in random.net.state_dict().items()}, tmp_path / "own.safetensors")
    again = load_pretrained(f"hf:{folder}", weights=str(tmp_path / "own.safetensors"))
    assert all(torch.equal(tensor, again.net.state_dict()[name]) for name, tensor in random.net.state_dict().items())
    save_file({"x": torch.zeros(3), "y": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"does not fit hf:.*missing"):
        load_pretrained(f"hf:{folder}", weights=str(tmp_path / "other.safetensors"))


def test_dropout_in_front_of_the_head_is_set(folder: Path) -> None:
    write_network(folder, "distilbert", head=True)
    assert "head dropout 0.2 set to 0" in load_pretrained(f"hf:{folder}").notes
    write_network(folder.with_name("encoder"))
    assert "head dropout 0 set to 0.3" in load_pretrained(f"hf:{folder.with_name('encoder')}", head_dropout=0.3).notes


# ------------------------------------------------------------------------------------------------------- what others make of it


@pytest.mark.parametrize("head", [False, True])
def test_embeddings_are_no_layers_and_depths_follow_the_blocks(head: bool, folder: Path) -> None:
    write_network(folder, head=head)
    loaded = load_pretrained(f"hf:{folder}")
    layers = measured_layers(loaded.net)
    assert len(layers) == 2 * 6 + 2  # of a block three projections, their output, two layers; pooler and head
    assert not any("embedding" in layer or "LayerNorm" in layer for layer in layers)
    assert len(measured_layers(loaded.net, preset="ju2022")) == 2 * 6 + 1
    depths = layer_depths(loaded.net, loaded.head_name)
    found = {
        depth: {part for part in ("embeddings", "layer.0", "layer.1", "pooler") if any(part in name for name in names)}
        for depth, names in by_depth(depths).items()
    }
    assert found == {0: {"embeddings"}, 1: {"layer.0"}, 2: {"layer.1"}, 3: {"pooler"}, 4: set()}
    assert {name for name, depth in depths.items() if depth == 4} == {f"{loaded.head_name}.weight", f"{loaded.head_name}.bias"}


def test_a_table_of_words_that_outweighs_all_blocks_changes_no_depth() -> None:
    config = BertConfig(vocab_size=5000, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)
    depths = layer_depths(TextEncoder(AutoModel.from_config(config), 16, "mean"), "head")
    assert {name.split(".")[3]: depth for name, depth in depths.items() if ".layer." in name} == {"0": 1, "1": 2, "2": 3}
    assert {depth for name, depth in depths.items() if "embeddings" in name} == {0}


def by_depth(depths: dict[str, int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name, depth in depths.items():
        found.setdefault(depth, []).append(name)
    return found


def test_a_product_with_the_hessian_is_that_of_double_differentiation(folder: Path) -> None:
    write_network(folder, "bert-without-dropout", head=True)
    loaded = load_pretrained(f"hf:{folder}")
    net, inputs, labels = loaded.net.double(), batch_of(loaded, TEXTS), torch.tensor([0, 1, 2])
    name = "bert.encoder.layer.1.attention.self.query.weight"
    operator = CurvatureOperator(net, partial(nn.functional.cross_entropy, reduction="none"), [(inputs, labels)], layers=[name])
    weight = net.get_parameter(name)
    vector = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        loss = nn.functional.cross_entropy(net.eval()(**inputs).logits, labels)
        (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
        (expected,) = torch.autograd.grad((gradient * vector).sum(), weight)
    torch.testing.assert_close((operator @ vector.flatten()).view_as(weight), expected, rtol=1e-8, atol=1e-12)


def test_blocks_that_are_computed_again_give_the_same_gradients(folder: Path) -> None:
    write_network(folder, "bert-without-dropout", head=True)
    gradients = []
    for checkpointed in (False, True):
        loaded = load_pretrained(f"hf:{folder}")
        if checkpointed:
            assert checkpoint_blocks(loaded.net, loaded.head_name) >= 2
        Classifier(loaded.net, loaded.head_name).train()(batch_of(loaded, TEXTS)).logits.square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in loaded.net.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


# ------------------------------------------------------------------------------------------------------------------- bad folders


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def without(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


BROKEN = {
    "no config": (lambda folder: without(folder, "config.json"), r"the folder has no config\.json, so it holds no network of transformers"),
    "no tokenizer": (lambda folder: without(folder, "tokenizer.json"), r"the folder has no tokenizer \(tokenizer\.json, vocab\.txt"),
    "no weights": (
        lambda folder: without(folder, "model.safetensors"),
        r"weights are not in the folder; expected model\.safetensors or pyto",
    ),
    "weights in parts": (
        lambda folder: (folder / "model.safetensors").rename(folder / "model.safetensors.index.json"),
        "its weights are cut into several files",
    ),
    "unknown architecture": (
        lambda folder: rewrite(folder / "config.json", model_type="brand-new"),
        "names the kind of network 'brand-new', which this version of transformers does not know",
    ),
    "damaged config": (lambda folder: (folder / "config.json").write_text("{"), r"config\.json cannot be read"),
    "damaged tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{"), "its tokenizer cannot be read"),
    "another tokenizer": (
        lambda folder: rewrite(folder / "config.json", vocab_size=7),
        rf"the tokenizer knows {len(WORDS)} tokens and the network 7, so it is that of another network",
    ),
    "a decoder": (lambda folder: GPT2Config(vocab_size=30).save_pretrained(folder), "a 'gpt2' network is no encoder of texts"),
    "an image network": (lambda folder: ViTConfig().save_pretrained(folder), "a 'vit' network reads images, and of transformers only"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_folders_that_cannot_be_used_are_refused_in_one_sentence(case: str, folder: Path) -> None:
    write_network(folder)
    spoil, sentence = BROKEN[case]
    spoil(folder)
    with pytest.raises(ModelError, match=sentence) as error:
        load_pretrained(f"hf:{folder}")
    assert str(error.value).startswith(f"--model hf:{folder}: ")
    assert "\n" not in str(error.value)


def test_pooling_that_is_not_known_is_refused(folder: Path) -> None:
    write_network(folder, pooling=json.dumps({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": True}))
    with pytest.raises(
        ModelError, match=r"pools tokens by lasttoken and mean, which is not known here; choose a folder that pools by one of"
    ):
        load_pretrained(f"hf:{folder}")


def test_names_that_lead_nowhere_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"hf:models/my/bert: there is no such folder; expected one with config\.json"):
        load_pretrained("hf:models/my/bert")
    with pytest.raises(ModelError, match=r"hf:someone/bert: .*cannot be downloaded \(HOLDFAST_OFFLINE is set\).*--model hf:FOLDER"):
        load_pretrained("hf:someone/bert")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="hf:file: this is a file; give the folder it lies in"):
        load_pretrained("hf:file")


def test_a_repository_in_the_cache_of_the_hub_is_used_offline(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_network(folder)
    kept = tmp_path / "hub" / "models--someone--bert"
    shutil.copytree(folder, kept / "snapshots" / "0123")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    loaded = load_pretrained("hf:someone/bert")
    assert loaded.origin["hub"] == "someone/bert"
    assert spec_of(loaded).files["config.json"].parent.name == "0123"


def test_a_repository_is_downloaded_where_that_is_allowed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_network(folder)
    asked: list[Any] = []

    def download(repository: str, **options: Any) -> str:
        if options.get("local_files_only"):
            raise OSError("not in the cache")
        asked.append((repository, options["revision"], options["allow_patterns"][-1]))
        return str(folder)

    monkeypatch.setenv("HOLDFAST_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.file_exists", lambda repository, name, **options: name.startswith("model"))
    assert load_pretrained("hf:someone/bert@v1").origin["hub"] == "someone/bert@v1"
    assert asked == [("someone/bert", "v1", "model.safetensors")]
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *names, **options: (_ for _ in ()).throw(OSError("no connection")))
    with pytest.raises(
        ModelError, match=r"someone/bert is not on this machine and cannot be downloaded \(no connection\); fetch it elsewhere"
    ):
        load_pretrained("hf:someone/bert")
