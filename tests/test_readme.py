"""What the README shows works."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from holdfast_pages.readme import with_table
from torch import nn

ROOT = Path(__file__).resolve().parents[1]


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_loop_of_the_readme_trains(seeded):
    (code,) = [block for block in python_blocks(ROOT / "README.md") if "attach" in block]
    inputs = torch.randn(12, 5, generator=seeded(0))
    labels = torch.arange(12) % 3
    batches = [(inputs[:6], labels[:6]), (inputs[6:], labels[6:])]
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    names = {"model": model, "plain_batches": batches, "batches": batches, "K": 3, "epochs": 20}
    names["optimizer"] = torch.optim.SGD(model.parameters(), lr=0.1)
    before = nn.functional.cross_entropy(model(inputs), labels).item()
    exec(code, names)
    assert nn.functional.cross_entropy(model(inputs), labels).item() < before
    assert set(names["terms"].values) == {"cross-entropy", "adarand"}


def test_links_of_the_pages_lead_somewhere():
    for page in ("README.md", "CONTRIBUTING.md"):
        links = re.findall(r"\]\((?!http)([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
        assert links, page
        for link in links:
            assert (ROOT / link).exists(), f"{page}: {link}"


def test_the_table_of_methods_is_that_of_the_catalog():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "| `adarand` | " in text
    assert with_table(text) == text, "run `make format`: it writes the table from the catalog"


def test_a_table_that_lags_behind_is_replaced_and_nothing_else():
    before = "# x\n\n| name | what it does | needs |\n|---|---|---|\n| `old` | a | b |\n\nafter | this\n"
    after = with_table(before)
    assert after.startswith("# x\n\n| name | what it does | ")
    assert after.endswith(" |\n\nafter | this\n")
    assert "`old`" not in after
    assert "| `adarand` | " in after
