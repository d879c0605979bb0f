"""The review sheet: what a person marks comes back, what is wrong is named, and nothing in the data becomes code."""

from __future__ import annotations

import base64
import csv
import io
import re
import shutil

import pytest
from PIL import Image

from holdfast.errors import DataError
from holdfast.labels.examples import read_examples
from holdfast.labels.review import COLUMNS, Decision, SheetRow, read_decisions, sheet_fingerprint, write_csv_sheet
from holdfast.labels.review_page import thumbnail, write_html_sheet

HOSTILE = '<script>alert("x")</script>'


@pytest.fixture
def examples(tmp_path):
    file = tmp_path / "data.csv"
    file.write_text(f'id,text,label\n1,good,a\n2,bad,b\n3,"{HOSTILE.replace(chr(34), chr(34) * 2)}",c\n4,more,a\n')
    return read_examples(str(file))


@pytest.fixture
def rows(examples):
    return [SheetRow(row, examples.ids[row], examples.labels[row], "c", 0.1 * row, examples.texts[row]) for row in range(4)]


@pytest.fixture
def marked(tmp_path, examples, rows):
    """Write a sheet, change cells of it by row and column, and read it back."""
    file = tmp_path / "sheet.csv"

    def mark(changes, against=examples):
        write_csv_sheet(str(file), rows, sheet_fingerprint(examples))
        with file.open(newline="") as stream:
            table = list(csv.DictReader(stream))
        for row, column, value in changes:
            table[row][column] = value
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(table)
        return read_decisions(str(file), against)

    return mark


def test_marks_come_back_and_unmarked_rows_say_nothing(marked):
    found = marked([(0, "decision", "Change"), (1, "new_label", "a"), (2, "decision", "drop"), (3, "decision", "keep")])
    assert found == [Decision("1", "c"), Decision("2", "a"), Decision("3", None), Decision("4", "a")]
    assert marked([]) == []


def test_a_sheet_of_other_data_is_refused(marked, tmp_path):
    file = tmp_path / "other.csv"
    file.write_text("id,text,label\n1,good,a\n2,bad,b\n3,x,c\n4,more,a\n")
    with pytest.raises(DataError, match="this sheet was made of other data"):
        marked([], read_examples(str(file)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([(1, "decision", "chang")], "line 3: the decision 'chang' is none of keep, change, drop"),
        ([(1, "new_label", "z")], "line 3: the new label 'z' is no class"),
        ([(1, "new_label", "a"), (1, "decision", "keep")], "the decision is 'keep', and yet there is a new label 'a'"),
        ([(1, "id", "99")], "there is no example '99'"),
        ([(row, "sheet", "") for row in range(4)], "column 'sheet' is empty"),
        ([(1, "sheet", "abc")], "rows come from 2 different sheets"),
    ],
)
def test_a_mark_that_is_wrong_is_named(marked, changes, words):
    with pytest.raises(DataError, match=words):
        marked(changes)


def test_another_table_is_no_sheet(tmp_path, examples):
    file = tmp_path / "x.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="this is no review sheet; it lacks the column 'id'"):
        read_decisions(str(file), examples)


def test_the_page_is_whole_and_what_the_data_says_stays_text(tmp_path, examples, rows):
    file = tmp_path / "sheet.html"
    write_html_sheet(str(file), examples, rows, sheet_fingerprint(examples))
    page = file.read_text()
    assert page.count("<script>") == 1  # our own
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert page.count("<tr data-rank=") == 4
    for column in COLUMNS:
        assert f'"{column}"' in page
    assert sheet_fingerprint(examples) in page


def test_thumbnails_are_small_pictures_of_the_image():
    stream = io.BytesIO()
    Image.new("RGB", (300, 150), (200, 10, 10)).save(stream, "PNG")
    small = Image.open(io.BytesIO(base64.b64decode(thumbnail(stream.getvalue()).partition(",")[2])))
    assert small.size == (112, 56)
    assert small.getpixel((5, 5)) == (200, 10, 10)
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    assert Image.open(io.BytesIO(base64.b64decode(thumbnail(stream.getvalue()).partition(",")[2]))).size == (112, 112)


@pytest.mark.browser
def test_what_is_clicked_in_the_page_comes_back(tmp_path, examples, rows):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or pytest.skip("chromium is not installed")
    file = tmp_path / "sheet.html"
    write_html_sheet(str(file), examples, rows, sheet_fingerprint(examples))
    with playwright.sync_playwright() as driver, driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser:
        page = browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(file.as_uri())
        table = page.locator("tbody tr")
        table.nth(0).get_by_text("keep").click()
        table.nth(1).locator("select").select_option("a")
        table.nth(2).get_by_text("drop").click()
        assert page.locator("#count").inner_text() == "3 of 4 decided"
        with page.expect_download() as download:
            page.locator("#save").click()
        download.value.save_as(tmp_path / "marked.csv")
        assert download.value.suggested_filename == "sheet.csv"
    assert complaints == []
    assert read_decisions(str(tmp_path / "marked.csv"), examples) == [Decision("1", "a"), Decision("2", "a"), Decision("3", None)]
