"""What there is, without importing it: one hand-written record for each method, model family and dataset family.

Help, ``list``, ``explain``, option checking and the documentation read only this module, which never imports torch; classes are
imported once the options are known. A test holds each record against the signature of its class.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from holdfast.errors import ConfigError, suggest

__all__ = ["DATASETS", "METHODS", "MODELS", "Family", "Method", "Option", "method_record", "parse_methods", "register"]

Kind = Literal["task loss", "regularizer"]
Value = float | int | bool | str
Cls = TypeVar("Cls", bound=type)


@dataclass(frozen=True)
class Option:
    """One option of a method.

    Args:
        name: Name in Python and YAML; the command line takes the same after ``--method.``.
        type: ``float``, ``int``, ``bool`` or ``str``.
        default: Value when not given.
        help: What it does, with the symbol of the paper.
        choices: The allowed strings, where there are few.
        low: Smallest allowed number.
        high: Largest allowed number.
        source: Where the default comes from.
    """

    name: str
    type: type
    default: Value
    help: str
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    source: str = ""

    def parse(self, value: object) -> Value:
        """The value as this option's type, from text or from YAML.

        Raises:
            ConfigError: The value does not fit; the message begins with what was expected.
        """
        parsed = self._convert(value)
        if parsed is None:
            raise ConfigError(f"expected {self.expected}, got {value!r}")
        return parsed

    @property
    def expected(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        words = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}[self.type]
        if math.isfinite(self.low) and math.isfinite(self.high):
            return f"{words} from {self.low:g} to {self.high:g}"
        return f"{words} of at least {self.low:g}" if math.isfinite(self.low) else words

    def _convert(self, value: object) -> Value | None:
        if self.type is bool:
            words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
            return value if isinstance(value, bool) else words.get(str(value).lower())
        if self.type is str:
            return value if isinstance(value, str) and (not self.choices or value in self.choices) else None
        if isinstance(value, bool):
            return None
        try:
            number = float(value)  # type: ignore[arg-type]  # anything else is refused below
        except (TypeError, ValueError):
            return None
        if not math.isfinite(number) or not self.low <= number <= self.high:
            return None
        if self.type is int:
            return int(number) if number.is_integer() else None
        return number


@dataclass(frozen=True)
class Method:
    """The record of one method.

    Args:
        name: What the user types.
        kind: Its place in an objective.
        target: ``module:Class``.
        summary: One line.
        objective: The objective in plain notation.
        options: Arguments of the class.
        weights: Multipliers of the returned scalars, owned by the objective: ``weight`` for the first or only one,
            ``k_weight`` for each further key ``k``.
        needs: What it asks for beyond a labelled batch, in words.
        cost: Time of a step relative to plain fine-tuning, in words.
        good_for: When to reach for it.
        caveats: Where it lost or what to watch.
        sources: Papers, and the releases that settled doubts.
        term: Name in logs, where that is not ``name``.
    """

    name: str
    kind: Kind
    target: str
    summary: str
    objective: str = ""
    options: tuple[Option, ...] = ()
    weights: tuple[Option, ...] = ()
    needs: str = "nothing"
    cost: str = ""
    good_for: str = ""
    caveats: str = ""
    sources: tuple[str, ...] = ()
    term: str = ""

    @property
    def all_options(self) -> dict[str, Option]:
        """Weights and arguments by name, in the order they are documented."""
        return {option.name: option for option in (*self.weights, *self.options)}

    @property
    def term_name(self) -> str:
        """The name this method's values are logged under."""
        return self.term or self.name

    def load(self) -> type:
        """The class behind the record."""
        module, _, name = self.target.partition(":")
        loaded = getattr(importlib.import_module(module), name)
        if not isinstance(loaded, type):
            raise TypeError(f"{self.target} is not a class")
        return loaded


@dataclass(frozen=True)
class Family:
    """A kind of model or dataset that is named by a prefix."""

    prefix: str
    summary: str
    example: str
    members: Mapping[str, str] = field(default_factory=dict)


def _weight(default: float, text: str, source: str, name: str = "weight") -> Option:
    return Option(name, float, default, text, low=0.0, source=source)


_ADARAND = "Yamaguchi et al., Adaptive Random Feature Regularization, CVPR 2024, arXiv 2403.10097"
_RELEASE = "the authors' release, commit 25cc27d"
_WIDTH_CAVEAT = (
    "The penalty is a mean over the D feature dimensions, so the paper's weight 1 at D = 2048 corresponds to D / 2048 at another "
    "width: 0.125 at D = 256. On a narrow network try both, and choose by validation."
)
_LAMBDA = "weight of the penalty (λ); scale with the feature width, see below"

