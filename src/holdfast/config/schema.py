"""Every option of ``holdfast fit``, flat, in one frozen dataclass.

A field is at once the option ``--val-fraction``, the YAML key ``val_fraction`` and the keyword ``val_fraction`` of
:func:`holdfast.fit`. Only ``method`` is nested. Each field carries its help text and the range it accepts; checks across fields
are in ``load.py``.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["RELEVANT_FIELDS", "FitConfig", "Range"]


@dataclass(frozen=True)
class Range:
    """The numbers an option accepts, bounds included unless ``open_low``."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.open_low else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        if math.isfinite(self.high):
            return f"{'above' if self.open_low else 'between'} {self.low:g} and {'at most ' if self.open_low else ''}{self.high:.10g}"
        return f"above {self.low:g}" if self.open_low else f"of at least {self.low:g}"


POSITIVE = Range(0, open_low=True)
NOT_NEGATIVE = Range(0)
SHARE = Range(0, 1, open_low=True)
COUNT = Range(1)
SEED = Range(0, 2**32 - 1)


def _option(default: Any, text: str, group: str, *, allowed: Range | None = None, numbers: bool = True) -> Any:
    """A field with its help; ``numbers`` says whether the option changes the numbers of a run and so its hash."""
    return dataclasses.field(default=default, metadata={"help": text, "group": group, "range": allowed, "numbers": numbers})


