"""Tables as users have them: what is odd but clear is understood, what is wrong is one sentence that names the line."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import shlex
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from holdfast import Run
from holdfast.cli.main import main
from holdfast.config.layers import command_line
from holdfast.config.load import resolve
from holdfast.config.schema import FitConfig
from holdfast.data import load_data
from holdfast.types import InputSpec

NAMES = [f"img/{label}/{number}.png" for label in ("ant", "bee") for number in range(8)]
ROWS = [(name, name.split("/")[1]) for name in NAMES]


def table(*changes: tuple[int, str], header: str = "path,label", more: str = "") -> str:
    """A good table of all images, ``more`` behind each row, with some lines replaced by others; line 1 is the header."""
    lines = [header, *(f"{name},{label}{more}" for name, label in ROWS)]
    for line, text in changes:
        lines[line - 1] = text
    return "".join(f"{line}\n" for line in lines)


def fit(data: str, out: str = "out") -> str:
    return f"holdfast fit {data} --model demo:glyphnet --epochs 1 --batch-size 8 --threads 1 --device cpu --quiet --out {out}"


GOOD, SPLIT, WEIGHTED = table(), table(header="path,label,split", more=",train"), table(header="path,label,weight", more=",1")

BAD: dict[str, tuple[str | bytes, str]] = {
    "empty.csv": ("", "empty.csv: the table is empty; expected a header such as path,label or text,label, and one row for each example."),
    "header_only.csv": ("path,label\n", "header_only.csv: there is a header but no row below it."),
    "no_header.csv": (GOOD.partition("\n")[2], "no_header.csv: the first line holds a row, not the names of the columns; put a line such"),
    "filename.csv": (table(header="filename,label"), "filename.csv: the column 'path' is missing; rename 'filename' to 'path'."),
    "image_class.csv": (table(header="image,class"), "…rename 'image' to 'path' and rename 'class' to 'label'."),
    "labell.csv": (table(header="path,labell"), "labell.csv: the column 'label' is missing; rename 'labell' to 'label'."),
    "two_labels.csv": (table(header="path,label,Label", more=",x"), "two_labels.csv, line 1: there are two columns 'label'; keep one"),
    "texts.jsonl": ('{"text": "good", "label": 1}\n', "texts.jsonl: these are texts, and the network reads images; choose"),
    "latin1.csv": (table((7, "img/café.png,ant")).encode("latin-1"), "latin1.csv, line 7: the byte 0xe9 is not UTF-8, …save it as CSV in"),
    "utf16.csv": (
        GOOD.encode("utf-16"),
        "utf16.csv: this is no text in UTF-8 (it may be UTF-16, or no text at all); save the table as CSV",
    ),
    "excel.csv": (b"PK\x03\x04\x14\0\x06\0", "excel.csv: this is no text in UTF-8"),
    "comma.csv": (table((4, "img/ant/2.png,ant, red")), "comma.csv, line 4: 3 values where the header names 2 columns; put a value that "),
    "short.csv": (table((4, "img/ant/2.png"), (5, "x")), "short.csv: 2 rows have more or fewer values than the 2 columns of the header"),
    "quote.csv": (table((4, '"img/ant/2.png,ant')), "quote.csv, line 4: the quotes do not fit (unexpected end of data); close each"),
    "no_label.csv": (
        table((3, "img/ant/1.png,"), (9, "img/ant/7.png, ")),
        "no_label.csv: 2 rows have no label (lines 3, 9); write the class",
    ),
    "no_path.csv": (
        table((3, ",ant")),
        "no_path.csv: one row has no path (line 3); write the file of each image, or leave these rows out.",
    ),
    "twice.csv": (
        table((17, "./img/ant/0.png,bee")),
        "twice.csv: the image 'img/ant/0.png' is in more than one row (lines 2, 17); keep one",
    ),
    "ids.csv": (table(header="path,label,id", more=",7"), "ids.csv: the id '7' is in more than one row (lines 2, 3, 4, …and 6 more); give"),
    "split.csv": (
        SPLIT.replace("train", "trainn", 1),
        "split.csv, line 2: unknown split 'trainn'; expected train, val or test; did you mean",
    ),
    "half_split.csv": (SPLIT.replace("train", "", 3), "half_split.csv: 3 rows have no split (lines 2, 3, 4); write train, val or test"),
    "no_train.csv": (SPLIT.replace("train", "test"), "no_train.csv: no row is of the split train; there is only 'test'."),
    "unseen.csv": (
        SPLIT + "img/odd,name.png,wasp,test\n".replace("img/odd,name.png", '"img/odd,name.png"'),
        "unseen.csv: class 'wasp' has no training image (but test has some). Add images, remove the class, or type --allow-empty-classes",
    ),
    "weight.csv": (WEIGHTED.replace(",1\n", ",much\n", 1), "weight.csv, line 2: the weight 'much' is no number of at least 0; write one"),
    "minus.csv": (
        WEIGHTED.replace(",1\n", ",-2\n", 2),
        "minus.csv, line 2: the weight '-2' is no number of at least 0, the first of 2 such",
    ),
    "zeros.csv": (WEIGHTED.replace(",1\n", ",0\n"), "zeros.csv: all weights are 0, so there is nothing to learn from;"),
    "elsewhere.csv": (GOOD.replace("img/", "photos/"), "elsewhere.csv: none of its 16 images exists ('photos/ant/0.png', …and 13 more);"),
    "lists/deeper.csv": (
        GOOD,
        "lists/deeper.csv: none of its 16 images exists (…, and these are relative to the working directory; move the",
    ),
    "url.csv": (
        table((2, "https://example.org/0.png,ant")),
        "url.csv, line 2: 'https://example.org/0.png' is no file; download the images",
    ),
    "gone.csv": (
        table((2, "img/ant/zero.png,ant"), (12, "img/bee/2.jpg,bee")),
        "gone.csv: 2 of 16 images cannot be read: img/ant/zero.png (no such file or directory); img/bee/2.jpg (no such file or directory).",
    ),
    "folder.csv": (table((2, "img/ant,ant")), "folder.csv: 1 of 16 images cannot be read: img/ant (is a directory). Replace them, or type"),
    "text_file.csv": (
        table((2, "notes.txt,ant")),
        "text_file.csv: 1 of 16 images cannot be read: notes.txt (not an image of a known format",
    ),
    "own_ids.csv": (
        "id,path,label\n" + "".join(f"{row},{name},{label}\n" for row, (name, label) in enumerate([*ROWS, ("none.png", "ant")])),
        "own_ids.csv: 1 of 17 images cannot be read: 16 (none.png: no such file or directory). Replace them",
    ),
    "one_class.csv": (
        GOOD.replace(",bee", ",ant"),
        "one_class.csv: there is only one class, 'ant', so there is nothing to tell apart; expected two or more.",
    ),
    "broken.jsonl": (
        '{"path": "img/ant/0.png", "label": "ant"}\n{"path": \n',
        "broken.jsonl, line 2: this is no JSON (…); expected one object",
    ),
    "list.jsonl": ('["img/ant/0.png", "ant"]\n', "list.jsonl, line 1: this is a list; expected one object a line, such as {"),
    "nested.jsonl": (
        '{"path": "img/ant/0.png", "label": {"name": "ant"}}\n',
        'nested.jsonl, line 1: \'label\' is {"name": "ant"}; expected a',
    ),
    "array.json": ("[]", "array.json: a table of this kind is read from JSON lines, one object a line, in a file that ends in .jsonl."),
    "table.xlsx": (b"PK\x03\x04", "table.xlsx: this is a file; expected a folder of images, or a table that ends in .csv or .jsonl."),
}

ELSEWHERE = [
    (fit("missing.csv"), "missing.csv: there is no such file; expected a table with the columns path or text, and label."),
    (fit("img/ant"), "img/ant: there are images such as '0.png' but no class folders; move the images of each class into"),
    (fit("flat"), "flat: there are images such as '0.png' but no class folders; give the table flat/labels.csv if it names them."),
    (f"{fit('good.csv')} --test-split exam", "--test-split exam: good.csv has no splits, so test is cut from it; leave the option out."),
    (f"{fit('split_ok.csv')} --test-split val", "--test-split val: split_ok.csv has no such split; it has 'train'."),
    (f"{fit('good.csv')} --train-list few.txt", "--train-list few.txt: the list names an image not in good.csv: 'img/ant/99.png'."),
    (
        fit("torchvison:dtd"),
        "DATA 'torchvison:dtd': unknown kind of dataset 'torchvison'. Did you mean 'torchvision'? Known: demo, hf, torchv",
    ),
    (fit("torchvision:cifar"), "DATA 'torchvision:cifar': unknown dataset 'cifar'. Did you mean 'cifar10'?"),
    (fit("torchvision:CUB-200"), "DATA 'torchvision:CUB-200': unknown dataset 'cub-200': torchvision has no CUB-200; get the archive from"),
    (fit("torchvision:"), "DATA 'torchvision:': expected the form torchvision:NAME@FOLDER."),
    (
        fit("torchvision:DTD@img"),
        "torchvision:DTD@img: there is no 'dtd/dtd' in the folder 'img', and holdfast downloads no datasets; type pyth",
    ),
    (fit("hf:someone/birds"), "hf:someone/birds: there is no folder 'someone/birds', and holdfast downloads no datasets; if it is one of"),
    (fit("hf:"), "DATA 'hf:': expected the form hf:FOLDER."),
    (fit("wds:a.tar"), "wds:a.tar: the shard '"),
    (fit("wds:{a"), "wds:{a: a brace is not closed."),
    (fit("wds:"), "DATA 'wds:': expected the form wds:PATTERN."),
]

COMMANDS = [*((fit(name), sentence) for name, (_, sentence) in BAD.items()), *ELSEWHERE]


@pytest.mark.parametrize(
    ("command", "sentence"), COMMANDS, ids=[command.split()[2] + command.partition("out")[2] for command, _ in COMMANDS]
)
def test_a_bad_table_is_one_sentence_and_leaves_nothing_behind(world, monkeypatch, capsys, command, sentence):
    monkeypatch.chdir(world)
    before = set(world.rglob("*"))
    assert main(shlex.split(command)[1:]) == 2
    captured = capsys.readouterr()
    *notes, last = captured.err.splitlines()
    assert re.match("holdfast: error: " + ".*".join(map(re.escape, sentence.split("…"))), last), last
    assert all(note.startswith(("holdfast: note: ", "holdfast: warning: ")) for note in notes), notes
    assert captured.out == ""
    assert set(world.rglob("*")) == before


def test_a_folder_with_a_colon_in_its_name_is_a_folder(world, monkeypatch):
    monkeypatch.chdir(world)
    Path("birds:2").mkdir()
    try:
        assert resolve([command_line({"data": "birds:2", "model": "demo:glyphnet", "out": "out"})]).data == "birds:2"
    finally:
        Path("birds:2").rmdir()


# ---------------------------------------------------------------------------------------------------------------- odd but clear


def windows(path: str) -> str:
    return path.replace("/", "\\")


def with_paths(spell: Callable[[str], str]) -> str:
    return "path,label\n" + "".join(f"{spell(name)},{label}\n" for name, label in ROWS)


def json_lines(**more: object) -> str:
    return "".join(json.dumps({"path": name, "label": label, **more}) + "\n" for name, label in ROWS)


ODD = {
    "byte order mark": "\ufeff" + GOOD,
    "windows line ends": GOOD.replace("\n", "\r\n"),
    "old mac line ends": GOOD.replace("\n", "\r"),
    "no line end at the end": GOOD.rstrip("\n"),
    "semicolons": GOOD.replace(",", ";"),
    "tabs": GOOD.replace(",", "\t"),
    "quoted cells": "".join('"' + line.replace(",", '","') + '"\n' for line in GOOD.splitlines()),
    "capitals and blanks in the header": GOOD.replace("path,label", " Path , LABEL"),
    "blanks around cells": GOOD.replace(",", " , "),
    "blank lines": GOOD.replace("\n", "\n\n"),
    "rows of empty cells": GOOD + ",\n,\n",
    "empty cells at the end": GOOD.replace("\n", ",,\n"),
    "columns in another order": "label,path\n" + "".join(f"{label},{name}\n" for name, label in ROWS),
    "rows in another order": "path,label\n" + "".join(f"{name},{label}\n" for name, label in reversed(ROWS)),
    "the index of a data frame": ",path,label\n" + "".join(f"{row},{name},{label}\n" for row, (name, label) in enumerate(ROWS)),
    "columns of the user's own": table(header="path,label,eye,note", more=',left,"one, two"'),
    "empty columns": table(header="path,label,split,weight,id", more=",,,"),
    "backslashes": with_paths(windows),
    "dots and doubled slashes": with_paths(lambda name: "./" + name.replace("/", "//")),
    "a way around": with_paths(lambda name: f"../{{HERE}}/{name}"),
    "absolute paths": with_paths(lambda name: f"{{ROOT}}/{name}"),
    "mixed paths": with_paths(lambda name: windows(name) if "/ant/" in name else f"{{ROOT}}/{name}"),
    "json lines": json_lines(),
    "json lines with empty and nested values": json_lines(split=None, weight=None, box=[1, 2, 3, 4]),
    "json lines with capitals": json_lines().replace('"path"', '" Path"').replace('"label"', '"LABEL"'),
}


@pytest.fixture(scope="module")
def plain(world):
    """What the good table loads as."""
    return load(world / "good.csv")


@pytest.mark.parametrize("name", ODD)
def test_an_odd_table_is_the_same_data_as_the_plain_one(world, plain, name, caplog):
    file = world / f"odd{'.jsonl' if ODD[name].startswith('{') else '.csv'}"
    file.write_text(ODD[name].replace("{ROOT}", str(world)).replace("{HERE}", world.name), encoding="utf-8", newline="")
    try:
        assert load(file).splits_record() == plain.splits_record()
    finally:
        file.unlink()
    assert caplog.text == ""


def test_a_table_with_splits_is_the_same_data_as_folders_of_splits(tmp_path):
    lines = ["path,label,split\n"]
    for number, (split, label) in enumerate([("train", "a"), ("train", "b"), ("val", "a"), ("test", "b")] * 4):
        path = tmp_path / "set" / split / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_image(path, number)
        lines.append(f"{split}/{label}/{number}.png,{label},{split}\n")
    folder = load(tmp_path / "set")
    (tmp_path / "set" / "set.csv").write_text("".join(lines))
    assert load(tmp_path / "set" / "set.csv").splits_record() == folder.splits_record()


@pytest.mark.parametrize("lines", ["7\n12\n", "img/ant/7.png\nimg/bee/4.png\n", "7\n./img\\bee\\4.png\n"])
def test_a_train_list_may_name_ids_or_paths(world, monkeypatch, lines):
    monkeypatch.chdir(world)
    split = ["train"] * 15 + ["test"]
    rows = [f"{row},{name},{label},{split[row]}\n" for row, (name, label) in enumerate(ROWS)]
    Path("listed.csv").write_text("id,path,label,split\n" + "".join(rows))
    Path("two.txt").write_text(lines)
    try:
        assert load("listed.csv", train_list="two.txt", val_fraction=0.0).ids("train") == ["12", "7"]
    finally:
        Path("listed.csv").unlink()
        Path("two.txt").unlink()


# ------------------------------------------------------------------------------------------------------------------ all at once


def test_a_messy_table_is_trained_on_once_its_owner_has_agreed_to_what_is_left_out(tmp_path, monkeypatch, capsys):
    """Sixty images, 5 % of which cannot be read, in all ways of writing paths, one of a class that only test has."""
    monkeypatch.chdir(tmp_path)
    rows, bad = make_messy(tmp_path)
    with open("Mein Datensatz.csv", "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow([" Path", "Label ", "SPLIT", "Quelle"])
        writer.writerows(rows)
    command = fit("'Mein Datensatz.csv'", "run")

    def run(options: str) -> tuple[int, str]:
        status = main(shlex.split(f"{command} {options}")[1:])
        return status, capsys.readouterr().err

    assert not Path("run").exists()
    status, told = run("")
    assert status == 2
    assert "class 'wasp, unknown' has no training image (but test has some)" in told
    status, told = run("--allow-empty-classes")
    assert status == 2
    assert "3 of 60 images cannot be read: " in told
    assert all(image in told for image in bad)
    status, told = run("--allow-empty-classes --skip-bad")
    assert status == 0, told
    assert all(f"dropped {image} (" in told for image in bad)

    splits = json.loads(Path("run/splits.json").read_text())
    assert [entry["id"] for entry in splits["dropped"]] == sorted(bad)
    assert splits["classes"] == ["Füchse, rot", "bee", "wasp, unknown"]
    assert len(splits["train"]) + len(splits["val"]) + len(splits["test"]) == 57
    assert all("\\" not in image and not image.startswith("/") for image in splits["train"])
    assert Run.open("run").test.accuracy_ci95


def make_messy(root: Path) -> tuple[list[list[str]], list[str]]:
    """The cells of the table, and the ids of its unreadable images."""
    spellings = [str, windows, lambda name: f"./{name}", lambda name: f"{root}/{name}", lambda name: unicodedata.normalize("NFD", name)]
    rows = []
    for number in range(60):
        label = "Füchse, rot" if number % 2 else "bee"
        name = f"Büro, 2. Stock/{label}/é {number}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        save_image(root / name, number)
        rows.append([spellings[number % 5](name), label, "Test" if number % 6 == 0 else "TRAIN", 'Kamera "A"; Flur'])
    rows[6][1] = "wasp, unknown"
    ids = [f"Büro, 2. Stock/{'Füchse, rot' if number % 2 else 'bee'}/é {number}.png" for number in (10, 25, 41)]
    (root / ids[0]).unlink()
    (root / ids[1]).write_bytes(b"")
    (root / ids[2]).write_bytes((root / ids[2]).read_bytes()[:100])
    return rows, ids


# -------------------------------------------------------------------------------------------------------------- where it happens


def load(data: Path | str, **options: object):
    spec = InputSpec(size=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return load_data(FitConfig(data=str(data), **options), spec)  # type: ignore[arg-type]


def save_image(path: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and every table above."""
    folder = tmp_path_factory.mktemp("tables")
    with contextlib.chdir(folder):
        for seed, name in enumerate([*NAMES, "img/odd,name.png", "flat/0.png"]):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            save_image(Path(name), seed)
        Path("lists").mkdir()
        texts = {
            "good.csv": GOOD,
            "split_ok.csv": SPLIT,
            "notes.txt": "no image",
            "few.txt": "img/ant/99.png\n",
            "flat/labels.csv": "path\n",
        }
        for name, content in {**texts, **{name: content for name, (content, _) in BAD.items()}}.items():
            Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
