"""What an audit can be asked for: each option with its type, range and help, and the two sets of defaults. No torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.errors import ConfigError, suggest

__all__ = ["OPTIONS", "AuditOptions", "Option", "cross_check", "in_python"]

Spell = Callable[[str], str]

PRODUCTS = "products"
"""Ends a budget that is counted in products, as in ``500products``."""


@dataclass(frozen=True)
class Option:
    """One option: how its value is read, what it may be, and what the help says."""

    help: str
    kind: Literal["switch", "word", "whole", "number", "text", "budget"]
    metavar: str = ""
    default: str = ""
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    open_ends: bool = False

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.kind == "budget":
            return f"seconds such as 300, products such as 500{PRODUCTS}, or none"
        words = {"whole": "a whole number", "number": "a number", "text": "a text", "switch": "true or false"}[self.kind]
        if self.high < math.inf:
            return f"{words} between {self.low:g} and {self.high:g}"
        return f"{words} {'above' if self.open_ends else 'of at least'} {self.low:g}" if self.low > -math.inf else words


OPTIONS: dict[str, Option] = {
    "full": Option("take the time it needs: over single examples (256), relative accuracy 0.05, no budget", "switch"),
    "over": Option(
        "which losses the Hessian along the move is taken of: the mean, batches of 4 or single examples, and then the largest value",
        "word",
        "CHOICE",
        "mean, with --full sample",
        ("mean", "batch", "sample"),
    ),
    "mode": Option(
        "a layer's own block of the Hessian, or its full row as in the release of Ju et al.",
        "word",
        "CHOICE",
        "block",
        ("block", "full_row"),
    ),
    "head": Option(
        "what the new head is measured from: its initial value or zero",
        "word",
        "CHOICE",
        "source; zero where the start has no such head",
        ("source", "zero"),
    ),
    "layers": Option(
        "auto (Linear, convolution, attention weights), ju2022, or patterns of names divided by commas", "text", "WHICH", "auto"
    ),
    "samples": Option("training examples that curvature is measured on", "whole", "M", "128, with --full 256", low=1),
    "rtol": Option("relative accuracy of the trace", "number", "NUMBER", "0.2, with --full 0.05", low=0, open_ends=True),
    "budget": Option(
        f"the most that measuring may take: seconds, products with the Hessian such as 500{PRODUCTS}, or none",
        "budget",
        "LIMIT",
        "120, with --full none",
    ),
    "eps": Option("slack of the bound, whose factor is 1 + eps", "number", "NUMBER", "0.1", low=0),
    "loss_bound": Option(
        "the largest possible loss of an example, where you know it", "number", "C", "the largest seen", low=0, open_ends=True
    ),
    "p_min": Option("clip probabilities from below, so that the largest loss is -ln of this", "number", "P", low=0, high=1, open_ends=True),
    "batch_size": Option("examples that go through the network at once; lower it when memory is short", "whole", "N", "what fits", low=1),
    "differences": Option("second derivatives from differences of gradients, for kernels that have none; less accurate", "switch"),
    "seed": Option("seed of examples, probes and noise", "whole", "N", "0", low=0),
    "device": Option("auto, cpu, cuda or cuda:N", "text", "DEVICE", "auto"),
    "threads": Option("threads of CPU arithmetic", "whole", "N", low=1),
}
"""The options by their names in Python."""


@dataclass(frozen=True)
class AuditOptions:
    """The options of an audit, typed; ``budget`` in seconds, ``products`` in products with the Hessian, None for no limit.

    ``head`` None measures the head from its initial value where that is known, and from zero otherwise. ``fixed_samples`` says that
    the number of examples was asked for, so that it must not be lowered to what a budget in seconds allows.
    """

    full: bool = False
    over: Literal["mean", "batch", "sample"] = "mean"
    mode: Literal["block", "full_row"] = "block"
    head: Literal["source", "zero"] | None = None
    layers: str = "auto"
    samples: int = 128
    fixed_samples: bool = False
    rtol: float = 0.2
    budget: float | None = 120.0
    products: int | None = None
    eps: float = 0.1
    loss_bound: float | None = None
    p_min: float | None = None
    batch_size: int | None = None
    differences: bool = False
    seed: int = 0
    device: str = "auto"
    threads: int | None = None

    @classmethod
    def resolve(cls, given: Mapping[str, Any], spell: Spell) -> AuditOptions:
        """From what was typed, as text or as Python values, over the defaults of a quick or a full audit.

        Args:
            given: By the names of :data:`OPTIONS`.
            spell: How the user calls an option, for messages.

        Raises:
            ConfigError: An option is unknown, or its value is wrong.
        """
        for name in given:
            if name not in OPTIONS:
                raise ConfigError(f"{spell(name)}: unknown option. {suggest(name, OPTIONS)}")
        values: dict[str, Any] = {
            name: _typed(name, value, spell) for name, value in given.items() if value is not None or name == "budget"
        }
        full: dict[str, Any] = {"over": "sample", "samples": 256, "rtol": 0.05, "budget": (None, None)} if values.get("full") else {}
        values = full | values
        if "budget" in values:
            values["budget"], values["products"] = values["budget"]
        options = cls(**values, fixed_samples="samples" in given or bool(values.get("full")))
        cross_check(options, spell)
        return options

    def settings(self) -> dict[str, Any]:
        """What ``audit.json`` says of them."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "fixed_samples"}


def in_python(name: str) -> str:
    """How an option is typed in Python."""
    return f"audit({name}=...)"


def cross_check(options: AuditOptions, spell: Spell) -> None:
    """Refuse options that exclude each other.

    Raises:
        ConfigError: One sentence on the misfit.
    """
    if options.loss_bound is not None and options.p_min is not None:
        raise ConfigError(
            f"{spell('p_min')} {options.p_min:g}: {spell('loss_bound')} says the largest loss already; leave one of them out."
        )


def _typed(name: str, value: Any, spell: Spell) -> Any:
    option = OPTIONS[name]
    try:
        typed = _READERS[option.kind](value)
    except (TypeError, ValueError):
        typed = None
    if typed is None or not _in_range(option, typed):
        raise ConfigError(f"{spell(name)}: expected {option.expected}, got {value!r}.")
    return typed


def _in_range(option: Option, value: Any) -> bool:
    if option.choices:
        return value in option.choices
    if not isinstance(value, int | float) or isinstance(value, bool):
        return True
    if not math.isfinite(value):
        return False
    return option.low < value < option.high if option.open_ends else option.low <= value <= option.high


def _switch(value: Any) -> bool | None:
    words = {"true": True, "yes": True, "false": False, "no": False}
    return value if isinstance(value, bool) else words.get(str(value).lower())


def _whole(value: Any) -> int | None:
    number = int(value)
    return None if isinstance(value, bool | float) and (isinstance(value, bool) or number != value) else number


def _number(value: Any) -> float | None:
    return None if isinstance(value, bool) else float(value)


def _budget(value: Any) -> tuple[float | None, int | None] | None:
    """Seconds and products; None where it is neither."""
    if value is None or str(value).lower() == "none":
        return None, None
    text = str(value)
    if text.endswith(PRODUCTS):
        products = int(text.removesuffix(PRODUCTS))
        return (None, products) if products > 0 else None
    seconds = None if isinstance(value, bool) else float(text)
    return (seconds, None) if seconds is not None and 0 < seconds < math.inf else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


_READERS: dict[str, Callable[[Any], Any]] = {
    "switch": _switch,
    "word": str,
    "whole": _whole,
    "number": _number,
    "text": _text,
    "budget": _budget,
}
