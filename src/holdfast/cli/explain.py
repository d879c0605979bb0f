"""``holdfast explain``: everything the catalog knows about a method or a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from rich.padding import Padding
from rich.text import Text

from holdfast.catalog import Method, Option, known_methods, method_record
from holdfast.catalog.baselines import BASELINES, Baseline
from holdfast.cli.arguments import COMMON, parse
from holdfast.cli.help import HelpPage, two_columns
from holdfast.cli.list import PLUGIN
from holdfast.cli.terminal import out, page_width, wrapped_command
from holdfast.config.plugins import load_plugin
from holdfast.errors import ConfigError, suggest

__all__ = ["page", "run"]


def page() -> HelpPage:
    """The page behind ``holdfast explain --help``."""
    return HelpPage(
        usage=("holdfast explain METHOD|BASELINE",),
        about=("Show a method's objective, its options with defaults and where they come from, what it needs and costs, and its sources.",),
        words=(("METHOD", "a name of 'holdfast list methods'"), ("BASELINE", "a name of 'holdfast list baselines'")),
        groups={"Options": (PLUGIN, *COMMON)},
        examples=(
            ("the method to try first", "holdfast explain adarand"),
            ("the linear probe first, then fine-tuning", "holdfast explain lp-ft"),
            ("a method of your own", "holdfast explain class-mean --plugin class_mean.py"),
        ),
    )


def run(argv: Sequence[str]) -> int:
    """Print the record of a method or a baseline."""
    parsed = parse(argv, (PLUGIN, *COMMON))
    parsed.no_more_than(1, "explain")
    for file in parsed.values.get("plugin", ()):
        load_plugin(file)
    if not parsed.words:
        raise ConfigError("explain: the name of a method is missing; 'holdfast list methods' shows them.")
    name = parsed.words[0]
    if name not in known_methods() and name in BASELINES:
        _print_baseline(BASELINES[name])
        return 0
    if name not in known_methods():
        raise ConfigError(f"explain: unknown method {name!r}. {suggest(name, {*known_methods(), *BASELINES})}")
    try:
        record = method_record(name)
    except ConfigError as error:
        raise ConfigError(f"explain: {error}") from error
    _print_record(record)
    return 0


def _print_record(record: Method) -> None:
    out.print(Text.assemble((record.name, "bold cyan"), f"  {record.kind}"))
    _print_text(record.summary)
    _print_section("Objective", record.objective)
    _print_options(record)
    _print_section("Needs", record.needs)
    _print_section("Cost of a step", record.cost)
    _print_section("Good for", record.good_for)
    _print_section("Watch out", record.caveats)
    _print_section("Sources", "\n".join(record.sources))
    _print_section("Package", f"{record.package} {metadata.version(record.package)}" if record.package else "")
    _print_section("Try", wrapped_command(_command(record), page_width(out) - 2))


def _print_baseline(record: Baseline) -> None:
    out.print(Text.assemble((record.name, "bold cyan"), "  baseline"))
    _print_text(record.summary)
    _print_section("Options of fit", record.typed)
    _print_section("Cost", record.cost)
    _print_section("Good for", record.good_for)
    _print_section("Watch out", record.caveats)
    _print_section("Sources", "\n".join(record.sources))
    width = page_width(out) - 2
    _print_section("Try", wrapped_command(f"holdfast fit cars/ --model timm:resnet50 {record.typed} --out runs/cars", width))
    beside = f"holdfast compare cars/ --model timm:resnet50 --methods plain,{record.name} --seeds 5 --out comparisons/cars"
    _print_section("Beside plain fine-tuning", wrapped_command(beside, width))


def _print_section(title: str, text: str) -> None:
    if text:
        out.print(Text(f"\n{title}", "bold"))
        _print_text(text)


def _print_text(text: str) -> None:
    out.print(Padding(Text(text), (0, 0, 0, 2)), width=page_width(out))


def _print_options(record: Method) -> None:
    options = record.all_options.values()
    out.print(Text("\nOptions", "bold"))
    if not options:
        _print_text("none")
        return
    rows = [(Text(f"--method.{option.name}", "cyan"), _describe(option)) for option in options]
    out.print(Padding(two_columns(rows, max(left.cell_len for left, _ in rows)), (0, 0, 0, 2)), width=page_width(out))


def _describe(option: Option) -> Text:
    default = str(option.default).lower() if isinstance(option.default, bool) else str(option.default)
    text = Text(f"{option.help} [" if option.help else "[")
    text.append(f"{option.expected}; default: {default}")
    if option.source:
        text.append(f", {option.source}", "dim")
    return text.append("]")


def _command(record: Method) -> str:
    first = next(iter(record.all_options.values()), None)
    option = f" --method.{first.name} {first.shown}" if first else ""
    return f"holdfast fit cars/ --model timm:resnet50 --method {record.name}{option} --out runs/cars"
