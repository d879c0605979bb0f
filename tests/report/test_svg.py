"""Drawings leave no trace, are the same each time, and take any text."""

from __future__ import annotations

import subprocess
import sys

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.report.svg import draw, label, with_ids


def paint(axes):
    axes.plot([0, 1, 2], [1.0, 3.0, 2.0], "o", label=label("a <b> & $x$"))
    axes.set_yticks([1, 2], ["$\\frac", label("漢")])
    axes.legend()


def test_settings_of_matplotlib_stay_as_they_are():
    before = dict(matplotlib.rcParams)
    draw("title", "words", paint)
    assert dict(matplotlib.rcParams) == before


def test_settings_of_the_user_change_nothing():
    plain = draw("title", "words", paint)
    with matplotlib.rc_context(
        {"font.size": 30, "axes.facecolor": "black", "svg.fonttype": "path", "text.usetex": False, "lines.linewidth": 9}
    ):
        assert draw("title", "words", paint) == plain


def test_pyplot_and_torch_are_never_imported():
    code = """
import sys
from holdfast.report.svg import draw
draw("title", "words", lambda axes: axes.plot([1, 2]))
sys.exit("matplotlib.pyplot" in sys.modules or "torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_text_is_text_and_dollars_are_dollars():
    content = draw("title", "words", paint).content
    assert "a &lt;b&gt; &amp; $x$" in content
    assert "$\\frac" in content


def test_nothing_of_a_document_of_its_own_is_left():
    content = draw("title", "words", paint).content
    for part in ("<?xml", "<!DOCTYPE", "<metadata", "<style", "xlink", "http"):
        assert part not in content


def test_ids_are_those_referred_to_and_carry_the_prefix():
    plot = draw("title", "words", paint)
    first, second = with_ids(plot.content, "f1"), with_ids(plot.content, "f2")
    assert 'href="#f1-' in first
    assert "url(#f1-" in first
    assert 'id="f2-' in second
    assert first.replace("f1-", "f2-") == second


def test_numbers_in_text_are_not_rounded():
    assert ">0.00125<" in draw("title", "words", lambda axes: axes.set_xticks([0.5], ["0.00125"])).content


@given(st.text(max_size=60))
def test_any_name_becomes_a_short_one_of_letters_the_font_has(name):
    shown = label(name)
    assert len(shown) <= 24
    assert all(sign == "…" or " " <= sign < "\x7f" or "\xa1" <= sign < "ɐ" for sign in shown)


@pytest.mark.parametrize("size", [(6.0, 3.5), (4.4, 3.2)])
def test_the_ratio_is_that_asked_for(size):
    plot = draw("title", "words", paint, size)
    assert plot.size[0] / plot.size[1] == pytest.approx(size[0] / size[1], rel=0.01)
