"""Small networks of texts in folders, as transformers and sentence-transformers save them, and tables of texts; nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, AutoModelForSequenceClassification, BertConfig, DistilBertConfig, PreTrainedTokenizerFast, RobertaConfig
from transformers.utils import logging

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "text", "the", "a", "cat", "dog", "fly", "runs", "sleeps", "is", "not", "very", "good")
WORDS += ("bad", "red", "blue", "big")
CLASSES = ("cat", "dog", "fly")

SIZES = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
BERT = {**SIZES, "max_position_embeddings": 40, "num_labels": 4}
CONFIGS: dict[str, Any] = {
    "bert": BertConfig(**BERT),
    "bert-without-dropout": BertConfig(**BERT, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
    "roberta": RobertaConfig(**SIZES, max_position_embeddings=42, pad_token_id=0, num_labels=4),
    "distilbert": DistilBertConfig(
        vocab_size=len(WORDS), dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=40, num_labels=4
    ),
}
"""Of each kind; all know 40 positions."""


def write_network(folder: Path, kind: str = "bert", *, head: bool = False, pooling: str | None = None) -> Path:
    """A freshly drawn network, the same each time, with a tokenizer of whole words.

    Args:
        folder: Where to write it.
        kind: Which of ``CONFIGS``.
        head: Whether it is a sequence classifier of four classes.
        pooling: Of a folder of sentence-transformers, what its file says.
    """
    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = (AutoModelForSequenceClassification if head else AutoModel).from_config(CONFIGS[kind])
        with torch.no_grad():  # drawn wider than transformers does, so that texts differ
            for parameter in network.parameters():
                parameter.mul_(4 if parameter.ndim > 1 else 1)
    network.save_pretrained(folder)
    write_tokenizer(folder, kind)
    if pooling is not None:
        modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
        records = [{"idx": place, "name": str(place), "path": path, "type": f"models.{name}"} for place, (name, path) in enumerate(modules)]
        (folder / "modules.json").write_text(json.dumps(records))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(pooling)
    return folder


def write_tokenizer(folder: Path, kind: str = "bert") -> None:
    """Whole words, lower case kept, [CLS] in front and [SEP] behind."""
    backend = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if kind.startswith("bert") else ["input_ids", "attention_mask"]
    PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=inputs, **names).save_pretrained(folder)


def texts(per_class: int = 6) -> list[dict[str, str]]:
    """Rows of a table: texts of 1 to 8 words, among them that of their class."""
    rows = []
    for number in range(per_class * len(CLASSES)):
        name = CLASSES[number % len(CLASSES)]
        others = [WORDS[10 + (number * 7 + place * 3) % 10] for place in range(number % 8)]
        rows.append({"text": " ".join([*others[: number % 3], name, *others[number % 3 :]]), "label": name})
    return rows


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
