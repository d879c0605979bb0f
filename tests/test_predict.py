"""Classes and confidences of images, in Python and from the command line."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import types

import pytest
from PIL import Image
from rich.console import Console
from torch import nn

from holdfast.cli import predict as verb
from holdfast.cli.main import main
from holdfast.errors import ConfigError, DataError
from holdfast.predict import predict
from holdfast.run import Run
from holdfast.types import InputSpec, Outputs

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ByColour(nn.Module):
    """Logits are the means of the colour channels, times 3."""

    def forward(self, images):
        means = images.mean(dim=(2, 3))
        return Outputs(3 * means, {"pooled": means})


SURE = math.exp(3) / (math.exp(3) + 2)
"""Softmax of (3, 0, 0), written out."""


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A run that knows colours, and images in a folder with a damaged one beside it; the working directory is above them."""
    stub = types.ModuleType("holdfast.build")
    spec = InputSpec(8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    stub.__dict__["load_model"] = lambda path: (ByColour().eval(), tuple(COLOURS), spec)
    monkeypatch.setitem(sys.modules, "holdfast.build", stub)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    Run.create("run", {})
    (tmp_path / "new" / "deep").mkdir(parents=True)
    for name, path in (("blue", "new/a.png"), ("red", "new/deep/b.jpg"), ("green", "c.png")):
        Image.new("RGB", (16, 16), COLOURS[name]).save(path, quality=100)
    (tmp_path / "new" / "notes.txt").write_text("no image")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG nothing")


@pytest.mark.usefixtures("photos")
class TestPredict:
    def test_classes_and_confidences_come_in_the_order_given(self):
        found = list(predict("run", ["c.png", "new"], device="cpu"))
        assert [(entry.input, entry.label) for entry in found] == [("c.png", "green"), ("new/a.png", "blue"), ("new/deep/b.jpg", "red")]
        assert found[0].confidence == pytest.approx(SURE, abs=1e-5)
        assert found[0].second_confidence == pytest.approx((1 - SURE) / 2, abs=1e-5)
        assert found[0].second in ("red", "blue")

    def test_an_image_that_cannot_be_read_stops_or_is_left_out(self):
        with pytest.raises(DataError, match=r"bad\.png"):
            list(predict("run", ["c.png", "bad.png"]))
        left_out = []
        found = list(predict("run", ["c.png", "bad.png", "new"], on_unreadable=lambda path, error: left_out.append(path)))
        assert [entry.label for entry in found] == ["green", "blue", "red"]
        assert left_out == ["bad.png"]

    @pytest.mark.parametrize("batch", [1, 2])
    def test_the_size_of_batches_changes_nothing(self, monkeypatch, batch):
        expected = list(predict("run", ["new", "c.png"]))
        monkeypatch.setattr("holdfast.predict.BATCH", batch)
        assert list(predict("run", ["new", "c.png"])) == expected

    @pytest.mark.parametrize(
        ("inputs", "device", "error", "sentence"),
        [
            (["c.png", "d.png", "e.png"], "auto", DataError, r"^d\.png: no such file or folder \(and 1 more\)"),
            (["run"], "auto", DataError, "^run: there is no image"),
            (["c.png"], "gpu", ConfigError, "^device: expected auto, cpu, cuda or cuda:N, got 'gpu'"),
        ],
    )
    def test_bad_input_is_told_before_anything_is_classified(self, inputs, device, error, sentence):
        with pytest.raises(error, match=sentence):
            predict("run", inputs, device=device)


@pytest.mark.usefixtures("photos")
class TestCommand:
    def test_into_a_pipe_it_writes_csv(self, capsys):
        assert main(["predict", "run", "new", "c.png"]) == 0
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert [(row["input"], row["class"]) for row in rows] == [("new/a.png", "blue"), ("new/deep/b.jpg", "red"), ("c.png", "green")]
        assert float(rows[2]["confidence"]) == pytest.approx(SURE, abs=1e-5)
        assert set(rows[0]) == {"input", "class", "confidence", "second_class", "second_confidence"}

    def test_out_writes_csv_or_json_lines(self, tmp_path, capsys):
        assert main(["predict", "run", "new", "--out", "a.csv"]) == 0
        assert main(["predict", "run", "new", "--out", "a.jsonl"]) == 0
        rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
        lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
        assert [{key: str(value) for key, value in line.items()} for line in lines] == rows
        assert [line["class"] for line in lines] == ["blue", "red"]
        assert capsys.readouterr().out == ""

    def test_on_a_terminal_it_prints_a_table(self, monkeypatch):
        text = io.StringIO()
        monkeypatch.setattr(verb, "out", Console(file=text, force_terminal=True, width=100, no_color=True, highlight=False))
        assert main(["predict", "run", "c.png"]) == 0
        cells = text.getvalue().splitlines()[1].split()
        assert cells[:4] == ["c.png", "green", f"{100 * SURE:.1f}", "%"]

    def test_an_unreadable_image_is_named_and_the_others_are_classified(self, capsys):
        assert main(["predict", "run", "bad.png", "c.png"]) == 2
        captured = capsys.readouterr()
        assert captured.out.splitlines()[1].startswith("c.png,green,")
        first, last = captured.err.splitlines()
        assert first.startswith("holdfast: error: bad.png")
        assert last == "holdfast: 1 of 2 images could not be read and are left out."

    def test_an_output_that_cannot_be_written_is_told(self, capsys):
        assert main(["predict", "run", "c.png", "--out", "nowhere/a.csv"]) == 2
        assert capsys.readouterr().err.startswith("holdfast: error: --out nowhere/a.csv: cannot be written: ")
