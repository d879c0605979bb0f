"""The pages that are made from the catalog and the options say everything these know, and what they show works."""

from __future__ import annotations

import dataclasses
import html
import re
import shlex

import pytest
import yaml
from holdfast_pages import without_file_links, write_pages
from holdfast_pages.markdown import prose, table
from holdfast_pages.methods import method_page, overview
from holdfast_pages.options import options_page
from myst_parser.parsers.docutils_ import to_html5_demo

from holdfast.catalog import METHODS, Method, Option, parse_methods
from holdfast.cli.arguments import parse
from holdfast.cli.fit_options import COMMAND, CONFIG_ARGUMENTS
from holdfast.config.layers import command_line, from_yaml
from holdfast.config.load import resolve
from holdfast.config.schema import FitConfig

NEW = Method(
    name="new-method",
    kind="regularizer",
    target="nowhere:Nothing",
    summary="pulls a|b towards r_i*",
    objective="L = L_CE + weight · x_i",
    weights=(Option("weight", float, 0.5, "the weight", low=0.0, source="paper, arXiv 2403.10097"),),
    options=(Option("flag", bool, True, "see --method.flag", source="ours"), Option("mode", str, "a", "which", choices=("a", "b"))),
    needs="two views",
    cost="1.10",
    good_for="testing",
    caveats="none known.",
    sources=("Somebody et al., 2026",),
)


def shown(page: str) -> str:
    """The words of a page as a reader sees them."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", to_html5_demo(page))).split())


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


@pytest.mark.parametrize("record", [*METHODS.values(), NEW], ids=lambda record: record.name)
def test_the_page_of_a_method_says_all_that_its_record_says(record):
    text = squeezed(shown(method_page(record)))
    for told in (record.summary[1:], record.objective, record.needs[1:], record.cost[1:], record.good_for[1:], record.caveats[1:]):
        assert squeezed(told.rstrip(".")) in text
    for source in record.sources:
        assert squeezed(source) in text
    for option in record.all_options.values():
        default = str(option.default).lower() if isinstance(option.default, bool) else str(option.default)
        allowed = option.choices or (option.expected,)
        assert squeezed("".join((option.name, default, ",".join(allowed), option.help, option.source or "–"))) in text


@pytest.mark.parametrize("record", METHODS.values(), ids=lambda record: record.name)
def test_the_examples_of_a_method_page_resolve(record):
    blocks = dict(re.findall(r"```(shell|yaml|python)\n(.*?)```", method_page(record), flags=re.DOTALL))
    words = shlex.split(blocks["shell"].replace("\\\n", " "))
    assert words[:2] == ["holdfast", "fit"]
    parsed = parse(words[2:], (*CONFIG_ARGUMENTS.values(), *COMMAND), free_prefix="--method.")
    typed = resolve([command_line({**parsed.values, "data": parsed.words[0]})])
    needed = {"data": "cars/", "model": "timm:resnet50", "out": "runs/cars"}
    assert resolve([from_yaml("run.yaml", {**needed, **yaml.safe_load(blocks["yaml"])})]) == typed
    examples = {option.name: option.example for option in record.options if option.example}
    assert typed.method == parse_methods([{"name": record.name, **examples}])


def test_the_overview_has_a_row_and_a_page_for_each_method():
    page = overview([*METHODS.values(), NEW])
    for record in (*METHODS.values(), NEW):
        assert f"| [`{record.name}`]({record.name}.md) | {record.kind} | " in page
        assert f"\n{record.name}\n" in page
    assert "pulls a|b towards r_i*" in shown(page)


def test_the_page_of_options_has_every_field_with_default_and_help():
    text = shown(options_page())
    for field in dataclasses.fields(FitConfig):
        spelled = "DATA" if field.name == "data" else f"--{field.name.replace('_', '-')}"
        assert f" {spelled} " in text.replace(",", " ")
        assert squeezed(field.metadata["help"]) in squeezed(text)
    assert "--lr NUMBER 0.01 a number of at least 0 learning rate" in text
    assert "--select CHOICE val-accuracy val-accuracy , val-loss , val-corrected , last which epoch's weights are kept" in text


def test_text_shows_as_it_is():
    for text in ("r_i ~ N(μ_{y_i}, 1) * x_i", "'layer1.*,conv1.*'", "a <b> [c] `d` $e$", "by --data-seed, not --method.adarand.alpha 0.3"):
        assert squeezed(shown(prose(text))) == squeezed(text)
    assert prose("see --val-fraction.") == "see `--val-fraction`."
    assert prose("CVPR, arXiv 2403.10097") == "CVPR, [arXiv 2403.10097](https://arxiv.org/abs/2403.10097)"


def test_tables_hold_bars_and_empty_cells():
    assert table(("name", "what"), [("a|b", ""), ("two\nlines", "x")]).splitlines() == [
        "| name | what |",
        "|---|---|",
        r"| a\|b | – |",
        "| two lines | x |",
    ]


def test_pages_are_written_and_those_of_gone_methods_removed(tmp_path):
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "gone.md").touch()
    write_pages(tmp_path)
    written = {path.relative_to(tmp_path).as_posix(): path.stat().st_mtime_ns for path in tmp_path.rglob("*.md")}
    assert written.keys() == {"options.md", "methods/index.md", *(f"methods/{name}.md" for name in METHODS)}
    write_pages(tmp_path)
    assert all((tmp_path / name).stat().st_mtime_ns == time for name, time in written.items())


def test_links_to_files_of_the_repository_become_text():
    text = "[`a.py`](tests/a.py), [here](#there), [web](https://keepachangelog.com)"
    assert without_file_links(text) == "`a.py`, [here](#there), [web](https://keepachangelog.com)"
