"""Networks of texts from transformers: sequence classifiers, and encoders with a head of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from holdfast.errors import ConfigError, ModelError
from holdfast.models.text_encoder import TextEncoder
from holdfast.models.text_folder import open_text_folder
from holdfast.models.text_form import TextForm
from holdfast.models.text_tokenizer import TextTokenizer
from holdfast.models.weights import WeightsFile, read_weights
from holdfast.types import TextSpec

__all__ = ["TextRecipe"]

USUAL_LENGTH = 128
"""Tokens of a text, where the user does not say."""

UNLIMITED = 10**6
"""Tokenizers that know no limit say more than this."""

OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


class TextRecipe:
    """A folder, or a repository of the Hugging Face hub.

    A network that was saved as a sequence classifier is that classifier. Of any other the encoder is taken, and a Linear head is put on
    one vector for each text: what sentence-transformers pools, where the folder is one of its own; else the encoder's own pooler, if the
    weights bring it; else the state of the first token.

    Args:
        name: Folder or repository.
        max_length: Tokens at most of a text; None for 128, or fewer where the network takes no more.
        form: What a run has recorded, where it is one of a run.

    Raises:
        ConfigError: There is no such folder, or the network does not take texts so long.
        ModelError: The folder lacks a file, or holds no network of texts that can be used.
    """

    def __init__(self, name: str, max_length: int | None, form: TextForm | None = None) -> None:
        self._name = name
        self._spec = f"hf:{name}"
        self._max_length = max_length
        self._form = form
        self._folder = open_text_folder(str(form.folder) if form is not None else name)
        self._config = self._read_config()
        self._classifies = any(str(kind).endswith("ForSequenceClassification") for kind in self._config.architectures or ())
        self._check_kind()
        self._pooling = None if self._classifies else form.pooling if form is not None else self._folder.pooling() or self._own_pooling()
        self.notes = self._notes()

    def _read_config(self) -> Any:
        try:
            return AutoConfig.from_pretrained(self._folder.path, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            kind = self._folder.config.get("model_type")
            raise ModelError(
                f"--model {self._spec}: config.json names the kind of network {kind!r}, which this version of transformers does not know; "
                "upgrade it, or choose a network such as BERT, RoBERTa or DistilBERT"
            ) from error

    def _check_kind(self) -> None:
        kind = self._config.model_type
        if self._classifies and kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
            return
        if kind in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES and kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
            raise ModelError(
                f"--model {self._spec}: a {kind!r} network reads images, and of transformers only networks of texts can be loaded; timm "
                "has most image networks, for example timm:vit_base_patch16_224.augreg_in21k"
            )
        if kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES or self._config.is_encoder_decoder:
            raise ModelError(
                f"--model {self._spec}: a {kind!r} network is no encoder of texts, so it has no one vector for a text to put a head on; "
                "choose one such as BERT, RoBERTa or DistilBERT, or a folder of sentence-transformers"
            )

    def _own_pooling(self) -> str:
        """Not a pooler that would be drawn at random."""
        path = self._folder.weights
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, "pt") as file:
                    names = list(file.keys())
            else:
                names = list(read_weights(WeightsFile(path, str(path))))
        except (SafetensorError, OSError):
            names = []  # told in words when the weights are read
        return "pooler" if any(name.endswith("pooler.dense.weight") for name in names) else "cls"

    def _notes(self) -> list[str]:
        if self._classifies:
            return []
        ways = {"pooler": "its own pooler", "cls": "the state of the first token", "mean": "the mean over the tokens of a text"}
        notes = [f"{self._spec}: the head stands on {ways.get(str(self._pooling), f'the states of all tokens, pooled by {self._pooling}')}"]
        left_out = self._folder.left_out()
        return [*notes, f"{self._spec}: what follows the pooling is left out ({', '.join(left_out)})"] if left_out else notes

    def build(self) -> nn.Module:
        """A fresh network.

        Raises:
            ModelError: transformers cannot build it.
        """
        try:
            if self._classifies:
                return AutoModelForSequenceClassification.from_config(self._config)
            return TextEncoder(AutoModel.from_config(self._config), self._config.hidden_size, str(self._pooling))
        except Exception as error:  # a configuration that somebody wrote may fail in any way
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ModelError(f"--model {self._spec}: transformers cannot build this network ({reason}); check its config.json") from error

    def input_spec(self, net: nn.Module) -> TextSpec:
        """Its tokenizer, and the tokens at most of a text.

        Raises:
            ConfigError: The network does not take as many as were asked for.
            ModelError: The tokenizer cannot be read, or is that of another network.
        """
        tokenizer = self._read_tokenizer()
        limit = min(tokenizer.model_max_length if tokenizer.model_max_length < UNLIMITED else UNLIMITED, _positions(net))
        if self._max_length is not None and self._max_length > limit:
            raise ConfigError(f"--max-length {self._max_length}: {self._spec} takes texts of at most {limit} tokens; type {limit} or less")
        adapter = TextTokenizer(tokenizer)
        length = self._max_length or min(USUAL_LENGTH, limit)
        if length <= adapter.special_tokens:
            raise ConfigError(f"--max-length {length}: {adapter.special_tokens} tokens stand around every text; type more, such as 128")
        return TextSpec(adapter, length, self._pooling, dict(self._folder.description()))

    def _read_tokenizer(self) -> Any:
        try:
            tokenizer = AutoTokenizer.from_pretrained(self._folder.path, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # damaged files fail in any way, missing packages too
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ModelError(f"--model {self._spec}: its tokenizer cannot be read ({reason}); copy or download the folder again") from error
        if len(tokenizer) > self._config.vocab_size:
            raise ModelError(
                f"--model {self._spec}: the tokenizer knows {len(tokenizer)} tokens and the network {self._config.vocab_size}, so it is "
                "that of another network; put the right one into the folder"
            )
        return tokenizer

    def pretrained(self) -> WeightsFile:
        """The weights in the folder that the user named; a run keeps none of them beside its description of the network."""
        folder = self._folder if self._form is None else open_text_folder(self._name)
        return WeightsFile(folder.weights, f"the pretrained file of {self._spec}", hub=folder.hub)

    def adapt(self, net: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Tensors by their names in ``net``, of an encoder saved alone or inside another network; what ``net`` lacks is left out."""
        own = net.state_dict().keys()
        encoder = net.tower if isinstance(net, TextEncoder) else net
        prefix = f"{getattr(encoder, 'base_model_prefix', '')}."
        below = "tower." if isinstance(net, TextEncoder) else prefix
        renamed: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            for old, new in OLD_NAMES.items():
                name = name.replace(old, new)
            places = (name, f"{below}{name}", f"{below}{name.removeprefix(prefix)}")
            place = next((place for place in places if place in own), None)
            if place is not None:
                renamed[place] = tensor
        return renamed or None


def _positions(net: nn.Module) -> int:
    """Tokens that a network has position embeddings for."""
    tables = [module for name, module in net.named_modules() if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)]
    # RoBERTa counts from behind the number that stands for padding.
    return min((table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1) for table in tables), default=UNLIMITED)
