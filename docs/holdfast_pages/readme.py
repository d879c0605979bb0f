"""``python -m holdfast_pages.readme``: write the table of methods into the README, from the catalog."""

from __future__ import annotations

import re
from pathlib import Path

from holdfast.catalog import METHODS
from holdfast_pages.methods import readme_table

__all__ = ["README", "with_table"]

README = Path(__file__).resolve().parents[2] / "README.md"


def with_table(text: str) -> str:
    """The README with its table of methods as the catalog has it; everything else stays."""
    table = readme_table(METHODS.values())
    return re.sub(r"(?m)^\| name \| what it does \|.*\n(?:\|.*\n)+", lambda _: f"{table}\n", text, count=1)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
