"""The four commands on small tables: what they write, that they follow each other, and one sentence for each mistake."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from holdfast.data.opening import open_source

WORDS = {"ham": ("great", "song", "love"), "spam": ("click", "free", "channel"), "news": ("report", "today", "minister")}


@pytest.fixture(autouse=True)
def _inside(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def texts(tmp_path):
    """150 texts of three classes in splits, with the labels of two annotators, one of whom is wrong now and then."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(150):
        label = list(WORDS)[number % 3]
        text = f"{' '.join(rng.choice(WORDS[label], 4))} number{number}"
        ann = label if rng.random() < 0.9 else "ham"
        bob = label if rng.random() < 0.6 else ""
        rows.append((text, label, ("train", "train", "train", "val", "test")[number % 5], ann, bob))
    with (tmp_path / "texts.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label", "split", "ann", "bob"))
        writer.writerows(rows)
    return "texts.csv"


def read(file):
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


def test_inject_changes_train_alone_and_records_how(holdfast, texts):
    answer = holdfast("labels", "inject", texts, "--rate", "0.3", "--exact", "--out", "noisy.csv")
    assert answer.status == 0, answer.err
    before, after = read(texts), read("noisy.csv")
    assert [row["true_label"] for row in after] == [row["label"] for row in before]
    changed = [row for row in after if row["label"] != row["true_label"]]
    assert len(changed) == 27
    assert {row["split"] for row in changed} == {"train"}
    record = json.loads(Path("noisy.noise.json").read_text())
    assert record["changed"] == 27
    assert record["classes"] == ["ham", "news", "spam"]
    np.testing.assert_allclose(record["transition"], np.full((3, 3), 0.15) + 0.55 * np.eye(3))
    assert "27 of 90 training labels are wrong now (30.0 %); 60 other rows are as they were." in answer.out


def test_inject_reaches_val_only_when_asked(holdfast, texts):
    holdfast("labels", "inject", texts, "--rate", "0.5", "--include-val", "--out", "noisy.csv")
    assert {row["split"] for row in read("noisy.csv") if row["label"] != row["true_label"]} == {"train", "val"}


@pytest.mark.parametrize(
    "options",
    [
        ("--noise", "pair"),
        ("--noise", "asymmetric", "--map", "ham=spam,news=ham"),
        ("--noise", "class-prior", "--prior", "spam=1"),
        ("--noise", "instance"),
        ("--noise", "symmetric", "--self-flips"),
        ("--preset", "ju2022"),
    ],
)
def test_every_rule_changes_about_its_share(holdfast, texts, options):
    answer = holdfast("labels", "inject", texts, "--rate", "0.5", *options, "--out", "noisy.csv")
    assert answer.status == 0, answer.err
    assert 10 < sum(row["label"] != row["true_label"] for row in read("noisy.csv")) < 65


def test_inject_by_a_matrix_and_by_a_model(holdfast, texts, tmp_path):
    (tmp_path / "F.csv").write_text("0,1,0\n0,0,1\n1,0,0\n")
    assert holdfast("labels", "inject", texts, "--noise", "matrix", "--matrix", "F.csv", "--out", "turned.csv").status == 0
    assert all(row["label"] != row["true_label"] for row in read("turned.csv") if row["split"] == "train")
    assert holdfast("labels", "inject", texts, "--noise", "model", "--out", "model.csv").status == 0


