"""From a table file to columns of text."""

from __future__ import annotations

import pytest

from holdfast.data.rows import read_rows
from holdfast.errors import DataError

GRID = {"path": ("a/1.png", "a/2, b.png"), "label": ("cat", "dog"), "split": ("train", "")}
"""What all the spellings below say."""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """A function (content, file name) that writes a table and reads it."""
    monkeypatch.chdir(tmp_path)

    def read(content, name="t.csv"):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_rows(name)

    return read


@pytest.mark.parametrize(
    "text",
    [
        'path,label,split\na/1.png,cat,train\n"a/2, b.png",dog,\n',
        'path,label,split\r\na/1.png,cat,train\r\n"a/2, b.png",dog,\r\n',
        'path,label,split\ra/1.png,cat,train\r"a/2, b.png",dog,',
        '\ufeffpath,label,split\na/1.png,cat,train\n"a/2, b.png",dog,\n',
        "path;label;split\na/1.png;cat;train\na/2, b.png;dog;\n",
        "path\tlabel\tsplit\na/1.png\tcat\ttrain\na/2, b.png\tdog\t\n",
        '"path";"label";"split"\n"a/1.png";"cat";"train"\n"a/2, b.png";"dog";""\n',
        ' Path , LABEL,Split \n a/1.png , cat, train\n "a/2, b.png", dog ,\n',
        '\n\npath,label,split\n\na/1.png,cat,train\n,,\n"a/2, b.png",dog,\n\n',
        'path,label,split,\na/1.png,cat,train,\n"a/2, b.png",dog,,,\n',
        ',path,label,split\n0,a/1.png,cat,train\n1,"a/2, b.png",dog,\n',
    ],
    ids=["plain", "windows", "old mac", "bom", "semicolon", "tab", "all quoted", "blanks", "blank lines", "empty cells", "pandas index"],
)
def test_spellings_of_one_csv_table(read, text):
    assert read(text).columns == GRID


@pytest.mark.parametrize(
    "text",
    [
        '{"path": "a/1.png", "label": "cat", "split": "train"}\n{"path": "a/2, b.png", "label": "dog"}\n',
        '\ufeff{"path": "a/1.png", "label": "cat", "split": "train"}\r\n\r\n  {"Path": " a/2, b.png", "label ": "dog", "split": null}',
        '{"split": "train", "label": "cat", "path": "a/1.png"}\n{"path": "a/2, b.png", "label": "dog", "split": NaN}\n',
    ],
)
def test_spellings_of_one_table_of_json_lines(read, text):
    assert read(text, "t.jsonl").columns == GRID


def test_json_values_become_text(read):
    text = '{"path": "x", "label": 3, "a": 3.0, "b": 0.25, "c": true, "d": [1, {"é": 2}], "e": -7, "f": 1e300}\n'
    columns = read(text, "t.jsonl").columns
    assert {name: cell for name, (cell,) in columns.items()} == {
        "path": "x",
        "label": "3",
        "a": "3",
        "b": "0.25",
        "c": "true",
        "d": '[1, {"é": 2}]',
        "e": "-7",
        "f": "1e+300",
    }


def test_further_columns_keep_their_case(read):
    assert list(read("Path,Label,Patient ID,WEIGHT\na,b,c,1\n").columns) == ["path", "label", "Patient ID", "weight"]


def test_lines_are_those_of_the_file_where_cells_hold_line_breaks(read):
    table = read('path,label,note\na,b,"one\ntwo\nthree"\n\nc,d,e\n')
    assert table.lines == (2, 6)
    assert table.columns["note"] == ("one\ntwo\nthree", "e")


def test_rows_are_named_by_line_the_first_ten_of_many(read):
    table = read("path,label\n" + "a,b\n" * 20)
    assert table.where([4]) == "line 6"
    assert table.where([0, 3]) == "lines 2, 5"
    assert table.where(range(13)) == "lines 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 3 more"


def test_a_quote_within_a_value_stands_for_itself(read):
    assert read('path,label\n5" disk.png,"a ""b"" c"\n').columns == {"path": ('5" disk.png',), "label": ('a "b" c',)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"^t\.csv: the table is empty; expected a header such as path,label"),
        (" \n\n", "the table is empty"),
        ("path,label\n", "there is a header but no row below it"),
        ("path,label\na,b\nc\nd,e,f\ng,h\n", r"2 rows have more or fewer values than the 2 columns of the header \(lines 3, 4\)"),
        ("path,label\na,b\nx, y.png,c\n", r"^t\.csv, line 3: 3 values where the header names 2 columns; put a value that contains ','"),
        ("path;label\na;b;c\n", "that contains ';' into double quotes"),
        ("path\tlabel\na\tb\tc\n", "that contains a tab into double quotes"),
        ('path,label\na,b\n"c,d\ne,f\n', r"line 3: the quotes do not fit \(unexpected end of data\)"),
        ('path,label\n"a"b,c\n', r"line 2: the quotes do not fit \(',' expected after '\"'\)"),
        ("path,label, Path\na,b,c\n", r"line 1: there are two columns 'path'; keep one of them"),
        ("path,label,x,x\na,b,c,d\n", "two columns 'x'"),
        (b"path,label\na,b\ncaf\xe9,d\n", r"line 3: the byte 0xe9 is not UTF-8, .* Windows-1252; save it as CSV in UTF-8"),
        ("path,label\na,b\n".encode("utf-16"), "no text in UTF-8 .*UTF-16"),
        ("path,label\na,b\n".encode("utf-16-be"), "no text in UTF-8"),
        (b"PK\x03\x04\0\0", "or no text at all"),
    ],
)
def test_csv_files_that_are_no_table_are_refused(read, content, message):
    with pytest.raises(DataError, match=message):
        read(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"path": "a"}\n{"path": "b"\n', r"^t\.jsonl, line 2: this is no JSON \(.*column \d+\); expected one object a line"),
        ('{"path": "a"}\n\n["b", "c"]\n', "line 3: this is a list; expected one object a line"),
        ('{"path": "a"}\n7\n', "line 2: this is a single value"),
        ('[\n{"path": "a"}\n]\n', "line 1: this is no JSON"),
        ("[" * 100_000, "line 1: this is no JSON"),
        ('{"path": ' + "1" * 5000 + "}", r"line 1: this is no JSON \(it cannot be read\)"),
        ('{"path": "\\ud800"}', r"line 1: this is no JSON \(it cannot be read\)"),
        ('{"path": {"bytes": 1}}', r"""line 1: 'path' is {"bytes": 1}; expected a text or a number"""),
        ('{"path": "a", "label": ["b", "c"]}', r"""line 1: 'label' is \["b", "c"\]; expected"""),
        ('{"path": "a", "Path": "b"}', "line 1: there are two columns 'path'"),
        ('{"path": "a\\u0000"}', "line 1: 'path' holds a NUL character"),
    ],
    ids=range(11),
)
def test_json_lines_that_are_no_table_are_refused(read, text, message):
    with pytest.raises(DataError, match=message):
        read(text, "t.jsonl")


def test_a_missing_or_unreadable_table_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no\.csv: there is no such file; expected a table with the columns path or text, and label"):
        read_rows(str(tmp_path / "no.csv"))
    with pytest.raises(DataError, match=r"the table cannot be read \(is a directory\)"):
        read_rows(str(tmp_path))
