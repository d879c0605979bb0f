"""A page as a tree, by the parser of the standard library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}


@dataclass
class Node:
    """An element; ``children`` are elements and texts in order."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """This element and all below it, in the order of the page."""
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def all(self, *tags: str, **attributes: str) -> list[Node]:
        """Elements of these kinds below this one, with these attributes."""
        return [
            node for node in self.walk() if node.tag in tags and all(node.attributes.get(key) == value for key, value in attributes.items())
        ]

    @property
    def text(self) -> str:
        """All text in it, single spaces between words; that of a narrow one in numbers left out."""
        parts = [child if isinstance(child, str) else child.text for child in self.children]
        return " ".join("".join(f"{part} " if self.tag in ("tr", "table") else part for part in parts).replace("\u202f", "").split())

    def section(self, name: str) -> Node:
        """The section with an anchor."""
        (found,) = self.all("section", id=name)
        return found

    def table(self, caption: str) -> list[list[str]]:
        """Rows of the table whose caption begins so, the heading first."""
        (found,) = [table for table in self.all("table") if table.all("caption")[0].text.startswith(caption)]
        return [[cell.text for cell in row.children if isinstance(cell, Node)] for row in found.all("tr")]

    def facts(self, caption: str) -> dict[str, str]:
        """A table of names and values."""
        return dict(tuple(row) for row in self.table(caption))


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Node("page")]

    def handle_starttag(self, tag, attrs):
        node = Node(tag, {key: value or "" for key, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag, attrs):
        self.open[-1].children.append(Node(tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].children.append(data)


def read_page(path: Path) -> Node:
    """Parse a file; an element that is not closed, or closed in the wrong place, fails."""
    builder = _Builder()
    builder.feed(path.read_text(encoding="utf-8"))
    builder.close()
    assert len(builder.open) == 1, f"<{builder.open[-1].tag}> is never closed"
    return builder.open[0]
