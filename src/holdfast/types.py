"""What is passed between the rooms: batches, and what a term may see of a training run.

The protocols describe shape only. Our loop and :func:`holdfast.attach` implement them in ``step.py``; a term never needs more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import Tensor, nn

__all__ = [
    "Batch",
    "Comm",
    "Draws",
    "Extra",
    "HeadForm",
    "InputSpec",
    "Outputs",
    "Reference",
    "Source",
    "Step",
    "TextSpec",
    "Tokenizer",
    "Tokens",
    "Update",
]


@dataclass(frozen=True)
class InputSpec:
    """What images a network expects: the side in pixels and the statistics of its normalisation, per channel, for [0, 1]."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Tokens(NamedTuple):
    """A text as a network reads it: ``ids`` (I, T), a row for each of the network's I inputs; ``length``, the tokens before it was cut."""

    ids: npt.NDArray[np.int32]
    length: int


class Tokenizer(Protocol):
    """Makes tokens of texts, as a network expects them."""

    special_tokens: int
    """Tokens that every text gets, an empty one too."""

    def encode(self, texts: Sequence[str], max_length: int) -> list[Tokens]:
        """Each text as at most ``max_length`` tokens, special ones included."""

    def batch(self, texts: Sequence[Tokens]) -> dict[str, Tensor]:
        """Inputs (B, T) of a network by name, int64, filled up to the longest text; ``attention_mask`` is 1 where a text has tokens."""


@dataclass(frozen=True)
class TextSpec:
    """What texts a network expects.

    Args:
        tokenizer: Makes tokens of them.
        max_length: Tokens at most of one text, special ones included.
        pooling: How an encoder makes one vector of a text's tokens; None for a network that came with a head.
        files: What the network can be built from again, weights aside: configuration and tokenizer, by name.
    """

    tokenizer: Tokenizer
    max_length: int
    pooling: str | None = None
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class HeadForm:
    """How the fresh head is made: with or without bias, W ~ N(0, ``std``²), or N(0, 2/D) where ``std`` is None; the bias starts at 0.

    ``extra`` outputs follow those of the K classes; they are trained, and nothing that is measured or predicted sees them.
    """

    bias: bool = True
    std: float | None = 0.01
    extra: int = 0


@dataclass(frozen=True)
class Batch:
    """Examples that go through one forward pass.

    ``inputs`` is an opaque tree that only the model adapter opens; ``labels`` (B,) are hard int64 classes, ``targets`` (B, K)
    their soft version where one exists; ``index`` (B,) is the rank of each example's id among all ids of the run; ``weights`` (B,)
    is each example's weight in the task loss, with mean 1 over the training split, or None where all count the same.
    ``views`` holds further versions of ``inputs``, ``extra`` further batches for the same forward.
    """

    inputs: Any
    labels: Tensor
    index: Tensor
    targets: Tensor | None = None
    weights: Tensor | None = None
    views: tuple[Any, ...] = ()
    extra: Mapping[str, Batch] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)


class Outputs(NamedTuple):
    """What a network returns for a batch: ``logits`` (B, K) and the captured ``features`` by layer name."""

    logits: Tensor
    features: Mapping[str, Tensor]


class Extra(NamedTuple):
    """A further batch of other data that went through the same forward pass: ``labels`` (B',), ``logits`` and ``features`` of its rows."""

    labels: Tensor
    logits: Tensor
    features: Mapping[str, Tensor]


class Comm(Protocol):
    """Communication between the ranks of a run; a single process is the case ``size == 1``."""

    rank: int
    size: int

    def sum(self, tensor: Tensor) -> Tensor:
        """Elementwise sum over ranks, the same on each."""

    def gather(self, tensor: Tensor) -> Tensor:
        """Rows of all ranks, concatenated in rank order; backward sums the gradients of this rank's rows over ranks."""

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Rank 0's tensor on every rank."""


