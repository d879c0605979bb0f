"""Tables of texts: read, split, made into tokens, served in batches."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from holdfast.config.schema import FitConfig
from holdfast.data import RunData, load_data
from holdfast.data.fingerprint import data_fingerprint
from holdfast.data.opening import open_source
from holdfast.data.text_inputs import list_texts
from holdfast.errors import DataError
from holdfast.types import InputSpec, TextSpec, Tokens


class Letters:
    """A tokenizer of letters: 1 in front, a = 2, b = 3, …; other characters are left out; 0 fills up."""

    special_tokens = 1

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str], max_length: int) -> list[Tokens]:
        self.encoded += texts
        found = [[1, *(ord(letter) - 95 for letter in text if letter.isascii() and letter.isalpha())] for text in texts]
        return [Tokens(np.array([ids[:max_length]], dtype=np.int32), len(ids)) for ids in found]

    def batch(self, texts: Sequence[Tokens]) -> dict[str, Tensor]:
        longest = max(text.ids.shape[1] for text in texts)
        rows = [[*text.ids[0], *[0] * (longest - text.ids.shape[1])] for text in texts]
        return {"input_ids": torch.tensor(rows), "attention_mask": (torch.tensor(rows) > 0).long()}


ROWS = [(f"{'ab' * (1 + number % 4)}{'xyz'[number % 3]}", "xyz"[number % 3]) for number in range(30)]


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a CSV table of texts."""

    def write(rows: Sequence[Sequence[str]] = ROWS, header: str = "text,label", name: str = "t.csv") -> Path:
        lines = [header, *(",".join(f'"{cell}"' for cell in row) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
        return tmp_path / name

    return write


def load(path: Path, *, max_length: int = 128, tokenizer: Letters | None = None, **options: Any) -> RunData:
    return load_data(FitConfig(data=str(path), **options), TextSpec(tokenizer or Letters(), max_length))


def text_of(ids: Tensor) -> str:
    return "".join(chr(letter + 95) for letter in ids.tolist() if letter > 1)


def test_rows_without_ids_are_named_by_split_and_line(table: Callable[..., Path]) -> None:
    assert load(table()).ids("train")[:1] == ["000002"]
    given = load(table([*((*row, "train") for row in ROWS[:20]), *((*row, "test") for row in ROWS[20:])], "text,label,split"))
    assert given.ids("test")[0] == "test/000022"
    assert given.unit == "text"
    assert load(table([("one", "aa", "x"), ("two", "bb", "y"), *((str(n), *row) for n, row in enumerate(ROWS))], "id,text,label")).has(
        "train"
    )


def test_batches_hold_the_tokens_of_their_examples_filled_up_to_the_longest(table: Callable[..., Path]) -> None:
    data = load(table())
    lengths = set()
    for batch in data.train_batches(epoch=0, seed=1, batch_size=3):
        for ids, mask, label, row in zip(batch.inputs["input_ids"], batch.inputs["attention_mask"], batch.labels, batch.index, strict=True):
            text, name = ROWS[int(data._ids[row]) - 2]
            assert (text_of(ids), data.classes[label]) == (text, name)
            assert int(mask.sum()) == len(text) + 1
        assert batch.inputs["attention_mask"].any(dim=0).all()
        lengths.add(batch.inputs["input_ids"].shape[1])
    assert len(lengths) > 1


def test_the_order_is_that_of_images_and_follows_seed_and_epoch(table: Callable[..., Path]) -> None:
    data = load(table())

    def order(**options: Any) -> list[int]:
        return [int(row) for batch in data.train_batches(**{"epoch": 0, "seed": 1, "batch_size": 4, **options}) for row in batch.index]

    assert order() == order()
    assert sorted(order()) == data.index("train").tolist()
    assert order(epoch=1) != order() != order(seed=2)
    halves = [order(rank=rank, size=2) for rank in range(2)]
    whole = np.array(order()).reshape(-1, 2, 2)
    assert [whole[:, rank].flatten().tolist() for rank in range(2)] == halves
    assert order(start_step=2) == order()[8:]


def test_each_text_is_made_into_tokens_once(table: Callable[..., Path]) -> None:
    tokenizer = Letters()
    data = load(table(), tokenizer=tokenizer)
    assert sorted(tokenizer.encoded) == sorted(text for text, _ in ROWS)
    for epoch in range(2):
        list(data.train_batches(epoch=epoch, seed=0, batch_size=4))
    assert len(tokenizer.encoded) == len(ROWS)
    assert data.cached_bytes == 4 * sum(len(text) + 1 for text, _ in ROWS)


def test_long_texts_are_cut_and_this_is_told(table: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "holdfast"):
        data = load(table(), max_length=4)
    assert max(batch.inputs["input_ids"].shape[1] for batch in data.batches("train")) == 4
    cut = sum(len(text) > 3 for text, _ in ROWS)
    assert f"{cut} of 30 texts have more than 4 tokens and are cut there (--max-length)" in caplog.text


def test_the_fingerprint_is_over_the_bytes_of_the_texts(table: Callable[..., Path]) -> None:
    rows = [("aä", "x", "train"), ("b", "y", "train"), ("c", "x", "val"), ("d", "y", "test")]
    data = load(table(rows, "text,label,split"))
    ids = ["train/000002", "train/000003", "val/000004", "test/000005"]
    digests = [hashlib.sha256(text.encode()).hexdigest() for text, _, _ in rows]
    expected = [(name, label, split, digest) for name, (_, label, split), digest in zip(ids, rows, digests, strict=True)]
    assert data.fingerprint == data_fingerprint(expected)
    assert data.splits_record()["fingerprint_over"] == "bytes"


def test_weights_folds_groups_and_shots_work_as_for_images(table: Callable[..., Path]) -> None:
    rows = [(*row, str(1 + n % 2), f"group{n // 3}") for n, row in enumerate(ROWS)]
    path = table(rows, "text,label,weight,author")
    data = load(path, folds=5, fold=1, group_by="author")
    groups = {split: {rows[int(name) - 2][3] for name in data.ids(split)} for split in ("train", "test")}
    assert not groups["train"] & groups["test"]
    assert data.weighted
    weights = torch.cat([batch.weights for batch in data.train_batches(epoch=0, seed=0, batch_size=1) if batch.weights is not None])
    assert float(weights.mean()) == pytest.approx(1, abs=1e-6)
    assert load(path, shots=2).size("train") == 6


def test_the_same_text_in_two_splits_is_warned_of(table: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    load(table([("a", "x", "train"), ("b", "y", "train"), ("a", "y", "test"), ("c", "x", "test")], "text,label,split"))
    assert "1 text of test is a copy of a text in another split, byte for byte, 1 of them under another label" in caplog.text
    assert "say nothing about new texts" in caplog.text


EMPTY = [*ROWS[:6], ("", "x"), ("123", "y"), *ROWS[6:]]


def test_empty_texts_are_named_by_their_id_or_dropped(table: Callable[..., Path]) -> None:
    sentence = (
        r"t\.csv: 2 of 32 texts cannot be read: 000008 \(the text is empty\); 000009 \(no character in it is known to the tokenizer\)\. "
        r"Replace them, or type --skip-bad to go on without them\."
    )
    with pytest.raises(DataError, match=sentence):
        load(table(EMPTY))
    tokenizer = Letters()
    data = load(table(EMPTY), skip_bad=True, tokenizer=tokenizer)
    assert len(tokenizer.encoded) == 32  # once, although the splits are cut anew
    assert [entry["id"] for entry in data.splits_record()["dropped"]] == ["000008", "000009"]
    assert sum(data.size(split) for split in ("train", "val", "test")) == 30


def test_texts_and_images_are_told_apart(table: Callable[..., Path], folder: Callable[..., Path]) -> None:
    with pytest.raises(
        DataError, match=r"t\.csv: these are texts, and the network reads images; choose a network of texts, such as --model hf"
    ):
        load_data(FitConfig(data=str(table())), InputSpec(8, (0.5,) * 3, (0.5,) * 3))
    with pytest.raises(
        DataError, match=r"data: these are images, and the network reads texts; give a \.csv or \.jsonl table with the columns"
    ):
        load(folder({"a": 3, "b": 3}))


BAD = [
    ("text,path,label", r"a column 'path' and a column 'text', so the examples may be images or texts; rename the column that"),
    ("text,kind", "the column 'label' is missing; the columns are 'text', 'kind'"),
    ("text,class", "the column 'label' is missing; rename 'class' to 'label'"),
    ("sentence,label", "the column 'text' is missing; rename 'sentence' to 'text'"),
    ("Review,target", "the columns 'text' and 'label' are missing; rename 'Review' to 'text' and rename 'target' to 'label'"),
    ("text,votes", "there are votes but no column 'label'"),
]


@pytest.mark.parametrize(("header", "sentence"), BAD)
def test_tables_that_cannot_be_used_are_refused(header: str, sentence: str, table: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=sentence):
        open_source(str(table([["a"] * len(header.split(","))], header)))


def test_texts_to_predict_come_from_lines_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("one\n\n two \n", encoding="utf-8")
    Path("b.jsonl").write_text('{"text": "three", "id": "x"}\n{"text": ""}\n', encoding="utf-8")
    Path("c.csv").write_text("n,text\n1,four\n", encoding="utf-8")
    assert list_texts(["c.csv", "a.txt", "b.jsonl"]) == [
        ("c.csv:2", "four"),
        ("a.txt:1", "one"),
        ("a.txt:3", "two"),
        ("x", "three"),
        ("b.jsonl:2", ""),
    ]
    Path("d.csv").write_text("sentence\nfive\n")
    Path("e.txt").write_text("\n \n")
    Path("f.txt").write_bytes(b"\xff\xfe")
    Path("g.png").write_bytes(b"x")
    for name, sentence in {
        "d.csv": "the column 'text' is missing; rename 'sentence' to 'text'",
        "e.txt": "there is no text in this file; expected one a line",
        "f.txt": "this is no text in UTF-8",
        "g.png": "this run reads texts; expected a .txt file",
        "h.txt": "the file cannot be read (no such file",
    }.items():
        with pytest.raises(DataError) as error:
            list_texts([name])
        assert f"{name}: {sentence}" in str(error.value)