METHODS: dict[str, Method] = {}


def _add(record: Method) -> None:
    METHODS[record.name] = record


_add(
    Method(
        name="plain",
        kind="task loss",
        target="holdfast.losses.cross_entropy:CrossEntropy",
        summary="cross-entropy alone: all weights trained, head re-initialised",
        objective="L = -(1/B) Σ_i log p_i[y_i]",
        cost="1.00, the step all others are measured against",
        good_for="the baseline every other method has to beat",
        caveats="forgets most on small data",
        sources=(_ADARAND + ", baseline",),
        term="cross-entropy",
    )
)
_add(
    Method(
        name="fnp",
        kind="regularizer",
        target="holdfast.regularizers.fnp:FeatureNormPenalty",
        summary="feature norm penalty: pulls features towards zero",
        objective="L = L_CE + weight · (1/(B·D)) Σ_i ‖z_i‖²",
        weights=(_weight(1.0, _LAMBDA, "paper"),),
        cost="1.00",
        good_for="the simplest feature penalty; a check whether any is worth it",
        caveats=_WIDTH_CAVEAT,
        sources=(_ADARAND + ", FNP",),
    )
)
_add(
    Method(
        name="randreg",
        kind="regularizer",
        target="holdfast.regularizers.randreg:RandReg",
        summary="pulls features towards random vectors, drawn afresh for every example and step",
        objective="L = L_CE + weight · (1/(B·D)) Σ_i ‖z_i - r_i‖²,  r_i from the prior",
        weights=(_weight(1.0, _LAMBDA, _RELEASE),),
        options=(
            Option(
                "prior",
                str,
                "pretrained",
                "uniform: U[0, 1); normal: N(0, 1); pretrained: N(mean, std) of the pretrained features, per dimension",
                choices=("uniform", "normal", "pretrained"),
                source="paper, the best of the three in its Table 3 on most datasets",
            ),
        ),
        needs="prior=pretrained: one pass of the pretrained network over the training split, before training",
        cost="1.00",
        good_for="self-supervised or other networks without useful classes",
        caveats=_WIDTH_CAVEAT,
        sources=(_ADARAND + ", RandReg", _RELEASE),
    )
)
_add(
    Method(
        name="randreg-cp",
        kind="regularizer",
        target="holdfast.regularizers.randreg_cp:ConditionalRandReg",
        summary="pulls features towards random vectors around the pretrained mean of their class",
        objective="L = L_CE + weight · (1/(B·D)) Σ_i ‖z_i - r_i‖²,  r_i ~ N(μ_{y_i}, σ_{y_i}²), fixed",
        weights=(_weight(1.0, _LAMBDA, _RELEASE),),
        needs="one pass of the pretrained network over the training split, before training; hard labels",
        cost="1.00",
        good_for="small data, pretrained features that already separate the classes",
        caveats=_WIDTH_CAVEAT + " The class means never move, which holds back long trainings.",
        sources=(_ADARAND + ", RandReg with the class-conditional prior", _RELEASE),
    )
)
_add(
    Method(
        name="adarand",
        kind="regularizer",
        target="holdfast.regularizers.adarand:AdaRand",
        summary="pulls features towards random class-conditional vectors whose means adapt to the features and spread apart",
        objective=(
            "L = L_CE + weight · (1/(B·D)) Σ_i ‖z_i - r_i‖²,  r_i ~ N(μ_{y_i}, σ_{y_i}²);\n"
            "after each step, Adam on μ for L_intra + L_inter with\n"
            "L_intra = mean_k (cos(μ_k, running mean_k) - 1)²,  L_inter = mean_{k≠l} cos(μ_k, μ_l)²"
        ),
        weights=(_weight(1.0, _LAMBDA, _RELEASE),),
        options=(
            Option("alpha", float, 0.5, "momentum of the running class means (α)", low=0.0, high=1.0, source="paper"),
            Option("intra", bool, True, "whether L_intra is used", source="paper; its ablation switches it off"),
            Option("inter", bool, True, "whether L_inter is used", source="paper; its ablation switches it off"),
            Option("prior_lr", float, 0.01, "learning rate of the Adam that moves μ", low=0.0, source=_RELEASE),
            Option(
                "prior_schedule",
                str,
                "cosine",
                "cosine: falls as cos(7π/16 · t/T) over the run; constant",
                choices=("cosine", "constant"),
                source=_RELEASE,
            ),
            Option("prior_beta1", float, 0.9, "Adam's decay of the first moment of μ's gradient", low=0.0, high=1.0, source=_RELEASE),
            Option("prior_beta2", float, 0.999, "Adam's decay of the second moment", low=0.0, high=1.0, source=_RELEASE),
            Option("prior_eps", float, 1e-8, "Adam's addition to the denominator", low=0.0, source=_RELEASE),
            Option(
                "distance",
                str,
                "squared-cosine",
                "squared-cosine: as released; cosine: L_intra = mean(1 - c), L_inter = mean(c), as the paper words it",
                choices=("squared-cosine", "cosine"),
                source=_RELEASE,
            ),
        ),
        needs="one pass of the pretrained network over the training split, before training; hard labels",
        cost="1.00, plus work on a K x D matrix; memory of 5 such matrices",
        good_for="the default choice on small datasets; strongest in the paper's comparison",
        caveats=_WIDTH_CAVEAT + " Underfitted (short) trainings on plenty of data can lose against plain fine-tuning.",
        sources=(_ADARAND, _RELEASE),
    )
)
_add(
    Method(
        name="l2-sp",
        kind="regularizer",
        target="holdfast.regularizers.l2_sp:L2SP",
        summary="pulls weights towards their pretrained values, and the new head towards zero",
        objective="L = L_CE + weight · ½ Σ ‖p - p⁰‖² (backbone) + head_weight · ½ Σ ‖p‖² (head)",
        weights=(
            _weight(0.01, "weight of the backbone's distance from its start (α)", "Li et al."),
            _weight(0.01, "weight of the head's squared norm (β)", "Li et al.", name="head_weight"),
        ),
        needs="the pretrained weights, in memory during training",
        cost="one read of both weight sets",
        good_for="networks whose features have no clear class structure; combines with feature penalties",
        caveats="use with weight decay 0: the two would pull in different directions",
        sources=("Li et al., Explicit Inductive Bias for Transfer Learning, ICML 2018",),
    )
)

