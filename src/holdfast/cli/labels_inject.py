"""``holdfast labels inject``: a table with wrong labels, and a record of how they were made."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.cli.arguments import COMMON, Argument, Parsed
from holdfast.cli.help import HelpPage
from holdfast.cli.labels_options import DATA, JUDGE, check_table_name, choice, frozen_features, judged, number, read_arguments, whole
from holdfast.cli.labels_tables import print_confusions, print_lines
from holdfast.errors import ConfigError, DataError
from holdfast.wording import percent

if TYPE_CHECKING:
    from holdfast.labels import Injected
    from holdfast.labels.arrays import IntArray
    from holdfast.labels.examples import Examples

__all__ = ["page", "run"]

RULES = ("symmetric", "pair", "asymmetric", "matrix", "instance", "model", "class-prior")
PRESETS = ("none", "ju2022")
RULE = (
    Argument("--noise", "the rule", "RULE", default="symmetric", choices=RULES),
    Argument("--rate", "share of the labels that is replaced, from 0 to below 1", "NUMBER", default="0.2"),
    Argument("--self-flips", "symmetric: draw the replacement from all classes, so that some keep their label"),
    Argument("--exact", "replace exactly this share, instead of each label by itself with this probability"),
    Argument("--map", "asymmetric: which class turns into which, such as cat=dog,truck=car", "A=B,..."),
    Argument("--matrix", "matrix: file with the transition matrix, rows true classes (.json, .csv, .npy, .npz)", "FILE"),
    Argument(
        "--prior", "class-prior: probabilities of the replacements, such as cat=0.7,dog=0.3", "A=P,...", default="the shares in train"
    ),
    Argument("--mode", "model: the class it finds most probable, or one drawn", "MODE", default="argmax", choices=("argmax", "sample")),
    Argument(
        "--preset", "repeat the draws of a release: ju2022, with --noise symmetric or class-prior", "NAME", default="none", choices=PRESETS
    ),
    Argument("--seed", "seed of the draws", "N", default="0"),
)
ROWS = (
    Argument("--include-val", "make the labels of val wrong too, as they usually are where nobody has checked them"),
    Argument(
        "--val-fraction", "share of train that is held out, where there is no val split; as for 'holdfast fit'", "NUMBER", default="0.1"
    ),
    Argument("--data-seed", "seed of the splits that are cut; as for 'holdfast fit'", "N", default="0"),
)
OUT = Argument("--out", "table to write, which ends in .csv or .jsonl; the record goes beside it", "FILE")
ARGUMENTS = (*RULE, *ROWS, *JUDGE, OUT, *COMMON)
EXAMPLE = "holdfast labels inject cars/ --noise symmetric --rate 0.4 --out noisy/cars.csv"


def page() -> HelpPage:
    """The page behind ``holdfast labels inject --help``."""
    return HelpPage(
        usage=("holdfast labels inject DATA --noise RULE --rate R --out FILE",),
        about=(
            "Replace some training labels by wrong ones, to try out what they do. Labels of val and test stay right. The table says split "
            "and true label of each row, so that every later step knows both; where DATA has no splits they are cut as 'holdfast fit' cuts "
            "them. Images that are no files are written beside the table.",
        ),
        words=(DATA,),
        groups={"Rule": RULE, "Rows": ROWS, "Network, for the rules instance and model": JUDGE, "Output": (OUT, *COMMON)},
        examples=(
            ("two in five labels wrong, every other class alike", EXAMPLE),
            (
                "cats become dogs, exactly a tenth of all labels drawn",
                "holdfast labels inject pets.csv --noise asymmetric --map cat=dog --rate 0.1 --exact --out noisy/pets.csv",
            ),
        ),
    )


def run(argv: Sequence[str]) -> int:
    """Read, replace, write, say what was done."""
    data, parsed = read_arguments(argv, ARGUMENTS, "inject")
    file = check_table_name(parsed.values.get("out"), EXAMPLE)
    rule = choice(parsed, "noise", "symmetric", RULES)
    rate = number(parsed, "rate", 0.2)
    _check_rule(parsed, rule, rate)
    from holdfast.labels.examples import read_examples, write_examples

    examples = _with_splits(read_examples(data), parsed, data)
    classes = examples.classes
    true = examples.indices(examples.labels, classes, "the label")
    if len(classes) < 2:
        raise DataError(f"{data}: there is only one class, {classes[0]!r}, so no label can be wrong; at least two are needed.")
    rows = np.flatnonzero(examples.in_split("train") | (examples.in_split("val") if _val_too(parsed, examples) else False))
    injected = _inject(parsed, rule, rate, examples, true, rows, classes)
    noisy = [classes[label] for label in injected.labels.tolist()]
    write_examples(file, examples, {"label": noisy, "true_label": examples.labels})
    record = _write_record(file, data, parsed, rule, rate, classes, injected, true, rows)
    _print(file, record, classes, injected, "" if examples.texts is not None else f" --model {parsed.values.get('model', 'MODEL')}")
    return 0


def _check_rule(parsed: Parsed, rule: str, rate: float) -> None:
    from holdfast.labels.injection import check_rate

    if rule in ("matrix", "model") and "rate" in parsed.values:
        raise ConfigError(f"--rate: the rule {rule!r} has no rate of its own; leave --rate out.")
    try:
        check_rate(rate)
    except ConfigError as error:
        raise ConfigError(f"--{error}") from None
    for key, owner in (("map", "asymmetric"), ("matrix", "matrix"), ("prior", "class-prior")):
        if key in parsed.values and rule != owner:
            raise ConfigError(f"--{key}: belongs to --noise {owner}, but the rule is {rule!r}.")
    for key, owner in (("map", "asymmetric"), ("matrix", "matrix")):
        if key not in parsed.values and rule == owner:
            raise ConfigError(f"--noise {rule}: needs --{key}; see 'holdfast labels inject --help'.")
    if choice(parsed, "preset", "none", PRESETS) == "ju2022" and rule not in ("symmetric", "class-prior"):
        raise ConfigError(f"--preset ju2022: the release has symmetric and class-prior noise, not {rule!r}.")


def _with_splits(examples: Examples, parsed: Parsed, data: str) -> Examples:
    from holdfast.config.schema import FitConfig

    fraction = number(parsed, "val_fraction", 0.1, low=0, high=0.9)
    return examples.with_splits(FitConfig(data=data, val_fraction=fraction, data_seed=whole(parsed, "data_seed", 0)))


def _val_too(parsed: Parsed, examples: Examples) -> bool:
    return "include_val" in parsed.values and "val" in (examples.splits or ())


def _inject(parsed: Parsed, rule: str, rate: float, examples: Examples, true: IntArray, rows: IntArray, classes: Sequence[str]) -> Injected:
    from holdfast import labels

    options: dict[str, Any] = {"seed": whole(parsed, "seed", 0), "rows": rows}
    exact, size = "exact" in parsed.values, len(classes)
    if choice(parsed, "preset", "none", PRESETS) == "ju2022":
        return labels.released_noise(true, size, rate, asymmetric=rule == "class-prior", **options)
    if rule == "symmetric":
        return labels.inject_symmetric(true, size, rate, self_flips="self_flips" in parsed.values, exact=exact, **options)
    if rule == "pair":
        return labels.inject_pair(true, size, rate, exact=exact, **options)
    if rule == "asymmetric":
        return labels.inject_asymmetric(true, size, _mapping(parsed.values["map"], classes), rate, exact=exact, **options)
    if rule == "class-prior":
        return labels.inject_class_prior(true, _prior(parsed.values.get("prior"), true[rows], classes), rate, exact=exact, **options)
    if rule == "matrix":
        from holdfast.labels.transition import read_transition

        return labels.inject_from_matrix(true, read_transition(parsed.values["matrix"], size, name="--matrix"), **options)
    return _inject_by_network(parsed, rule, rate, examples, true, options, size)


def _inject_by_network(
    parsed: Parsed, rule: str, rate: float, examples: Examples, true: IntArray, options: dict[str, Any], size: int
) -> Injected:
    """Noise that depends on what the examples look like."""
    from holdfast import labels

    rows = options["rows"]
    if rule == "instance":
        features = frozen_features(parsed, examples, rows.tolist())
        dense = features.toarray() if hasattr(features, "toarray") else features
        found = labels.inject_instance(true[rows], dense, size, rate, seed=options["seed"])
    else:
        probs = judged(parsed, examples, rows.tolist(), true[rows], size)
        mode = choice(parsed, "mode", "argmax", ("argmax", "sample"))
        found = labels.inject_from_model(true[rows], probs, mode=mode, seed=options["seed"])
    noisy = true.copy()
    noisy[rows] = found.labels
    return labels.Injected(noisy, noisy != true, found.transition)


def _mapping(text: str, classes: Sequence[str]) -> dict[int, int]:
    pairs = [entry.partition("=") for entry in text.split(",")]
    return {_class(source, classes, "--map"): _class(target, classes, "--map") for source, _, target in pairs}


def _prior(text: str | None, true: IntArray, classes: Sequence[str]) -> Any:
    if text is None:
        return np.bincount(true, minlength=len(classes)) / len(true)
    prior = np.zeros(len(classes))
    for entry in text.split(","):
        name, _, share = entry.partition("=")
        try:
            prior[_class(name, classes, "--prior")] = float(share)
        except ValueError:
            raise ConfigError(f"--prior {entry}: expected a class and its probability, such as {classes[0]}=0.5.") from None
    return prior


def _class(name: str, classes: Sequence[str], option: str) -> int:
    if name.strip() not in classes:
        raise ConfigError(f"{option}: {name.strip()!r} is no class; the classes are {', '.join(classes)}. Write it as A=B.")
    return list(classes).index(name.strip())


def _write_record(
    file: str, data: str, parsed: Parsed, rule: str, rate: float, classes: Sequence[str], injected: Injected, true: IntArray, rows: IntArray
) -> dict[str, Any]:
    from holdfast.labels import empirical_transition
    from holdfast.labels.transition import cond, rho
    from holdfast.run.files import atomic_write, to_json

    empirical = empirical_transition(true[rows], injected.labels[rows], len(classes))
    record = {
        "schema": 1,
        "data": data,
        "rule": rule,
        "rate": rate if rule not in ("matrix", "model") else None,
        "options": {key: value for key, value in parsed.values.items() if key not in ("out", "debug")},
        "seed": whole(parsed, "seed", 0),
        "rows": len(rows),
        "changed": int(injected.flipped.sum()),
        "empirical_rate": float(injected.flipped[rows].mean()),
        "classes": list(classes),
        "transition": injected.transition,
        "empirical_transition": empirical,
        "rho": rho(injected.transition),
        "cond": cond(injected.transition),
    }
    with atomic_write(Path(file).with_suffix(".noise.json")) as stream:
        stream.write(to_json(record).encode())
    return record


def _print(file: str, record: dict[str, Any], classes: Sequence[str], injected: Injected, network: str) -> None:
    asked = "" if record["rate"] is None else f", rate {record['rate']:g}"
    print_lines(
        [
            f"{record['rule']} noise{asked}: {record['changed']} of {record['rows']} training labels are wrong now "
            f"({percent(record['empirical_rate'])}); "
            f"{len(injected.labels) - record['rows']} other rows are as they were.",
            f"Correcting for it would multiply the noise of the loss by {record['rho']:.2f} (rho).",
        ]
    )
    print_confusions(record["empirical_transition"], classes)
    print_lines(
        [
            f"Written: {file}, {Path(file).with_suffix('.noise.json')}",
            f"Next: holdfast labels estimate {shlex.quote(file)}{network} --out F.json",
        ]
    )
