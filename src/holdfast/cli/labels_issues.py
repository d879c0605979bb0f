"""``holdfast labels issues``: labels that look wrong, as a sheet to mark, and the marked sheet back into a table."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.cli.arguments import COMMON, Argument, Parsed
from holdfast.cli.help import HelpPage
from holdfast.cli.labels_options import DATA, JUDGE, SPLIT, check_table_name, choice, judged, read_arguments, whole
from holdfast.cli.labels_tables import print_lines, print_table
from holdfast.errors import ConfigError
from holdfast.wording import percent

if TYPE_CHECKING:
    from holdfast.labels import Issues
    from holdfast.labels.arrays import IntArray
    from holdfast.labels.examples import Examples
    from holdfast.labels.review import SheetRow

__all__ = ["page", "run"]

SCORES = ("self-confidence", "normalized-margin", "confidence-weighted-entropy")
HOW = (
    Argument("--score", "what ranks the labels", "NAME", "self-confidence", SCORES),
    Argument("--top", "rows of the sheet; 0 for all that are surely of another class", "N", "200"),
    SPLIT,
)
OUTPUT = (
    Argument("--out", "the sheet: .html with pictures or texts to click, or .csv; with --review the corrected table", "FILE"),
    Argument("--review", "marked sheet to read back in; --out is then the corrected table (.csv or .jsonl)", "FILE"),
)
ARGUMENTS = (*HOW, *JUDGE, *OUTPUT, *COMMON)
SHOWN = 10


def page() -> HelpPage:
    """The page behind ``holdfast labels issues --help``."""
    return HelpPage(
        usage=(
            "holdfast labels issues DATA [--model MODEL] --out SHEET.html",
            "holdfast labels issues DATA --review SHEET.csv --out CORRECTED.csv",
        ),
        about=(
            "Rank labels by how badly they fit the probabilities of a classifier that has not seen them, and suggest the class that fits "
            "better. The sheet is for a person: mark each row with keep, change or drop, in the browser or in a spreadsheet, then give it "
            "back with --review. Nothing is changed that nobody has marked, and a sheet of other data is refused.",
        ),
        words=(DATA,),
        groups={"How": HOW, "Network": JUDGE, "Output": (*OUTPUT, *COMMON)},
        examples=(
            ("a page with the 200 most suspect photos", "holdfast labels issues cars.csv --model timm:resnet18 --out sheet.html"),
            ("what was marked, as a new table", "holdfast labels issues cars.csv --review sheet.csv --out cars-corrected.csv"),
        ),
    )


def run(argv: Sequence[str]) -> int:
    """Rank and write a sheet, or read one back."""
    data, parsed = read_arguments(argv, ARGUMENTS, "issues")
    file = parsed.values.get("out")
    if "review" in parsed.values:
        file = check_table_name(file, f"holdfast labels issues {data} --review {parsed.values['review']} --out corrected.csv")
    elif file is not None and Path(file).suffix.lower() not in (".html", ".csv"):
        raise ConfigError(f"--out {file}: expected a file name that ends in .html or .csv.")
    score = choice(parsed, "score", "self-confidence", SCORES)
    top = whole(parsed, "top", 200)
    from holdfast.labels.examples import read_examples

    examples = read_examples(data)
    if "review" in parsed.values:
        _apply(parsed.values["review"], str(file), examples)
        return 0
    _find(parsed, examples, score, top, file)
    return 0


def _find(parsed: Parsed, examples: Examples, score: str, top: int, file: str | None) -> None:
    from holdfast.labels import label_issues

    classes = examples.classes
    rows = np.flatnonzero(examples.in_split(parsed.values.get("split", "train")))
    observed = examples.indices(examples.labels, classes, "the label")[rows]
    probs = judged(parsed, examples, rows.tolist(), observed, len(classes))
    issues = label_issues(probs, observed, score=score)
    number = min(top or int(issues.suspect.sum()), len(rows))
    suspects = [_sheet_row(examples, rows, issues, place) for place in issues.order[:number].tolist()]
    print_lines([f"{issues.suspect.sum()} of {len(rows)} labels ({percent(float(issues.suspect.mean()))}) are surely of another class."])
    print_table(
        ("example", "label", "suggested", "fit"),
        ((_short(row), row.label, row.suggested, f"{row.score:.2f}") for row in suspects[:SHOWN]),
        left=3,
    )
    _print_truth(examples, rows, observed, issues, number)
    if file is not None:
        _write_sheet(file, examples, suspects)


def _sheet_row(examples: Examples, rows: IntArray, issues: Issues, place: int) -> SheetRow:
    from holdfast.labels.review import SheetRow

    row = int(rows[place])
    content = examples.texts[row] if examples.texts is not None else examples.columns.get("path", examples.ids)[row]
    return SheetRow(
        row, examples.ids[row], examples.labels[row], examples.classes[issues.suggested[place]], float(issues.score[place]), content
    )


def _short(row: SheetRow) -> str:
    return row.content if len(row.content) <= 60 else f"{row.content[:57]}..."


def _print_truth(examples: Examples, rows: IntArray, observed: IntArray, issues: Issues, number: int) -> None:
    """How good the ranking is, where the table says the truth."""
    from holdfast.labels import average_precision, precision_at

    truth = examples.columns.get("true_label")
    if truth is None:
        return
    wrong = np.array([bool(truth[row]) and truth[row] != examples.labels[row] for row in rows.tolist()])
    if not wrong.any():
        return
    first = min(100, len(rows))
    print_lines(
        [
            f"The column 'true_label' tells the truth: {percent(float(wrong.mean()))} of the labels are wrong, and "
            f"{percent(precision_at(wrong, issues.order, first))} of the first {first} of this ranking; average precision "
            f"{average_precision(wrong, issues.order):.3f} (a random order has {wrong.mean():.3f}). The first {number} hold "
            f"{percent(float(wrong[issues.order[:number]].sum() / wrong.sum()))} of all wrong labels."
        ]
    )


def _write_sheet(file: str, examples: Examples, suspects: Sequence[SheetRow]) -> None:
    from holdfast.labels.review import sheet_fingerprint, write_csv_sheet

    Path(file).parent.mkdir(parents=True, exist_ok=True)
    fingerprint = sheet_fingerprint(examples)
    if file.lower().endswith(".html"):
        from holdfast.labels.review_page import write_html_sheet

        write_html_sheet(file, examples, suspects, fingerprint)
        how = "open it in a browser, mark, and save the decisions"
    else:
        write_csv_sheet(file, suspects, fingerprint)
        how = "write keep, change or drop into the column 'decision', and another class into 'new_label' where the suggested one is wrong"
    marked = shlex.quote(str(Path(file).with_suffix(".csv")))
    print_lines(
        [
            f"Written: {file} with {len(suspects)} rows; {how}.",
            f"Next: holdfast labels issues {shlex.quote(examples.spec)} --review {marked} --out corrected.csv",
        ]
    )


def _apply(sheet: str, file: str, examples: Examples) -> None:
    from holdfast.labels.examples import write_examples
    from holdfast.labels.review import read_decisions

    decisions = {decision.id: decision.label for decision in read_decisions(sheet, examples)}
    labels: list[str] = []
    for name, label in zip(examples.ids, examples.labels, strict=True):
        decided = decisions.get(name, label)
        labels.append(label if decided is None else decided)
    rows = [row for row, name in enumerate(examples.ids) if decisions.get(name, "") is not None]
    columns: dict[str, Any] = {"label": labels}
    changed = sum(new != old for new, old in zip(labels, examples.labels, strict=True))
    write_examples(file, examples, columns, rows=rows)
    print_lines(
        [
            f"{len(decisions)} decisions: {changed} labels changed, {len(examples) - len(rows)} rows dropped, "
            f"{len(decisions) - changed - len(examples) + len(rows)} kept.",
            f"Written: {file} with {len(rows)} rows",
            f"Next: holdfast fit {shlex.quote(file)} --model MODEL --out runs/corrected",
        ]
    )