@dataclass(frozen=True)
class FitConfig:
    """The options of a run. See the help text of each field, or ``holdfast fit --help``."""

    data: str = _option(
        "",
        "a folder of images (CLASS/… or train|val|test/CLASS/…), a .csv or .jsonl table (columns path or text, label, and where wanted "
        "split, weight, id), torchvision:NAME, hf:FOLDER, wds:PATTERN or demo:NAME; see 'holdfast list datasets'",
        "data",
        numbers=False,
    )
    train_list: str | None = _option(None, "file that lists the training images to use, one path or id a line", "data")
    train_labels: str | None = _option(
        None,
        "table (id, label, and where wanted weight) of labels that take the place of those of training examples, such as --labels robust "
        "writes into RUN/estimate/labels.csv",
        "data",
        numbers=False,
    )
    shots: int | None = _option(None, "keep this many training examples of each class, drawn by --data-seed", "data", allowed=COUNT)
    train_fraction: float | None = _option(
        None, "share of the training split to use, drawn by --data-seed (default: all of it)", "data", allowed=SHARE
    )
    test_split: str | None = _option(None, "split to test on, where it is not called 'test'", "data")
    val_fraction: float = _option(
        0.1, "share of train that is held out for validation, where there is no val split; 0 for none", "data", allowed=Range(0, 0.9)
    )
    split: Literal["stratified", "paper"] = _option(
        "stratified", "how splits are cut: class by class, or uniformly as in the AdaRand paper", "data"
    )
    folds: int | None = _option(
        None, "cut this many folds and hold out --fold: as val where there is a train split, else as test", "data", allowed=Range(2)
    )
    fold: int | None = _option(None, "which of the --folds is held out, counted from 0", "data", allowed=NOT_NEGATIVE)
    group_by: str | None = _option(
        None,
        "cut no group of examples, such as the photos of one patient: a column of the table, or a regular expression that finds the "
        "group in the id",
        "data",
    )
    data_seed: int = _option(0, "seed of splits, of --train-fraction and of --shots", "data", allowed=SEED)
    sampling: Literal["uniform", "balanced"] = _option(
        "uniform", "training examples of an epoch: each once, or of each class equally many, repeated where they are few", "data"
    )
    class_weights: Literal["none", "balanced"] = _option(
        "none", "weights of training examples in the task loss: equal, or inverse to the size of their class", "data"
    )
    skip_bad: bool = _option(False, "drop unreadable images and list them, instead of stopping", "data")
    allow_empty_classes: bool = _option(False, "go on when a class has no training example", "data")
    image_size: int | None = _option(None, "side of the input in pixels (default: the model's own)", "data", allowed=Range(8, 4096))
    max_length: int | None = _option(
        None, "tokens at most of a text, for networks of texts (default: 128, or what the network takes)", "data", allowed=Range(2)
    )
    augment: Literal["crop", "resized-crop", "none"] = _option(
        "crop", "training augmentation: random crop and flip; random crop of 8-100 % of the area and flip; nothing", "data"
    )
    flip: bool = _option(True, "whether augmentation mirrors images; switch off for digits, text and traffic signs", "data")
    normalization: Literal["model", "half"] = _option(
        "model", "channel statistics: the model's own, or mean = std = 0.5 for every model", "data"
    )

    model: str = _option("", "timm:NAME, torchvision:NAME, hf:FOLDER or hf:ID (texts), demo:NAME or python:MODULE:FUNCTION", "model")
    weights: str | None = _option(None, "file with pretrained weights (safetensors or a torch file), or 'random'", "model", numbers=False)
    head: str | None = _option(None, "name of the final Linear layer, where it is not found by itself", "model")
    head_dropout: float | None = _option(
        None, "dropout in front of the head (default: 0, so that features are whole)", "model", allowed=Range(0, 0.99)
    )
    batchnorm: Literal["train", "frozen"] = _option(
        "train", "whether BatchNorm statistics follow the batches or stay as pretrained", "model"
    )
    freeze: list[str] = dataclasses.field(
        default_factory=list,
        metadata={
            "help": "parameters that stay as pretrained, by name pattern, as 'layer1.*,conv1.*'; 'backbone' for all but the head",
            "group": "model",
            "range": None,
            "numbers": True,
        },
    )
    compile: bool = _option(False, "run the network through torch.compile", "model")

    method: str | list[dict[str, Any]] = _option("plain", "one name, or several joined by '+'; see 'holdfast list methods'", "method")
    source_data: str | None = _option(
        None,
        "the data the network was pretrained on, in the forms of DATA, for methods that train on it too (uot)",
        "method",
        numbers=False,
    )
    labels: Literal["as-given", "robust"] = _option(
        "as-given",
        "take the training labels at their word, or expect wrong ones: 'robust' estimates how often each class is labelled as each other, "
        "corrects the loss by that, holds the weights near their start (distance) and selects by val-corrected",
        "labels",
        numbers=False,
    )
    transition: str | None = _option(
        None,
        "how often each class is labelled as each other: a file of 'holdfast labels estimate', or symmetric:0.4 or pair:0.3; for --labels "
        "robust (default: estimated), backward, forward and --select val-corrected",
        "labels",
    )
    estimate_from: Literal["features", "run"] = _option(
        "features",
        "how --labels robust estimates it: from features of the pretrained network, in seconds, or from a first run with the labels as "
        "they are",
        "labels",
        numbers=False,
    )
    val_labels: Literal["as-given", "clean", "noisy"] = _option(
        "as-given",
        "what is known of the labels of val: checked, or as wrong as those of train, as they are taken for",
        "labels",
        numbers=False,
    )
    plugin: list[str] = dataclasses.field(
        default_factory=list,
        metadata={
            "help": "Python file that registers methods of your own; may be repeated",
            "group": "method",
            "range": None,
            "numbers": False,
        },
    )

    preset: Literal["none", "paper", "ju2022"] = _option(
        "none",
        "named training options; 'paper' follows the AdaRand paper for the model family, 'ju2022' the release of Ju et al., and sets the "
        "options of distance where it is chosen",
        "training",
        numbers=False,
    )
    recipe: Literal["full", "linear-probe", "lp-ft"] = _option(
        "full",
        "train all weights from a fresh head; 'linear-probe': the head alone, solved on features of the pretrained network, so that rates, "
        "epochs and augmentation have no say; 'lp-ft': first that probe, in RUN/probe, then all weights from its head",
        "training",
    )
    epochs: int = _option(30, "passes over the training split", "training", allowed=COUNT)
    batch_size: int = _option(64, "examples per optimizer step, over all ranks and accumulation", "training", allowed=COUNT)
    accumulate: int = _option(1, "micro-batches per optimizer step", "training", allowed=COUNT)
    optimizer: Literal["sgd", "adamw"] = _option("sgd", "SGD with Nesterov momentum, or AdamW", "training")
    lr: float = _option(0.01, "learning rate of the backbone, and of the head unless --head-lr is given", "training", allowed=NOT_NEGATIVE)
    head_lr: float | None = _option(None, "learning rate of the head", "training", allowed=NOT_NEGATIVE)
    head_lr_factor: float | None = _option(
        None, "learning rate of the head as a multiple of --lr, instead of --head-lr", "training", allowed=NOT_NEGATIVE
    )
    layer_decay: float = _option(
        1.0, "factor on the learning rate from each layer to the one below it; 1 for one rate everywhere", "training", allowed=SHARE
    )
    momentum: float = _option(0.9, "momentum of SGD", "training", allowed=Range(0, 0.9999))
    weight_decay: float = _option(0.0, "weight decay of the optimizer", "training", allowed=NOT_NEGATIVE)
    amsgrad: bool = _option(False, "let AdamW divide by the largest second moment so far", "training")
    schedule: Literal["cosine", "step", "linear", "constant"] = _option(
        "cosine", "learning rate over time: cos(7π/16 · t/T); falling at --milestones; falling to 0 in a line; constant", "training"
    )
    milestones: list[int] = dataclasses.field(
        default_factory=list,
        metadata={
            "help": "epochs at which --schedule step lowers the rate, as 9,18,24",
            "group": "training",
            "range": COUNT,
            "numbers": True,
        },
    )
    gamma: float = _option(0.1, "factor at each milestone", "training", allowed=Range(0, 1))
    warmup_steps: int = _option(0, "steps over which the learning rate rises", "training", allowed=NOT_NEGATIVE)
    warmup_epochs: float | None = _option(None, "warm-up in epochs, instead of --warmup-steps", "training", allowed=NOT_NEGATIVE)
    warmup: Literal["linear", "cosine", "constant"] = _option(
        "linear", "how the rate rises during warm-up: in a line, along half a cosine, or held at --warmup-start", "training"
    )
    warmup_start: float = _option(0.0, "factor on the rate at the first step of warm-up", "training", allowed=Range(0, 1))
    clip_norm: float | None = _option(
        None, "scale gradients down where their norm over all weights is above this", "training", allowed=POSITIVE
    )
    ema: float | None = _option(
        None, "keep an exponential moving average of the weights with this decay, such as 0.999", "training", allowed=Range(0, 0.999999)
    )
    select_weights: Literal["auto", "raw", "ema"] = _option(
        "auto", "which weights are kept: the trained ones or their average (default: the average where --ema is given)", "training"
    )
    patience: int | None = _option(
        None, "stop after this many epochs without a better validation result by --select", "training", allowed=COUNT
    )
    select: Literal["val-accuracy", "val-loss", "val-corrected", "last"] = _option(
        "val-accuracy",
        "which epoch's weights are kept; val-corrected: the best accuracy on true labels, as far as wrong ones and --transition tell",
        "training",
    )
    seed: int = _option(0, "seed of the head, the order of examples, augmentation and noise", "training", allowed=SEED)
    precision: Literal["fp32", "bf16", "fp16"] = _option("fp32", "arithmetic of the forward pass", "training")

    device: str = _option("auto", "auto, cpu, cuda or cuda:N", "machine", numbers=False)
    deterministic: bool = _option(False, "refuse operations whose result can change from run to run", "machine", numbers=False)
    workers: int | None = _option(
        None, "processes that decode images which do not fit in memory (default: up to 4)", "machine", allowed=NOT_NEGATIVE, numbers=False
    )
    cache: Literal["auto", "memory", "off"] = _option(
        "auto", "keep decoded images in memory: where they fit, always, never", "machine", numbers=False
    )
    threads: int | None = _option(None, "threads of CPU arithmetic (default: torch's own choice)", "machine", allowed=COUNT, numbers=False)
    gradient_checkpointing: bool = _option(
        False, "compute activations a second time in the backward pass, to save memory", "machine", numbers=False
    )
    channels_last: Literal["auto", "on", "off"] = _option(
        "auto", "memory format of images and maps: channels last where it is faster, always, never", "machine", numbers=False
    )
    strategy: Literal["ddp", "fsdp"] = _option(
        "ddp",
        "what several ranks share: 'ddp', the batch; 'fsdp', weights, gradients and the optimizer's state too, each holding its part, for "
        "networks that do not fit one GPU",
        "machine",
        numbers=False,
    )
    devices: int | None = _option(
        None, "number of ranks expected on each machine; checked, never started", "machine", allowed=COUNT, numbers=False
    )
    nodes: int | None = _option(None, "number of machines expected; checked, never started", "machine", allowed=COUNT, numbers=False)

    out: str = _option("", "the run directory to write", "output", numbers=False)
    track: list[Literal["features", "test"]] = dataclasses.field(
        default_factory=list,
        metadata={
            "help": "what else is measured after each epoch: features of training images, into features.csv; the test split, which makes "
            "its best epoch known and optimistic",
            "group": "output",
            "range": None,
            "numbers": False,
        },
    )
    tracker: list[Literal["csv", "tensorboard"]] = dataclasses.field(
        default_factory=list,
        metadata={
            "help": "where numbers are written while the run goes, besides history.csv: into metrics.csv, or for TensorBoard",
            "group": "output",
            "range": None,
            "numbers": False,
        },
    )
    store_reference: Literal["auto", "always"] = _option(
        "auto", "store the pretrained weights in the run: where nothing else reproduces them, or always", "output", numbers=False
    )
    checkpoint_minutes: float = _option(
        5.0,
        "minutes between checkpoints inside an epoch; one is written after every epoch anyway",
        "output",
        allowed=NOT_NEGATIVE,
        numbers=False,
    )

    @property
    def methods(self) -> list[dict[str, Any]]:
        """The methods in canonical form; only after the configuration is resolved."""
        assert isinstance(self.method, list)
        return self.method

    @property
    def matrix(self) -> str | None:
        """The transition matrix that the user or an estimate gave, for the loss or for the selection."""
        given = (str(entry["transition"]) for entry in self.methods if entry.get("transition", "none") != "none")
        return self.transition or next(given, None)

    @property
    def primary_weights(self) -> Literal["raw", "ema"]:
        """Which weights a run keeps: the trained ones, or their average."""
        if self.select_weights == "auto":
            return "raw" if self.ema is None else "ema"
        return self.select_weights


RELEVANT_FIELDS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(FitConfig) if field.metadata["numbers"])
"""Options that change the numbers of a run, and therefore its ``config_hash``."""
