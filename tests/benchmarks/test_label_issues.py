"""How rankings of suspect labels are compared."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.label_issues import RANKINGS, Judged, at_random, cleanlabs, cleanlabs_issues, judge, measured, ours, table


@pytest.fixture
def judged() -> Judged:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 400)
    return judge(true, np.eye(3)[true] + rng.normal(scale=0.6, size=(400, 3)), 3, seed=1)


def test_a_fifth_of_the_labels_are_wrong_and_judged_unseen(judged: Judged) -> None:
    assert judged.wrong.mean() == pytest.approx(0.2, abs=0.06)
    assert judged.probs[np.arange(400), judged.observed][judged.wrong].mean() < 0.3


def test_a_perfect_ranking_is_1_and_a_random_one_the_rate(judged: Judged) -> None:
    assert measured(lambda found: [np.argsort(~found.wrong, kind="stable")], judged) == (1.0, judged.wrong.sum() / 100)
    precision, first = measured(at_random, judged)
    assert precision == pytest.approx(judged.wrong.mean(), abs=0.03)
    assert first == pytest.approx(judged.wrong.mean(), abs=0.01)


def test_ours_is_cleanlabs_where_the_formula_is(judged: Judged) -> None:
    pytest.importorskip("cleanlab", reason="cleanlab is not installed")
    assert measured(ours("self-confidence"), judged) == pytest.approx(measured(cleanlabs("self_confidence"), judged))
    (found,) = cleanlabs_issues(judged)
    assert sorted(found.tolist()) == list(range(400))


def test_the_table_has_a_row_for_each_ranking(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in RANKINGS if name.startswith("cleanlab")]:
        monkeypatch.delitem(RANKINGS, name)
    lines = table({"blobs": [judged, judged]})
    assert lines[0] == "| ranking | blobs: average precision | blobs: precision at 100 |"
    assert len(lines) == 2 + len(RANKINGS)
    (row,) = [line for line in lines if line.startswith("| `--score self-confidence` |")]
    precision, first = measured(ours("self-confidence"), judged)
    assert row == f"| `--score self-confidence` | {precision:.3f} ± 0.000 | {first:.3f} ± 0.000 |"
