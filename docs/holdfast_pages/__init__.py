"""Sphinx extension: the pages that follow from the catalog and from the options of ``fit``, written before each build.

They go to ``docs/methods`` and ``docs/options.md``, which git ignores. Nothing on them is written by hand: a new record in
``holdfast.catalog`` is a new page.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

from holdfast.catalog import METHODS
from holdfast_pages.methods import method_page, overview
from holdfast_pages.options import options_page

__all__ = ["setup", "write_pages"]


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir)))
    app.connect("include-read", lambda app, path, parent, content: content.__setitem__(0, without_file_links(content[0])))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_pages(folder: Path) -> None:
    """Write the generated pages below ``folder`` and remove those of methods that are gone."""
    pages = {f"methods/{name}.md": method_page(record) for name, record in METHODS.items()}
    pages |= {"methods/index.md": overview(METHODS.values()), "options.md": options_page()}
    for old in (folder / "methods").glob("*.md"):
        if f"methods/{old.name}" not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # Sphinx rebuilds what is newer
            path.write_text(text, encoding="utf-8")


def without_file_links(text: str) -> str:
    """A page of the repository's root without its links to files, which are not part of the site."""
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]*\)", r"\1", text)
