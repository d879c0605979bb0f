"""Plain text of records and options as Markdown: tables, inline code, nothing taken for markup by accident."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["choices", "code", "prose", "table"]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells hold inline Markdown; an empty cell becomes a dash."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(_row(cells, space="" if number == 1 else " ") for number, cells in enumerate(lines))


def _row(cells: Sequence[str], space: str) -> str:
    texts = (" ".join(cell.split()).replace("|", r"\|") or "–" for cell in cells)
    return f"|{space}{f'{space}|{space}'.join(texts)}{space}|"


def code(value: object) -> str:
    """A value as inline code, spelled as in YAML and on the command line."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else ""


def choices(values: Iterable[object]) -> str:
    """The allowed words."""
    return ", ".join(code(value) for value in values)


def prose(text: str) -> str:
    """Plain text that shows as it is; options such as --lr become code, and arXiv numbers links."""
    escaped = re.sub(r"[\\`*_<>\[\]$#{}]", r"\\\g<0>", text)
    escaped = re.sub(r"(?<![\w-])--[a-z][\w.\\-]*\w", lambda found: code(found[0].replace("\\", "")), escaped)
    return re.sub(r"arXiv[: ](\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", escaped)
