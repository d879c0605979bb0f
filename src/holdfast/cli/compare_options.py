"""The options of ``holdfast compare``: its own, and those of ``fit`` that all runs share."""

from __future__ import annotations

from holdfast.cli.arguments import COMMON, Argument
from holdfast.cli.fit_options import CONFIG_ARGUMENTS
from holdfast.cli.help import HelpPage
from holdfast.compare.asked import ALIASES, INSTEAD, KEYS, NOT_HERE

__all__ = ["COMMAND", "COMPARING", "SHARED", "compare_page"]

_METAVARS = {
    "models": "MODEL,...",
    "methods": "METHOD,...",
    "seeds": "N|N,N,...",
    "data_seeds": "N|N,N,...",
    "fractions": "SHARE,...",
    "grid": "NAME.OPTION=V,V,...",
    "tune_seeds": "N",
    "baseline": "NAME",
    "workers": "N",
    "ray": "ADDRESS",
    "storage": "URL",
    "out": "DIR",
}
_DEFAULTS = {"seeds": "5", "data_seeds": "0,", "tune_seeds": "1", "every_pair": "off", "average": "on"}


def _argument(key: str) -> Argument:
    switch = key not in _METAVARS
    return Argument(
        flag="--" + key.replace("_", "-"),
        help=KEYS[key],
        metavar=_METAVARS.get(key, ""),
        default=_DEFAULTS.get(key, ""),
        repeat=key == "grid",
        negatable=switch,
    )


_SINGULAR = Argument("--model", "the same as --models, as in 'holdfast fit'", "MODEL")
COMPARING = (*(_argument(key) for key in KEYS if key != "data"), _SINGULAR)

_ELSEWHERE = {"data", *KEYS, *ALIASES, *INSTEAD, *NOT_HERE}
SHARED = tuple(argument for key, argument in CONFIG_ARGUMENTS.items() if key not in _ELSEWHERE)

COMMAND = (
    Argument("--config", "YAML file with options, such as DIR/comparison.yaml; those typed on the command line win over it", "FILE"),
    Argument("--dry-run", "print how many runs there are, the time and the space they take, from a few real steps, and stop"),
    Argument("--quiet", "no progress, only the tables at the end"),
    *COMMON,
)


def compare_page() -> HelpPage:
    """The page behind ``holdfast compare --help``."""
    return HelpPage(
        usage=("holdfast compare DATA [DATA ...] --model MODEL --methods METHOD,... --out DIR [options]",),
        about=(
            "Train methods side by side: the same data, the same seeds, and for each its own runs, all of them ordinary run directories. "
            "The differences are paired by seed and come with intervals. Killed at any moment, the same command goes on; a changed option "
            "makes only those runs again that it touches.",
        ),
        words=(("DATA", KEYS["data"]),),
        groups={
            "Comparison": COMPARING,
            "This command": COMMAND,
            "For all runs": (
                Argument("--OPTION", "every option of 'holdfast fit', such as --epochs 30; it holds for all methods", "VALUE"),
                Argument("--method.NAME.OPTION", "an option of a method, wherever it is compared: --method.adarand.alpha 0.3", "VALUE"),
            ),
        },
        examples=(
            (
                "data and network come with holdfast; a minute or two",
                "holdfast compare demo:digits --model demo:glyphnet --methods plain,l2-sp,adarand --seeds 5 --shots 10 --epochs 20 "
                "--no-flip --out comparisons/digits",
            ),
            (
                "each method tuned on validation by three trials, two shares of the data; first see what it takes",
                "holdfast compare cars/ --model timm:resnet18 --methods plain,adarand --grid plain.lr=0.003,0.01,0.03 "
                "--grid adarand.weight=0.1,1,10 --fractions 0.15,0.5 --out comparisons/cars --dry-run",
            ),
            (
                "go on with a comparison, or see its tables again",
                "holdfast compare --config comparisons/cars/comparison.yaml --out comparisons/cars",
            ),
        ),
        closing=(
            "In YAML an entry of methods may have options of its own: methods: [plain, {name: decayed, method: plain, layer_decay: 0.7}]. "
            "Exit status: 0 done; 1 some runs failed and are listed, the table is of the others; 2 the input was wrong."
        ),
    )
