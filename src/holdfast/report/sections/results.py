"""What came out: the numbers seen first, the run in facts, and the metrics of each split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.report.blocks import Block, Cell, Facts, Highlight, Section, Table, Text
from holdfast.report.numbers import accuracy_interval, amount, integer, interval_text, share
from holdfast.report.reading import Estimate, at, number, plain_text
from holdfast.report.subject import SPLITS, Subject
from holdfast.wording import decimal, significant

__all__ = ["highlights", "loss_of", "relative_distance", "results"]

SPLIT_WORDS = {"train": "Training", "val": "Validation", "test": "Test"}
COLUMNS = ("split", "examples", "accuracy (95 % interval)", "macro-F1", "loss (NLL, nats)", "calibration error (ECE)")


def highlights(subject: Subject) -> list[Highlight]:
    """The few numbers that a reader looks for."""
    return [*_of_result(subject), *_of_audit(subject)]


def results(subject: Subject) -> Section:
    """Facts of the run and a table of its metrics."""
    blocks: list[Block] = [Facts("What was trained, and on what", [row for row in _facts(subject) if row[1]])]
    if subject.metrics:
        rows = [_row(split, metrics) for split, metrics in subject.metrics.items()]
        blocks.append(Table("Metrics of the selected weights, by split", COLUMNS, rows))
    if subject.run is not None:
        blocks.extend(_candidates(subject.result))
    return Section("results", "Result", _meaning(subject), _doubt(subject), blocks)


def _of_result(subject: Subject) -> Iterator[Highlight]:
    split = subject.judged
    if split is None:
        return
    metrics = subject.metrics[split]
    yield Highlight(
        f"{SPLIT_WORDS[split]} accuracy",
        share(metrics["accuracy"]),
        f"95 % interval {interval_text(metrics['accuracy_ci95'])}, {integer(metrics['n'])} examples",
    )
    if number(metrics["ece"]) is not None:
        yield Highlight("Calibration error", share(metrics["ece"]), "how far confidence and accuracy lie apart, on average")


def _of_audit(subject: Subject) -> Iterator[Highlight]:
    moved = relative_distance(subject.audit)
    if moved is not None:
        yield Highlight("Moved from the start", share(moved), "of the size of the measured pretrained weights")
    bound = at(subject.audit, "bound")
    if number(at(bound, "bound")) is not None:
        vacuous = at(bound, "vacuous") is not False
        text = "says nothing here (vacuous)" if vacuous else "on the expected loss, under its assumptions"
        yield Highlight("Bound", amount(at(bound, "bound")), text)


def relative_distance(audit: Mapping[str, Any] | None) -> float | None:
    """Length of the move over all measured layers, divided by that of the source weights of the same layers."""
    layers = at(audit, "layers")
    norms = [number(at(layer, "norm_frob")) for layer in layers] if isinstance(layers, list) else []
    moved, size = number(at(audit, "totals", "l2")), sum(norm**2 for norm in norms if norm is not None) ** 0.5
    return moved / size if moved is not None and size > 0 and None not in norms else None


def _facts(subject: Subject) -> Iterator[tuple[str, str]]:
    result, audit = subject.result, subject.audit
    counts = [f"{integer(at(result, 'data', f'n_{split}'))} {split}" for split in SPLITS if at(result, "data", f"n_{split}")]
    classes = f"{len(subject.classes)} classes" if subject.classes else ""
    yield "Data", "; ".join(filter(None, [subject.data, classes, ", ".join(counts)]))
    size = number(at(result, "model", "parameters") or at(audit, "subject", "parameters"))
    yield "Network", subject.network + (f", {integer(size)} parameters" if size is not None else "")
    yield "Started from", plain_text(at(audit, "subject", "source") or subject.config.get("weights"))
    yield "Method", subject.method
    yield "Weights", _selection(result)
    yield "Training", _training(subject)
    yield "Device", plain_text(at(result, "cost", "device") or at(audit, "settings", "device"))
    yield "Written by", f"holdfast {plain_text(result.get('holdfast') or at(audit, 'holdfast'))}"


def _selection(result: Mapping[str, Any]) -> str:
    chosen = (result.get("selections") or [None])[0]
    if at(chosen, "epoch") is None:
        return ""
    form = "average of the weights" if at(chosen, "weights") == "ema" else "weights"
    by = "the last one" if at(chosen, "by") == "last" else f"selected by {at(chosen, 'by')}"
    return f"{form} of epoch {at(chosen, 'epoch')}, {by}"


def _training(subject: Subject) -> str:
    training, config = at(subject.result, "training"), subject.config
    epochs = at(training, "epochs") or config.get("epochs")
    parts = [f"{epochs} epochs" if epochs else ""]
    parts += [
        f"{name} {config[key]}"
        for key, name in (("batch_size", "batch size"), ("optimizer", "optimizer"), ("seed", "seed"))
        if key in config
    ]
    parts += [f"learning rate {significant(number(config['lr']))}"] if number(config.get("lr")) is not None else []
    if at(training, "stopped_early"):
        parts.append(f"stopped early, of {at(training, 'planned_epochs')} planned")
    return ", ".join(filter(None, parts))


def _row(split: str, metrics: Mapping[str, Any]) -> list[Cell | str]:
    accuracy = accuracy_interval(metrics["accuracy"], metrics["accuracy_ci95"])
    return [split, integer(metrics["n"]), accuracy, *(decimal(number(metrics[key])) for key in ("macro_f1", "nll", "ece"))]


def _candidates(result: Mapping[str, Any]) -> Iterator[Block]:
    """What other rules of selection would have kept."""
    others = result["selections"][1:]
    rows = [
        [
            f"{other['by']}{' (averaged weights)' if other['weights'] == 'ema' else ''}",
            integer(other["epoch"]),
            *(accuracy_interval(at(other, split, "accuracy"), at(other, split, "accuracy_ci95")) for split in ("val", "test")),
        ]
        for other in others
    ]
    if rows:
        folded = "Other rules by which the epoch could have been chosen"
        yield Table("What they would have kept", ("rule", "epoch", "val accuracy", "test accuracy"), rows, folded=folded)
    if any(other["by"] == "clean-val" for other in others):
        yield Text("clean-val was chosen by the true labels of val, which are known here and would not be in earnest: for comparison.")
    if any(other["by"] == "best-by-test" for other in others):
        yield Text("best-by-test was chosen by looking at the test split: an optimistic number, for comparison with papers that report it.")


def _meaning(subject: Subject) -> str:
    split = subject.judged
    if split is None:
        return "Which network and data this is about."
    metrics = subject.metrics[split]
    of = f"Of {integer(metrics['n'])} {split} examples the network names {share(metrics['accuracy'])} rightly"
    return f"{of}; for the rate on many more of the same kind, {interval_text(metrics['accuracy_ci95'])} is the 95 % interval (Wilson)."


def _doubt(subject: Subject) -> str:
    split = subject.judged
    if split == "test":
        return (
            "The interval covers the luck of which examples were tested, not that of the seed: another training run may differ by more. "
            "It says nothing of examples of another kind than the test split, and it is too hopeful once choices were made by looking "
            "at it."
        )
    if split == "val":
        return "There is no test split: validation examples may have chosen the epoch, so expect somewhat less on new ones."
    if split == "train":
        return "Only training examples were measured; the accuracy on new ones is lower, and nothing here says by how much."
    return ""


def loss_of(subject: Subject) -> Estimate:
    """Mean loss of the judged split with its standard error, where predictions are stored."""
    if subject.scores is None:
        return Estimate(None)
    return Estimate(*subject.scores.log_loss())
