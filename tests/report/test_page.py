"""Every page is whole, stands alone and can be read by anyone."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from tests.report.conftest import HOSTILE, MAKERS

KINDS = [*MAKERS, "together"]


@pytest.fixture(params=KINDS)
def page(request, reports):
    return reports[request.param].page


def test_a_page_has_language_viewport_title_and_one_main_heading(page):
    (root,) = page.all("html")
    assert root.attributes["lang"] == "en"
    assert page.all("meta", name="viewport")
    assert page.all("title")[0].text.endswith("holdfast report")
    assert len(page.all("h1")) == len(page.all("main")) == 1


def test_headings_never_skip_a_level(page):
    levels = [int(node.tag[1]) for node in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(deeper - level <= 1 for level, deeper in pairwise(levels))
    assert all(node.text for node in page.all("h1", "h2", "h3", "h4"))


def test_tables_have_captions_and_headings_with_scope(page):
    tables = page.all("table")
    assert tables
    for table in tables:
        assert table.all("caption")[0].text
        assert all(heading.attributes["scope"] in ("row", "col") for heading in table.all("th"))
        for row in table.all("tbody")[0].all("tr"):
            assert row.children[0].attributes["scope"] == "row"


def test_rows_are_as_wide_as_their_heading(page):
    for table in page.all("table"):
        assert len({len(row.children) for row in table.all("tr")}) == 1, table.all("caption")[0].text


def test_every_drawing_has_a_name_or_is_hidden(page):
    for figure in page.all("figure"):
        (drawing,) = figure.all("svg")
        assert figure.all("figcaption")[0].text
        assert drawing.attributes["role"] == "img"
        assert len(drawing.attributes["aria-label"]) > 30
    for drawing in page.all("svg", **{"class": "interval"}):
        assert drawing.attributes["aria-hidden"] == "true"


def test_ids_are_unique_and_links_lead_somewhere(page):
    ids = [node.attributes["id"] for node in page.walk() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    used = [node.attributes["href"] for node in page.walk() if "href" in node.attributes and node.tag != "link"]
    used += [f"#{name}" for node in page.walk() for name in node.attributes.get("aria-labelledby", "").split()]
    used += re.findall(r"url\((#[^)]+)\)", " ".join(node.attributes.get("clip-path", "") for node in page.walk()))
    assert used
    assert {link for link in used if link.removeprefix("#") not in ids} == set()


def test_nothing_is_loaded_and_nothing_is_run(page):
    assert not page.all("script", "img", "iframe", "object", "embed", "form", "base", "audio", "video")
    assert [link.attributes["href"] for link in page.all("link")] == ["data:,"]
    for node in page.walk():
        assert not any(name.startswith("on") or name in ("src", "srcset", "action") for name in node.attributes), node
        assert "url(" not in node.attributes.get("style", "")
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy.attributes["content"].startswith("default-src 'none'")
    assert "@import" not in page.all("style")[0].text
    assert "url(" not in page.all("style")[0].text


@pytest.mark.parametrize("kind", ["<i>hostile", "together"])
def test_names_from_data_are_text_and_nothing_else(reports, kind):
    page = reports[kind].page
    assert not page.all("script", "img", "b", "i")
    shown = page.text
    for name in (*HOSTILE, "<script>alert(2)</script>", "<b>bold</b> (weight 2)", "<i>hostile"):
        printable = re.sub(r"[\x00\x1b]", "�", name)
        assert printable in shown
    assert "49" not in {cell.text for cell in page.all("td", "th")}


def test_control_characters_do_not_reach_the_page(reports):
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", reports["<i>hostile"].file.read_bytes())


def test_pages_are_small(reports):
    sizes = {kind: report.file.stat().st_size for kind, report in reports.items()}
    assert sizes["whole"] < 250_000
    assert sizes["many"] < 500_000
    assert sizes["bare"] < 20_000
