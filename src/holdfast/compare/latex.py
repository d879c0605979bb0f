r"""``comparison.tex``: tables for a paper. They need no package beyond LaTeX itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from holdfast.compare.record import Comparison, Interval, MethodRow, PairRow, SettingRow

__all__ = ["escaped", "latex_text"]

_SIGNS: Final = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
}
_HEADER: Final = """\
% Written by holdfast compare. \\input this file; it needs no package, and replacing \\hline by the rules of booktabs is welcome.
% Bold: the highest mean, which is no claim. What the data show stands in the column of verdicts.
"""


def latex_text(comparison: Comparison) -> str:
    """One table a setting, then the pairs where every pair was compared, then mean ranks where there are several settings."""
    tables = []
    for place, setting in enumerate(comparison.settings):
        pairs = list(comparison.pairs_of(place))
        against = {row.a: row for row in pairs if row.b == comparison.baseline}
        tables.append(_methods(setting, list(comparison.methods_of(place)), against, comparison.baseline, len(pairs)))
        if comparison.every_pair:
            tables.append(_pairs(setting, pairs))
    if comparison.overall is not None:
        tables.append(_ranks(comparison))
    return "\n".join([_HEADER, *tables])


def escaped(text: str) -> str:
    r"""A text that LaTeX prints as it is.

    Example:
        >>> print(escaped("50 % of a_b"))
        50 \% of a\_b
    """
    shown = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())
    return "".join(_SIGNS.get(sign, sign) for sign in shown)


def _methods(setting: SettingRow, methods: Sequence[MethodRow], against: dict[str, PairRow], baseline: str, family: int) -> str:
    known = [row.mean for row in methods if row.mean is not None]
    best = max(known, default=None)
    lines = [_method(row, against.get(row.name), bold=row.mean is not None and row.mean == best) for row in methods]
    most = max((row.n for row in methods), default=0)
    caption = (
        f"Test accuracy in \\% on {_named(setting)}, mean over up to {most} runs with 95\\,\\% $t$ interval; difference to "
        f"{escaped(baseline)} in points over the same seeds, with its paired 95\\,\\% $t$ interval; $p$ after Holm's correction over "
        f"{family} {'pair' if family == 1 else 'pairs'}.{_footnote(against.values())}"
    )
    head = ("Method", "Accuracy", "Difference", "$p$", "Verdict", "s/step")
    return _table("lrrrlr", head, lines, caption)


def _method(row: MethodRow, pair: PairRow | None, *, bold: bool) -> list[str]:
    mean = "--" if row.mean is None else f"{100 * row.mean:.2f}"
    accuracy = (rf"\textbf{{{mean}}}" if bold else mean) + _ends(row.ci95, "{:.2f}")
    seconds = "--" if row.seconds_per_step is None else f"{row.seconds_per_step:.3g}"
    return [escaped(row.name), accuracy, *(_difference(pair) if pair else ["--", "--", "--"]), seconds]


def _difference(pair: PairRow) -> list[str]:
    """Difference, corrected p value and verdict."""
    shown = "--" if pair.difference is None else f"${100 * pair.difference:+.2f}${_ends(pair.ci95, '${:+.2f}$')}"
    p = "--" if pair.p_holm is None else ("$<$0.001" if pair.p_holm < 0.001 else f"{pair.p_holm:.3f}")
    return [shown, p, pair.verdict + ("$^*$" if pair.for_these_draws else "")]


def _ends(ends: Interval | None, form: str) -> str:
    return "" if ends is None else f" [{form.format(100 * ends[0])}, {form.format(100 * ends[1])}]"


def _pairs(setting: SettingRow, pairs: Sequence[PairRow]) -> str:
    lines = [[escaped(row.a), escaped(row.b), *_difference(row), f"{row.wins}/{row.ties}/{row.losses}"] for row in pairs]
    caption = (
        f"Every pair on {_named(setting)}: difference of the first to the second in points, with its paired 95\\,\\% $t$ interval; $p$ "
        f"after Holm's correction over {len(pairs)} pairs; wins, ties and losses over cells.{_footnote(pairs)}"
    )
    return _table("llrrlr", ("First", "Second", "Difference", "$p$", "Verdict", "W/T/L"), lines, caption)


def _footnote(pairs: Iterable[PairRow]) -> str:
    """What the star of a verdict means, where there is one."""
    starred = any(row.for_these_draws for row in pairs)
    return " $^*$For the draws of the data that were compared: the interval over data seeds includes 0." if starred else ""


def _ranks(comparison: Comparison) -> str:
    """Mean accuracy by setting and mean rank over settings."""
    assert comparison.overall is not None
    means = {(row.setting, row.name): row.mean for row in comparison.methods}
    places = range(len(comparison.settings))
    lines = [
        [escaped(row.name), *_means([means.get((place, row.name)) for place in places], row.rank)] for row in comparison.overall.methods
    ]
    named = "; ".join(f"({place + 1}) {_named(setting)}" for place, setting in enumerate(comparison.settings))
    width = comparison.overall.critical_difference
    caption = f"Mean test accuracy in \\% on {named}, and mean rank over the settings that all methods have."
    if width is not None:
        caption += f" Critical difference of mean ranks (Nemenyi, 5\\,\\%): {width:.2f}."
    return _table(f"l{'r' * len(places)}r", ("Method", *(f"({place + 1})" for place in places), "Rank"), lines, caption)


def _means(means: Sequence[float | None], rank: float | None) -> Iterator[str]:
    yield from ("--" if mean is None else f"{100 * mean:.2f}" for mean in means)
    yield "--" if rank is None else f"{rank:.2f}"


def _named(setting: SettingRow) -> str:
    share = "" if setting.fraction is None else f", {100 * setting.fraction:g}\\,\\% of the training data"
    return f"{escaped(setting.data)} with {escaped(setting.model)}{share}"


def _table(columns: str, head: Sequence[str], lines: Sequence[Sequence[str]], caption: str) -> str:
    rows = "\n".join(f"{' & '.join(line)} \\\\" for line in lines)
    return f"""\
\\begin{{table}}
\\centering
\\begin{{tabular}}{{{columns}}}
\\hline
{" & ".join(head)} \\\\
\\hline
{rows}
\\hline
\\end{{tabular}}
\\caption{{{caption}}}
\\end{{table}}
"""
