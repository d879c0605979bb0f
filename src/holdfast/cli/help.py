"""Help pages: grouped options in two columns, as wide as the terminal, with examples at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from holdfast.cli.arguments import Argument
from holdfast.cli.terminal import page_width, wrapped_command

__all__ = ["HelpPage", "print_help", "two_columns"]


@dataclass(frozen=True)
class HelpPage:
    """What ``holdfast VERB --help`` shows.

    Args:
        usage: Forms of the command.
        about: Paragraphs on what it does.
        words: The arguments without a dash, with their help.
        words_title: Heading of those.
        groups: Options by title.
        examples: What an example does, and its command.
        closing: A last paragraph.
    """

    usage: Sequence[str]
    about: Sequence[str]
    words: Sequence[tuple[str, str]] = ()
    words_title: str = "Arguments"
    groups: Mapping[str, Sequence[Argument]] = field(default_factory=dict)
    examples: Sequence[tuple[str, str]] = ()
    closing: str = ""


def print_help(page: HelpPage, console: Console) -> None:
    """Print a page."""
    width = page_width(console)
    for number, form in enumerate(page.usage):
        console.print(Text.assemble(("Usage: " if number == 0 else "       ", "bold"), form), width=width)
    for paragraph in page.about:
        console.print()
        console.print(Text(paragraph), width=width)
    sections = _sections(page)
    left_width = max((left.cell_len for rows in sections.values() for left, _ in rows), default=0)
    for title, rows in sections.items():
        console.print(Text(f"\n{title}", "bold"))
        console.print(Padding(two_columns(rows, left_width), (0, 0, 0, 2)), width=width)
    if page.examples:
        console.print(Text("\nExamples", "bold"))
    for does, command in page.examples:
        console.print(Padding(Text(f"# {does}", "dim"), (0, 0, 0, 2)), width=width)
        console.print(Padding(Text(wrapped_command(command, width - 2)), (0, 0, 0, 2)), width=width)
    if page.closing:
        console.print()
        console.print(Text(page.closing), width=width)


def two_columns(rows: Sequence[tuple[Text, Text]], left_width: int) -> Table:
    """Names beside wrapped text."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=left_width, no_wrap=True)
    table.add_column(ratio=1)
    for left, right in rows:
        table.add_row(left, right)
    return table


def _sections(page: HelpPage) -> dict[str, list[tuple[Text, Text]]]:
    words = [(Text(name, "cyan"), Text(text)) for name, text in page.words]
    options = {title: [(_left(argument), _right(argument)) for argument in arguments] for title, arguments in page.groups.items()}
    return {**({page.words_title: words} if words else {}), **options}


def _left(argument: Argument) -> Text:
    text = Text(argument.flag, "cyan")
    if argument.negatable and argument.default == "on":
        text.append(f", {argument.negated}")
    elif argument.metavar:
        text.append(f" {argument.metavar}", "not bold")
    return text


def _right(argument: Argument) -> Text:
    text = Text(argument.help)
    notes = [", ".join(argument.choices)] if argument.choices else []
    notes += [f"default: {argument.default}"] if argument.default else []
    return text.append(f" [{'; '.join(notes)}]", "dim") if notes else text