MODELS: dict[str, Family] = {
    family.prefix: family
    for family in (
        Family("timm", "a network of the timm library", "timm:resnet50"),
        Family("torchvision", "a network of torchvision", "torchvision:mobilenet_v3_small"),
        Family(
            "demo",
            "small networks that holdfast knows by name",
            "demo:glyphnet",
            {
                "glyphnet": "residual network for 32 px, 64 features, pretrained by this project on rendered letters; weights included",
                "mobilenetv1-025": "MobileNetV1 with a quarter of the channels, 256 features; bring weights with --weights",
            },
        ),
        Family("python", "a function of your own that returns a network", "python:my_models:build"),
    )
}

DATASETS: dict[str, Family] = {
    family.prefix: family
    for family in (
        Family("", "a folder: CLASS/images or train|val|test/CLASS/images", "cars/"),
        Family(
            "demo",
            "small real datasets that come with holdfast's dependencies",
            "demo:digits",
            {"digits": "1797 handwritten digits of 64 writers, 8 x 8 px (scikit-learn)"},
        ),
    )
}


def method_record(name: str) -> Method:
    """The record of a method.

    Raises:
        ConfigError: No method has this name; the message suggests the nearest.

    Example:
        >>> method_record("adarand").weights[0].default
        1.0
    """
    if name not in METHODS:
        raise ConfigError(f"unknown method {name!r}. {suggest(name, METHODS)}")
    return METHODS[name]


