"""Two processes that share the examples find what one finds, and one of them writes it."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.processes import torchrun

from holdfast import audit
from holdfast.auditing.record import validate_audit

pytestmark = pytest.mark.ranks

SAME = {"rtol": 0.9, "seed": 2, "device": "cpu"}
OPTIONS = {"mean": {**SAME, "budget": "90products"}, "sample": {**SAME, "budget": None, "samples": 5}}
"""Five examples are three and two."""

DRIVER = """
import os, sys

from holdfast import audit
from tests.auditing.test_ranks import OPTIONS

for over, options in OPTIONS.items():
    found = audit(sys.argv[1], over=over, **options)
    if os.environ["RANK"] == "0":  # which alone has written it
        found.path.rename(found.path.with_name(f"{over}.json"))
"""


def numbers(value, path=""):
    """All numbers of a record by their place."""
    if isinstance(value, dict):
        return {place: number for key, entry in value.items() for place, number in numbers(entry, f"{path}.{key}").items()}
    if isinstance(value, list):
        return {place: number for i, entry in enumerate(value) for place, number in numbers(entry, f"{path}.{i}").items()}
    return {path: value} if isinstance(value, int | float) and not isinstance(value, bool) else {}


@pytest.fixture(scope="module")
def copied(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks") / "tiny"
    shutil.copytree(finished.path, folder, ignore=shutil.ignore_patterns("audit.json"))
    driver = folder.parent / "driver.py"
    driver.write_text(DRIVER)
    done = torchrun(driver, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("over", OPTIONS)
def test_two_ranks_find_what_one_finds(copied, finished, over):
    together = json.loads((copied / f"{over}.json").read_text())
    validate_audit(together)
    alone = audit(finished, over=over, **OPTIONS[over]).record
    for section in ("layers", "totals", "spectrum", "noise_stability", "bound", "gap", "calibration", "features"):
        expected, found = numbers(alone[section]), numbers(together[section])
        assert found.keys() == expected.keys()
        assert found == pytest.approx(expected, rel=2e-3, abs=2e-4), section
