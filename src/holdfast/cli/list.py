"""``holdfast list``: methods, losses, baselines, models and datasets as tables, from the catalog."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from holdfast.catalog import DATASETS, METHODS, MODELS, Family, Method
from holdfast.catalog.baselines import BASELINES
from holdfast.cli.arguments import COMMON, Argument, parse
from holdfast.cli.help import HelpPage
from holdfast.cli.terminal import out, page_width
from holdfast.config.plugins import load_plugin
from holdfast.entry_points import Published, published
from holdfast.errors import ConfigError, suggest

__all__ = ["page", "run"]

KINDS = ("methods", "losses", "baselines", "models", "datasets")
LIBRARIES = ("timm", "torchvision")

FAMILY_NOTES = {
    "model": "'holdfast list models timm' and 'holdfast list models torchvision' list their networks.",
    "data": (
        "Nothing is downloaded: torchvision:NAME is read from ./data, torchvision:NAME@FOLDER from FOLDER, both laid out as torchvision "
        "does. Paths in a table are relative to its folder; split is train, val or test."
    ),
}

PLUGIN = Argument("--plugin", "Python file that registers methods of your own; may be repeated", "FILE", repeat=True)


def page() -> HelpPage:
    """The page behind ``holdfast list --help``."""
    return HelpPage(
        usage=("holdfast list [methods|losses|baselines|models|datasets]", "holdfast list models timm|torchvision [PATTERN]"),
        about=("Show what there is; without a word, everything.",),
        words=(
            ("methods", "everything that --method takes, those of installed packages by name alone"),
            ("losses", "those of them that replace the cross-entropy; an objective has one"),
            ("baselines", "plain fine-tuning with options that make it strong; names for 'holdfast compare --methods'"),
            ("models", "kinds of --model; with the name of a library, its networks that have pretrained weights"),
            ("datasets", "kinds of DATA"),
            ("PATTERN", "part of a name, or a pattern with *"),
        ),
        groups={"Options": (PLUGIN, *COMMON)},
        examples=(
            ("the methods, one line each", "holdfast list methods"),
            ("names of timm's small vision transformers", "holdfast list models timm 'vit_*small*'"),
        ),
    )


def run(argv: Sequence[str]) -> int:
    """Print tables."""
    parsed = parse(argv, (PLUGIN, *COMMON))
    for file in parsed.values.get("plugin", ()):
        load_plugin(file)
    kind, *rest = parsed.words or ["everything"]
    if kind not in (*KINDS, "everything"):
        raise ConfigError(f"list: unknown word {kind!r}. {suggest(kind, KINDS)}")
    parsed.no_more_than(3 if kind == "models" else 1, "list")
    if rest:
        _print_library(rest[0], rest[1] if len(rest) > 1 else "*")
    elif kind == "everything":
        for each in ("methods", "baselines", "models", "datasets"):
            _print_kind(each)
    else:
        _print_kind(kind)
    return 0


def _print_kind(kind: str) -> None:
    if kind == "methods":
        _print_methods(METHODS.values(), _plugin_rows())
    elif kind == "losses":
        _print_methods(record for record in METHODS.values() if record.kind == "task loss")
        if rows := _plugin_rows():
            names = ", ".join(name for name, _, _ in rows)
            out.print(Text(f"Whether these plug-ins are losses shows when they are imported: {names}.\n", "dim"), width=page_width(out))
    elif kind == "baselines":
        _print_baselines()
    else:
        families = MODELS if kind == "models" else DATASETS
        _print_families("model" if kind == "models" else "data", families.values())


def _print_methods(records: Iterable[Method], plugins: Iterable[tuple[str, str, str]] = ()) -> None:
    rows = [*((record.name, record.kind, record.summary) for record in records), *plugins]
    _print_table(("method", "kind", "what it does"), rows)
    out.print(
        Text("'holdfast explain METHOD' shows objective, options and sources; --method a+b joins regularizers.\n", "dim"),
        width=page_width(out),
    )


def _print_baselines() -> None:
    _print_table(("baseline", "what it does"), [(each.name, f"{each.summary} ({each.typed})") for each in BASELINES.values()])
    note = (
        "'holdfast explain BASELINE' says when and why; the options join every --method, and 'holdfast compare --methods' takes the names."
    )
    out.print(Text(f"{note}\n", "dim"), width=page_width(out))


def _plugin_rows() -> list[tuple[str, str, str]]:
    """Methods that installed packages publish; nothing of theirs is imported to be listed."""
    return [
        (name, "plug-in", _brought_by(name, packages))
        for name, packages in sorted(published().items())
        if name not in METHODS or METHODS[name].package not in [each.package for each in packages]
    ]


def _brought_by(name: str, packages: Sequence[Published]) -> str:
    brought = f"of the package {' and of '.join(map(str, packages))}"
    if name in METHODS:
        return f"{brought}; cannot be chosen: the method above has this name"
    return brought if len(packages) == 1 else f"{brought}; cannot be chosen while all of these are installed"


def _print_families(title: str, families: Iterable[Family]) -> None:
    rows: list[tuple[str, str]] = []
    for family in families:
        members = [(f"{family.prefix}:{name}", text) for name, text in family.members.items()]
        rows.extend(members or [(family.example, family.summary)])
    _print_table((title, "what it is"), rows)
    out.print(Text(f"{FAMILY_NOTES[title]}\n", "dim"), width=page_width(out))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, no_wrap=position < len(columns) - 1, style="cyan" if position == 0 else "")
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table, width=page_width(out))


def _print_library(library: str, pattern: str) -> None:
    if library not in LIBRARIES:
        raise ConfigError(f"list models: unknown library {library!r}. {suggest(library, LIBRARIES)}")
    if library == "timm":
        import timm

        names = timm.list_models(pretrained=True)
    else:
        import torchvision

        names = torchvision.models.list_models(module=torchvision.models)
    wanted = pattern if "*" in pattern else f"*{pattern}*"
    found = fnmatch.filter(names, wanted)
    if not found:
        raise ConfigError(f"list models {library}: no name fits {pattern!r}; try a part of it, such as 'resnet'.")
    for name in found:
        out.print(Text(f"{library}:{name}"), soft_wrap=True)