def parse_methods(spec: object, *, label: str = "method", task_loss: bool = True) -> list[dict[str, Any]]:
    """The canonical method list of an objective: every entry a dict with its name and every option, defaults filled in.

    Args:
        spec: A name, names joined by ``+``, or a list of names and ``{"name": …, option: …}``.
        label: How the user calls the place it stands in, for errors.
        task_loss: Whether ``plain`` is put first when no task loss is named.

    Raises:
        ConfigError: A name or option is unknown, a value does not fit, a method is named twice, or there are two task losses.

    Example:
        >>> [entry["name"] for entry in parse_methods("adarand+l2-sp")]
        ['plain', 'adarand', 'l2-sp']
        >>> parse_methods([{"name": "l2-sp", "weight": 0.1}])[1]
        {'name': 'l2-sp', 'weight': 0.1, 'head_weight': 0.01}
    """
    if isinstance(spec, str):
        if not all(name.strip() for name in spec.split("+")):
            raise ConfigError(f"{label}: a method name is missing in {spec!r}; join names as in adarand+l2-sp")
        entries = [_parse_entry({"name": name.strip()}, label, label) for name in spec.split("+")]
    elif isinstance(spec, list | tuple):
        entries = [_parse_entry(entry, f"{label}[{number}]", f"{label}[{number}].name") for number, entry in enumerate(spec)]
    else:
        raise ConfigError(f"{label}: expected a method name or a list of methods, got {spec!r}")
    names = [str(entry["name"]) for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{label}: method {twice!r} is named twice; give it once, with its options")
    losses = [name for name in names if METHODS[name].kind == "task loss"]
    if len(losses) > 1:
        raise ConfigError(f"{label}: {losses[0]!r} and {losses[1]!r} are both task losses; an objective has exactly one")
    if task_loss and not losses:
        entries.insert(0, _parse_entry({"name": "plain"}, label, label))
    return entries


def _parse_entry(entry: object, label: str, name_label: str) -> dict[str, Any]:
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise ConfigError(f"{label}: expected a name or {{name: …, option: …}}, got {entry!r}")
    if entry["name"] not in METHODS:
        raise ConfigError(f"{name_label}: unknown method {entry['name']!r}. {suggest(entry['name'], METHODS)}")
    options = METHODS[entry["name"]].all_options
    for key in entry:
        if key != "name" and key not in options:
            known = suggest(str(key), options) if options else "It has no options."
            raise ConfigError(f"{label}.{key}: method {entry['name']!r} has no option {key!r}. {known}")
    values = {"name": entry["name"]}
    for key, option in options.items():
        try:
            values[key] = option.parse(entry[key]) if key in entry else option.default
        except ConfigError as error:
            raise ConfigError(f"{label}.{key}: {error}") from None
    return values


def register(name: str, *, summary: str = "", weight: float = 1.0, **key_weights: float) -> Callable[[Cls], Cls]:
    """Class decorator that adds a method of your own to the catalog.

    Options are read off the annotated keyword arguments of ``__init__``.

    Args:
        name: What the user types; lower-case with hyphens.
        summary: One line for ``holdfast list``.
        weight: Default multiplier of the only or first returned scalar.
        key_weights: ``k_weight=…`` for each further returned key ``k``.

    Raises:
        ConfigError: The name is taken, or an argument of ``__init__`` has no type or default.
    """
    if not name or any(c not in "abcdefghijklmnopqrstuvwxyz0123456789-" for c in name):
        raise ConfigError(f"register: {name!r} is no method name: use lower-case letters, digits and hyphens")
    for key in key_weights:
        if not key.endswith("_weight"):
            near = difflib.get_close_matches(key, ["weight", "summary"], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"register({name!r}): unknown argument {key!r}; weights of further terms end in '_weight'.{hint}")

    def decorate(cls: Cls) -> Cls:
        target = f"{cls.__module__}:{cls.__qualname__}"
        if name in METHODS and METHODS[name].target != target:
            raise ConfigError(f"register: the method {name!r} exists already ({METHODS[name].target}); choose another name")
        further = [
            _weight(value, f"weight of the term {key.removesuffix('_weight')!r}", "plug-in", name=key) for key, value in key_weights.items()
        ]
        METHODS[name] = _PluginMethod(
            name=name,
            kind="task loss" if hasattr(cls, "loss") else "regularizer",
            target=target,
            summary=summary or (inspect.getdoc(cls) or "").partition("\n")[0],
            options=_options_of(cls, name),
            weights=(_weight(weight, "weight of the penalty", "plug-in"), *further),
            loaded=cls,
        )
        return cls

    return decorate


@dataclass(frozen=True)
class _PluginMethod(Method):
    """A record whose class is at hand: a plug-in file is no importable module."""

    loaded: type | None = None

    def load(self) -> type:
        assert self.loaded is not None
        return self.loaded


def _options_of(cls: type, method: str) -> tuple[Option, ...]:
    hints = get_type_hints(inspect.getattr_static(cls, "__init__"))
    options = []
    for parameter in inspect.signature(cls).parameters.values():
        hint: Any = hints.get(parameter.name)
        choices: tuple[str, ...] = ()
        if get_origin(hint) is Literal:
            choices, hint = get_args(hint), str
        if hint not in (float, int, bool, str) or parameter.default is inspect.Parameter.empty:
            raise ConfigError(
                f"register({method!r}): the argument {parameter.name!r} of {cls.__name__} needs a default and one of the types "
                "float, int, bool, str or Literal[...]"
            )
        options.append(Option(parameter.name, hint, parameter.default, "", choices=choices, source="plug-in"))
    return tuple(options)
