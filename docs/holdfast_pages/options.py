"""The page of the options of ``fit``, from the fields of its configuration."""

from __future__ import annotations

from holdfast.cli.arguments import Argument
from holdfast.cli.fit_options import CONFIG_ARGUMENTS, fit_page
from holdfast.config.values import FIELDS, describe_type
from holdfast_pages.markdown import choices, code, prose, table

__all__ = ["options_page"]

_INTRODUCTION = """# Options of `fit`

Each option of `holdfast fit` is also a key of the YAML file for `--config` and a keyword of `holdfast.fit`, there with underscores:
`--val-fraction 0.2`, `val_fraction: 0.2`, `val_fraction=0.2`. Later ones win: defaults, `--preset`, `--config`, command line. A switch is
taken back with its `--no-` form.

Everything that was chosen, defaults included, ends up in the `config.yaml` of the run, and `holdfast fit --config runs/first/config.yaml
--out runs/again` repeats it.
"""


def options_page() -> str:
    """The page ``options.md``: a table for each group of the help."""
    data = (("`DATA`", "", describe_type("data"), prose(FIELDS["data"].metadata["help"])),)
    parts = [_INTRODUCTION]
    for title, arguments in fit_page().groups.items():
        rows = [*(data if title == "Data" else ()), *(_row(argument) for argument in arguments)]
        parts.append(f"## {title}\n\n{table(('option', 'default', 'allowed', 'what it does'), rows)}\n")
    return "\n".join(parts)


def _row(argument: Argument) -> tuple[str, str, str, str]:
    spelled = f"{argument.flag} {argument.metavar}".strip()
    if argument.negatable and argument.default == "on":
        spelled = f"{argument.flag}`, `{argument.negated}"
    return code(spelled), code(argument.default), _allowed(argument), prose(argument.help)


def _allowed(argument: Argument) -> str:
    if CONFIG_ARGUMENTS.get(argument.key) is not argument:
        return ""
    if argument.choices:
        return choices(argument.choices)
    if argument.key == "method":
        return "names of [methods](methods/index.md), or a list of them with their options"
    limits = FIELDS[argument.key].metadata["range"]
    return prose(f"{describe_type(argument.key)} {limits or ''}".strip())