class Draws(Protocol):
    """A stream of random numbers that depends on (seed, name, step) alone."""

    def normal(self, *row_shape: int) -> Tensor:
        """Standard normal draws ``(B, *row_shape)``: this micro-batch's rows of a draw for the global batch."""

    def uniform(self, *row_shape: int) -> Tensor:
        """The same, uniform on [0, 1)."""

    def shared(self) -> torch.Generator:
        """A generator in the same state on every rank and micro-batch, for what all rows have in common."""


@runtime_checkable
class Reference(Protocol):
    """The frozen pretrained network: eval mode, no gradient."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of ``weights``."""

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Parameters and buffers by their names in the bare network, the source head included."""

    @property
    def backbone(self) -> Mapping[str, Tensor]:
        """``weights`` without the head."""

    def source_head(self) -> nn.Linear:
        """The pretrained head (K_s classes); an error where the weights came without one."""

    def features(self, inputs: Any, layers: Sequence[str] = ("pooled",)) -> Mapping[str, Tensor]:
        """Features of a batch of inputs, by layer name; the forward pass ends at the last of ``layers``."""

    def logits(self, inputs: Any) -> Tensor:
        """Source logits (B, K_s)."""


class Source(Protocol):
    """What a term may look at once, before the first step."""

    @property
    def reference(self) -> Reference:
        """The frozen pretrained network."""

    @property
    def num_classes(self) -> int:
        """K."""

    @property
    def total_steps(self) -> int | None:
        """Steps of the run, where known."""

    @property
    def comm(self) -> Comm:
        """Communication between ranks."""

    def generator(self, name: str) -> torch.Generator:
        """Random numbers on the CPU, keyed by (seed, name), the same on every rank, for what a term draws once."""

    def index(self) -> Tensor:
        """Ranks of the ids (N,) of all training examples of all ranks, sorted; what ``Step.index`` is one of."""

    def has(self, split: str) -> bool:
        """Whether :meth:`batches` can open this split: ``train``, ``val``, or ``source`` for the source data."""

    def batches(self, split: str = "train") -> Iterator[Batch]:
        """This rank's share of a split, un-augmented, every example once over all ranks."""

    def shuffled(self, batch_size: int, epoch: int) -> Iterator[Batch]:
        """This rank's parts of batches of the training split, un-augmented, in an order of each epoch's own; equally many on every rank."""

    def fit_classifier(self, *, epochs: int, batch_size: int, backbone: bool = True) -> nn.Module:
        """The pretrained network with a head for the K classes, after some epochs of cross-entropy with the SGD of the run.

        In eval mode and without gradient, the same on every rank. ``backbone`` says whether all weights are trained or the head alone.
        """


class Step(Protocol):
    """What a term sees of one forward pass.

    ``batch_size`` counts the rows of the whole optimizer step, over all ranks and micro-batches; the other sizes are those of this pass.
    """

    inputs: Any
    labels: Tensor
    targets: Tensor | None
    weights: Tensor | None
    index: Tensor
    logits: Tensor
    features: Mapping[str, Tensor]
    reference: Reference
    model: nn.Module
    head: nn.Linear
    views: tuple[Any, ...]
    extra: Mapping[str, Extra]
    comm: Comm
    batch_size: int
    step: int
    epoch: int
    step_in_epoch: int
    total_steps: int | None
    collect: bool

    def rng(self, name: str) -> Draws:
        """The stream ``name`` of this step."""

    def forward(self, inputs: Any, tensors: Mapping[str, Tensor]) -> Outputs:
        """Run the network in its present mode with other values in place of its own: parameters and buffers by their names in ``model``.

        Buffers that the pass changes (BatchNorm statistics) are changed in ``tensors``.
        """


@dataclass(frozen=True)
class Update:
    """What a term sees after an applied optimizer update."""

    model: nn.Module
    comm: Comm
    step: int
    epoch: int
    step_in_epoch: int
    total_steps: int | None
