"""The command ``holdfast``: which verb, and what becomes of its errors."""

from __future__ import annotations

import importlib
import platform
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Protocol, cast

from rich.text import Text

import holdfast
from holdfast.cli.help import HelpPage, print_help
from holdfast.cli.messages import messages, tell
from holdfast.cli.terminal import out
from holdfast.errors import ConfigError, HoldfastError, Interrupted, suggest

__all__ = ["main"]

VERBS = {
    "fit": "fine-tune a pretrained network on your images",
    "audit": "how far a fine-tuned network moved, how sharp it is, what a bound says of it",
    "compare": "methods side by side, over seeds, with paired intervals and costs",
    "report": "runs and audits as one HTML page, alone or side by side",
    "predict": "classes of images, with confidences, by a finished run",
    "labels": "wrong labels: make, measure and find them, and merge votes into labels",
    "list": "what there is: methods, losses, models, datasets",
    "explain": "one method: objective, options, needs, cost, sources",
}
PLANNED = ("export", "pretrain")


class Verb(Protocol):
    """What the module of a verb offers."""

    page: Callable[[], HelpPage]
    run: Callable[[Sequence[str]], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Its arguments, without the name of the program; those of the process by default.

    Returns:
        The exit status: 0 done; 2 the input was wrong; 1 anything else.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    with messages(debug=debug):
        try:
            return _dispatch([argument for argument in arguments if argument != "--debug"])
        except KeyboardInterrupt:
            tell("interrupted")
            return 1
        except Exception as error:
            if debug:
                traceback.print_exception(error)
            tell(_sentence(error))
            return int(getattr(error, "exit_status", 1))


def _sentence(error: Exception) -> str:
    if isinstance(error, Interrupted):
        return str(error)
    if isinstance(error, HoldfastError):
        return f"error: {' '.join(str(error).splitlines())}"  # code of the user's may have raised it, over many lines
    first = (str(error).splitlines() or [""])[0].rstrip(".")
    return f"error: {type(error).__name__}{': ' if first else ''}{first}. Add --debug to see where it happened."


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h"):
        print_help(_page(), out)
        return 0
    if arguments[0] == "--version":
        out.print(Text(f"holdfast {holdfast.__version__} (Python {platform.python_version()}, torch {metadata.version('torch')})"))
        return 0
    name, rest = arguments[0], arguments[1:]
    if name.startswith("-"):
        raise ConfigError(f"{name}: unknown option. Begin with a command, such as 'holdfast fit'; 'holdfast --help' lists them.")
    if name in PLANNED:
        raise ConfigError(f"{name!r} is not in this version yet; there are {', '.join(VERBS)}.")
    if name not in VERBS:
        raise ConfigError(f"unknown command {name!r}. {suggest(name, VERBS)}")
    verb = cast(Verb, importlib.import_module(f"holdfast.cli.{name}"))
    if rest and rest[0] in getattr(verb, "BELOW", ()):
        verb, rest = cast(Verb, importlib.import_module(f"holdfast.cli.{name}_{rest[0]}")), rest[1:]
    if "--help" in rest or "-h" in rest:
        print_help(verb.page(), out)
        return 0
    return verb.run(rest)


def _page() -> HelpPage:
    return HelpPage(
        usage=("holdfast COMMAND ...",),
        about=("Fine-tune a pretrained network on a small or noisily labelled dataset without letting go of what it already knows.",),
        words=tuple(VERBS.items()),
        words_title="Commands",
        examples=(
            ("what every option of a command does", "holdfast fit --help"),
            (
                "a first run on data and a network that come with holdfast",
                "holdfast fit demo:digits --model demo:glyphnet --method adarand --no-flip --out runs/first",
            ),
        ),
        closing=(
            "Exit status: 0 done; 2 the input was wrong; 1 anything else. Add --debug to see the traceback of an error. "
            "'holdfast --version' tells versions."
        ),
    )