def test_the_chain_finds_what_was_injected_and_review_mends_it(holdfast, texts):
    holdfast("labels", "inject", texts, "--rate", "0.2", "--seed", "1", "--out", "noisy.csv")
    estimate = holdfast("labels", "estimate", "noisy.csv", "--out", "F.json", "--bootstrap", "20")
    assert estimate.status == 0, estimate.err
    found = json.loads(Path("F.json").read_text())
    assert np.trace(found["transition"]) / 3 == pytest.approx(0.8, abs=0.1)
    assert found["classes"] == ["ham", "news", "spam"]
    assert "The column 'true_label' tells the truth" in estimate.out
    issues = holdfast("labels", "issues", "noisy.csv", "--top", "0", "--out", "sheet.csv")
    assert issues.status == 0, issues.err
    wrong = {row["text"] for row in read("noisy.csv") if row["label"] != row["true_label"]}
    assert {row["content"] for row in read("sheet.csv")} == wrong
    sheet = read("sheet.csv")
    with open("sheet.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(sheet[0]))
        writer.writeheader()
        writer.writerows([{**row, "decision": "change" if place else "drop"} for place, row in enumerate(sheet)])
    review = holdfast("labels", "issues", "noisy.csv", "--review", "sheet.csv", "--out", "mended.csv")
    assert review.status == 0, review.err
    mended = read("mended.csv")
    assert len(mended) == 149
    assert all(row["label"] == row["true_label"] for row in mended)
    assert f"{len(wrong) - 1} labels changed, 1 rows dropped, 0 kept" in review.out


def test_the_page_of_digits_holds_their_pictures(holdfast, tmp_path):
    probs = np.full((1257, 10), 0.1)
    np.save("probs.npy", probs)
    holdfast("labels", "inject", "demo:digits", "--out", "d/digits.csv")
    assert len(open_source("d/digits.csv").listing.ids) == 1797
    answer = holdfast("labels", "issues", "d/digits.csv", "--probs", "probs.npy", "--top", "3", "--out", "sheet.html")
    assert answer.status == 0, answer.err
    assert (tmp_path / "sheet.html").read_text().count("data:image/png;base64,") == 3


def test_aggregate_reports_on_annotators_and_labels_train(holdfast, texts):
    answer = holdfast(
        "labels", "aggregate", texts, "--voters", "ann,bob", "--method", "dawid-skene", "--out", "merged.csv", "--matrix-out", "F.csv"
    )
    assert answer.status == 0, answer.err
    merged = read("merged.csv")
    assert all(row["label"] == row["true_label"] for row in merged if row["split"] != "train")
    train = [row for row in merged if row["split"] == "train"]
    assert np.mean([row["label"] == row["true_label"] for row in train]) > 0.9
    assert "voter" in answer.out
    assert "right" in answer.out
    assert np.loadtxt("F.csv", delimiter=",").shape == (3, 3)


@pytest.mark.parametrize("method", ["majority", "weighted", "adversarial"])
def test_aggregate_runs_rules_of_both_kinds(holdfast, texts, tmp_path, method):
    rules = [{"name": label, "label": label, "keywords": list(words[:2])} for label, words in WORDS.items()]
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    (tmp_path / "rules.py").write_text(
        "def click(text):\n    return 'spam' if 'click' in text else None\n\n\ndef rest(text):\n    return 'ham'\n"
    )
    for file in ("rules.json", "rules.py"):
        answer = holdfast("labels", "aggregate", texts, "--rules", file, "--method", method, "--known-split", "val", "--out", "o.csv")
        assert answer.status == 0, answer.err
    assert {row["label"] for row in read("o.csv")} <= set(WORDS)


def test_estimate_from_known_rows_and_from_annotators(holdfast, texts):
    rows = read(texts)
    with open("checked.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], "checked"])
        writer.writeheader()
        writer.writerows([{**row, "checked": row["label"], "label": row["ann"]} for row in rows])
    clean = holdfast("labels", "estimate", "checked.csv", "--estimator", "clean", "--known", "checked", "--out", "F.npz")
    assert clean.status == 0, clean.err
    votes = holdfast(
        "labels", "estimate", "checked.csv", "--estimator", "annotators", "--voters", "ann,bob", "--bootstrap", "5", "--split", "all"
    )
    assert votes.status == 0, votes.err
    assert "Estimated by annotators from 150 rows" in votes.out


MISTAKES = [
    ("labels", "labels: a command is missing"),
    ("labels injct texts.csv", "labels: unknown command 'injct'. Did you mean 'inject'?"),
    ("labels inject", "DATA is missing"),
    ("labels inject texts.csv", "--out is missing"),
    ("labels inject texts.csv --out x.txt", "--out x.txt: expected a file name that ends in .csv or .jsonl"),
    ("labels inject texts.csv --rate 1.0 --out x.csv", "--rate 1: every label would be replaced"),
    ("labels inject texts.csv --rate two --out x.csv", "--rate: expected a number"),
    ("labels inject texts.csv --noise symmetrc --out x.csv", "--noise: unknown value 'symmetrc'. Did you mean 'symmetric'?"),
    ("labels inject texts.csv --noise asymmetric --out x.csv", "--noise asymmetric: needs --map"),
    ("labels inject texts.csv --noise asymmetric --map ham=egg --out x.csv", "--map: 'egg' is no class"),
    ("labels inject texts.csv --noise matrix --matrix rect.csv --out x.csv", "--matrix 'rect.csv': expected a square matrix"),
    ("labels inject texts.csv --noise matrix --matrix sums.csv --out x.csv", "--matrix 'sums.csv': row 1 sums to 0.9"),
    ("labels inject one.csv --out x.csv", "one.csv: there is only one class, 'a'"),
    ("labels inject nowhere.csv --out x.csv", "nowhere.csv: there is no such file"),
    ("labels estimate texts.csv --estimator clean", "--estimator clean: needs --known"),
    ("labels estimate texts.csv --estimator clean --known label2", "--known label2: texts.csv has no such column"),
    ("labels estimate texts.csv --out F.txt", "--out F.txt: expected a file name that ends in .csv, .npy, .npz, .json"),
    ("labels estimate texts.csv --split tset", "--split tset: texts.csv has no such row"),
    ("labels estimate texts.csv --estimator clean --known turned --out F.json", "the estimated matrix: the matrix is singular"),
    ("labels estimate one.csv", "labels: all examples are of one class"),
    ("labels estimate empty.csv", "empty.csv: one row has no text (line 3)"),
    ("labels estimate demo:digits", "--model is missing: labels of images are judged by features"),
    ("labels estimate texts.csv --probs probs.npy", "--probs probs.npy: expected 90 rows"),
    ("labels aggregate texts.csv", "texts.csv: there is no column 'votes'"),
    ("labels aggregate texts.csv --voters ann,bbo", "--voters bbo: texts.csv has no such column"),
    ("labels aggregate texts.csv --voters ann --method weighted", "--method weighted: needs rows whose truth is known"),
    ("labels aggregate texts.csv --voters text", "texts.csv, line 2: the vote of 'text' is "),
    ("labels aggregate texts.csv --rules bad.py", "the rule 'bad' failed on line 2 ('"),
    ("labels aggregate texts.csv --rules broken.py", "--rules broken.py, line 1: "),
    ("labels aggregate votes.jsonl", "votes.jsonl, line 1: the votes 'spam' cannot be read"),
    ("labels aggregate texts.csv --voters ann --known-split test --method weighted", "--known-split test: the test split is for the test"),
    ("labels issues texts.csv --out sheet.txt", "--out sheet.txt: expected a file name that ends in .html or .csv"),
    ("labels issues texts.csv --review sheet.csv --out x.csv", "--review sheet.csv: this sheet was made of other data"),
]


@pytest.mark.parametrize(("command", "begins"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistake_is_one_sentence(holdfast, texts, tmp_path, command, begins):
    files = {
        "one.csv": "text,label\nx,a\ny,a\n",
        "empty.csv": "text,label\nx,a\n,b\n",
        "rect.csv": "1,0,0\n0,1,0\n",
        "sums.csv": "1,0,0\n0,0.9,0\n0,0,1\n",
        "bad.py": "def bad(text):\n    return 1 / 0\n",
        "broken.py": "def (\n",
        "votes.jsonl": '{"text": "x", "votes": "spam"}\n',
        "sheet.csv": "id,label,suggested,decision,new_label,sheet\ntrain/000002,ham,spam,keep,,0123456789abcdef\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    np.save("probs.npy", np.full((3, 3), 1 / 3))
    rows = read(texts)
    with open(texts, "w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], "turned"])
        writer.writeheader()
        writer.writerows([{**row, "turned": list(WORDS)[number % 2]} for number, row in enumerate(rows)])
    answer = holdfast(*command.split())
    assert answer.status == 2, answer.err
    assert answer.err.splitlines()[-1].startswith(f"holdfast: error: {begins}")
    assert not (tmp_path / "F.json").exists()


def test_a_voter_that_always_says_the_same_is_pointed_out(holdfast, tmp_path):
    (tmp_path / "v.csv").write_text("text,ann,bob\nx,a,a\ny,b,a\nz,a,a\n")
    answer = holdfast("labels", "aggregate", "v.csv", "--voters", "ann,bob")
    assert answer.status == 0
    assert "the column 'bob' says 'a' wherever it says anything" in answer.err


@pytest.mark.parametrize("command", ["inject", "estimate", "aggregate", "issues"])
def test_every_command_has_a_page(holdfast, command):
    page = holdfast("labels", command, "--help").out
    assert page.startswith(f"Usage: holdfast labels {command}")
    assert "Examples" in page
    assert command in holdfast("labels", "--help").out
