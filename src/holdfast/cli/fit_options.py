"""The options of ``holdfast fit``: one for each field of ``FitConfig``, and those of the command itself."""

from __future__ import annotations

import dataclasses
from typing import Any, get_origin

from holdfast.cli.arguments import COMMON, Argument
from holdfast.cli.help import HelpPage
from holdfast.config.values import FIELDS, choices_of, plain_type

__all__ = ["COMMAND", "CONFIG_ARGUMENTS", "fit_page"]

COMMAND = (
    Argument("--config", "YAML file with options; those typed on the command line win over it", "FILE"),
    Argument("--resume", "go on with a run where it stopped; only options of the group Machine can be given beside it", "RUN"),
    Argument("--dry-run", "print what the run would do, its time, memory and space, from a few real steps, and stop; nothing is written"),
    Argument("--quiet", "no progress, only the summary at the end"),
    *COMMON,
)

_METAVARS = {
    "train_list": "FILE",
    "test_split": "NAME",
    "model": "MODEL",
    "weights": "FILE",
    "head": "NAME",
    "freeze": "PATTERN,...",
    "method": "METHOD",
    "transition": "MATRIX",
    "plugin": "FILE",
    "device": "DEVICE",
    "out": "RUN",
}
_TITLES = {
    "data": "Data",
    "model": "Network",
    "method": "Method",
    "labels": "Wrong labels",
    "training": "Training",
    "machine": "Machine",
    "output": "Output",
}


def _argument(key: str) -> Argument:
    field = FIELDS[key]
    hint = plain_type(key)
    switch = hint is bool
    default = "" if field.default in (None, "", dataclasses.MISSING) else field.default
    return Argument(
        flag="--" + key.replace("_", "-"),
        help=field.metadata["help"],
        metavar="" if switch else _metavar(key, hint),
        default=("on" if default else "off") if switch else _words(default),
        choices=choices_of(key),
        repeat=key == "plugin",
        negatable=switch,
    )


def _metavar(key: str, hint: Any) -> str:
    if key in _METAVARS:
        return _METAVARS[key]
    if choices_of(key):
        return "CHOICE,..." if get_origin(hint) is list else "CHOICE"
    return "N,N,..." if get_origin(hint) is list else "N" if hint is int else "NUMBER" if hint is float else "TEXT"


def _words(default: Any) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


CONFIG_ARGUMENTS: dict[str, Argument] = {key: _argument(key) for key in FIELDS}

_METHOD_OPTIONS = (
    Argument("--method.OPTION", "an option of the method, such as --method.alpha 0.3; see 'holdfast explain METHOD'", "VALUE"),
    Argument("--method.NAME.OPTION", "the same where several methods are joined: --method.adarand.alpha 0.3", "VALUE"),
)


def fit_page() -> HelpPage:
    """The page behind ``holdfast fit --help``."""
    groups: dict[str, list[Argument]] = {title: [] for title in _TITLES.values()}
    for key, argument in CONFIG_ARGUMENTS.items():
        if key != "data":
            groups[_TITLES[FIELDS[key].metadata["group"]]].append(argument)
    at = groups["Method"].index(CONFIG_ARGUMENTS["method"]) + 1
    groups["Method"][at:at] = _METHOD_OPTIONS
    return HelpPage(
        usage=("holdfast fit DATA --model MODEL --method METHOD --out RUN [options]", "holdfast fit --resume RUN"),
        about=(
            "Fine-tune a pretrained network on your images. RUN becomes a folder with the weights, the settings that repeat the run, the "
            "history of training, the predictions, and the result with its intervals.",
        ),
        words=(("DATA", FIELDS["data"].metadata["help"]),),
        groups={**groups, "This command": COMMAND},
        examples=(
            (
                "own photos in cars/CLASS/*.jpg, the method to try first",
                "holdfast fit cars/ --model timm:resnet50 --method adarand --out runs/cars",
            ),
            (
                "digits and network come with holdfast; two methods joined, half a minute",
                "holdfast fit demo:digits --model demo:glyphnet --method adarand+l2-sp --method.adarand.weight 0.1 --no-flip --shots 10 "
                "--out runs/digits",
            ),
            (
                "a table whose labels are partly wrong, nobody knows which",
                "holdfast fit noisy.csv --model timm:resnet18 --labels robust --out runs/robust",
            ),
        ),
        closing=(
            "Every option is also a key of the YAML file, with underscores (val_fraction: 0.2), and a keyword of holdfast.fit in Python. "
            "Later ones win: defaults, --preset, --config, command line. A switch can be taken back with its --no- form."
        ),
    )
