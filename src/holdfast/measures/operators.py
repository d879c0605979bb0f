"""Hessian, Gauss-Newton and Fisher matrix of a network's mean loss as linear operators ``A @ v``, whole or by layer.

Nothing of size P × P is formed. A product with one vector passes once over the data (vector-outer, what Lanczos needs); a product with
the columns of a matrix passes once over the data for all of them (data-outer), with the graph of a batch kept for every column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from holdfast.errors import ConfigError, DataError, NonDeterministicError, NonFiniteError, ShapeError, suggest
from holdfast.measures.evaluation import evaluated, inputs_and_labels, outputs_of
from holdfast.measures.parameters import Block, WeightBlocks
from holdfast.measures.products import (
    BatchProducts,
    DifferenceProducts,
    GaussNewtonProducts,
    HessianProducts,
    Loss,
    empirical_fisher_of_outputs,
    fisher_of_outputs,
    hessian_of_outputs,
    per_example,
)
from holdfast.measures.sums import dot
from holdfast.types import Batch, Comm

__all__ = ["KINDS", "BlockOperator", "CurvatureOperator"]

KINDS: dict[str, Callable[..., BatchProducts]] = {
    "hessian": HessianProducts,
    "gauss-newton": partial(GaussNewtonProducts, matrix=hessian_of_outputs),
    "fisher": partial(GaussNewtonProducts, matrix=fisher_of_outputs),
    "empirical-fisher": partial(GaussNewtonProducts, matrix=empirical_fisher_of_outputs),
}
"""The matrices, by name."""

REPEATABLE = 1e-5
"""Largest relative difference between two passes over the data, or two equal products, that counts as rounding."""

TOGETHER = 8
"""Vectors that share a pass over several batches: the graph of a batch then costs less than its products, and memory is bounded."""

NO_EXAMPLE = "there is no example to measure curvature on; give at least one batch, from something that can be passed over again."

Mode = Literal["block", "full_row"]
"""Whether a layer's product takes H_ii u_i alone, or its whole row of blocks, Σ_j H_ij u_j, as the release of Ju et al. does."""


class CurvatureOperator:
    """A symmetric curvature matrix (P, P) of the mean loss over all examples of all ranks, in chosen weights.

    Every product runs in eval mode, with BatchNorm's statistics as constants and attention as plain matrix products, and leaves the
    network as it was. Frozen weights stay out, weights that the loss does not use give zeros, tied ones count once.

    Args:
        net: The network; it returns logits (B, K), or something with the attribute ``logits``.
        loss: Logits and labels to the loss of each example (B,), without reduction.
        batches: Batches, or pairs of inputs and labels, that can be passed over again and are the same each time; under several ranks
            this rank's share.
        kind: ``hessian``; ``gauss-newton``, its part without second derivatives of the network; ``fisher`` of the softmax of the logits;
            ``empirical-fisher``, the mean outer product of the examples' gradients.
        layers: Qualified names of the weight tensors to differentiate in; None takes all that require a gradient.
        comm: Communication with the other ranks, None for one process. All ranks must then make the same products.
        chunk_size: Columns of a matrix that are multiplied at once; each costs one more set of activations in memory.
        differences: Whether the Hessian is taken by differences of gradients, for networks without second derivative.
        check: Whether to pass over the data twice now, without gradients, and refuse it if the losses differ.

    Attributes:
        products: Products with the whole matrix, or with one layer's block, made so far.

    Raises:
        ConfigError: An option is out of range, or a layer unknown.
        DataError: There is no example.
        NonFiniteError: The loss is not finite.
        ModelError: The network cannot be measured as it is; the message says why.
        NonDeterministicError: Two passes over the data differ.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Loss,
        batches: Iterable[Batch | tuple[Any, Tensor]],
        *,
        kind: str = "hessian",
        layers: Sequence[str] | None = None,
        comm: Comm | None = None,
        chunk_size: int = 1,
        differences: bool = False,
        check: bool = True,
    ) -> None:
        if kind not in KINDS:
            raise ConfigError(f"kind: unknown matrix {kind!r}. {suggest(kind, KINDS)}")
        if differences and kind != "hessian":
            raise ConfigError(f"differences: only the Hessian is a difference of gradients, and kind is {kind!r}.")
        if chunk_size < 1:
            raise ConfigError(f"chunk_size must be at least 1, got {chunk_size}.")
        self.net, self.loss, self.batches, self.kind = net, loss, batches, kind
        self.weights = WeightBlocks(net, layers)
        self.comm, self.chunk_size, self.differences = comm, chunk_size, differences
        self.products = 0
        self._kept: BatchProducts | None = None
        if check:
            self._check_data()

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The weight tensors, each with its range of the vector."""
        return self.weights.blocks

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the blocks, in order."""
        return tuple(block.name for block in self.blocks)

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return self.weights.size, self.weights.size

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, and of vectors."""
        return self.weights.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights, and of vectors."""
        return self.weights.device

    @property
    def probes_per_pass(self) -> int:
        """How many products an estimator had better ask for at once: several share the graphs of a pass over many batches."""
        # Another rank may have several batches where this one keeps the graph of its one; they must ask for the same products.
        alone = self.comm is None or self.comm.size == 1
        return self.chunk_size if self._kept is not None and alone else max(self.chunk_size, TOGETHER)

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """Product with a vector (P,) or with the columns of a matrix (P, m), the latter in one pass over the data."""
        self._check_length(vectors)
        self.products += 1 if vectors.ndim == 1 else vectors.shape[1]
        return self._whole(vectors.T).T if vectors.ndim == 2 else self._whole(vectors[None])[0]

    def quad(self, vector: Tensor) -> float:
        """vᵀ A v."""
        return float(dot(vector, self @ vector))

    def full_rows(self, vector: Tensor) -> dict[str, Tensor]:
        """Σ_j A_ij v_j of each layer i, flat, by name; one product."""
        product = self @ vector
        return {block.name: product[block.start : block.stop] for block in self.blocks}

    def block_products(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A_ii u_i of the named layers, flat, all in one pass over the data; one product for each layer."""
        numbers = {name: self.weights.position(name) for name in parts}
        shaped = {number: parts[name].reshape(self.blocks[number].shape) for name, number in numbers.items()}
        self.products += len(parts)

        def multiply(batch: BatchProducts) -> Tensor:
            return torch.cat([batch.multiply({number: part}, [number])[0].flatten() for number, part in shaped.items()])

        total = self._mean(multiply, sum(part.numel() for part in shaped.values())).to(self.dtype)
        return dict(zip(parts, total.split([part.numel() for part in shaped.values()]), strict=True))

    def layer_quads(self, vector: Tensor, *, mode: Mode = "block") -> Tensor:
        """v_iᵀ A_ii v_i of each layer (L,) in float64, or with ``mode="full_row"`` v_iᵀ Σ_j A_ij v_j, whose sum is vᵀ A v."""
        if mode == "full_row":
            return self.full_row_quads(vector[:, None])[0]
        parts = {block.name: vector[block.start : block.stop] for block in self.blocks}
        return torch.stack([dot(parts[name], product) for name, product in self.block_products(parts).items()])

    def full_row_quads(self, vectors: Tensor) -> Tensor:
        """v_iᵀ Σ_j A_ij v_j of each column v of a matrix (P, m) and each layer: (m, L) in float64.

        It takes one pass over the data; no product is kept, and ranks exchange these numbers alone.
        """
        self._check_length(vectors)
        self.products += vectors.shape[1]

        def multiply(batch: BatchProducts) -> Tensor:
            pairs = [zip(chunk, found, strict=True) for chunk, found in self._chunks(batch, vectors.T)]
            return torch.cat([torch.stack([_row_dots(*pair) for pair in chunk], dim=1) for chunk in pairs])

        return self._mean(multiply, vectors.shape[1] * len(self.blocks)).reshape(vectors.shape[1], -1)

    def block(self, name: str) -> BlockOperator:
        """The diagonal block A_ii of one layer."""
        return BlockOperator(self, self.blocks[self.weights.position(name)])

    def dense(self) -> Tensor:
        """The matrix itself (P, P), for small networks."""
        return self @ torch.eye(self.weights.size, dtype=self.dtype, device=self.device)

    def on(self, batch: Batch | tuple[Any, Tensor]) -> CurvatureOperator:
        """The same matrix for the mean loss of one batch, on this rank alone."""
        alone = object.__new__(CurvatureOperator)
        alone.__dict__ |= self.__dict__ | {"batches": [batch], "comm": None, "products": 0, "_kept": None}
        return alone

    @contextmanager
    def keeping(self) -> Iterator[CurvatureOperator]:
        """Keep the graph from product to product where there is only one batch, which saves its gradient each time.

        The weights must not change inside, and the activations stay in memory until the end.
        """
        if self._kept is not None or not isinstance(self.batches, Sequence) or len(self.batches) != 1:
            yield self
            return
        with evaluated(self.net):
            self._kept = self._products_on(self.batches[0])
        try:
            yield self
        finally:
            self._kept = None

    def check_repeatable(self) -> None:
        """Make one product twice.

        Raises:
            NonDeterministicError: The results differ by more than rounding.
        """
        vector = torch.ones(self.weights.size, dtype=self.dtype, device=self.device)
        first, second = self @ vector, self @ vector
        gap = float((first - second).norm() / first.norm().clamp_min(torch.finfo(self.dtype).tiny))
        if gap > REPEATABLE:
            raise NonDeterministicError(
                f"two products with the same vector differ by {gap:.2g} of their norm; use un-augmented batches in a fixed partition, "
                "and torch.use_deterministic_algorithms(True)."
            )

    def _check_length(self, vectors: Tensor) -> None:
        if vectors.ndim not in (1, 2) or len(vectors) != self.weights.size:
            raise ShapeError(f"a vector over these weights has {self.weights.size} entries, got {tuple(vectors.shape)}.")

    def _whole(self, rows: Tensor) -> Tensor:
        """Products with the rows of a matrix (m, P)."""

        def multiply(batch: BatchProducts) -> Tensor:
            products = [torch.cat([part.flatten(1) for part in found], dim=1) for _, found in self._chunks(batch, rows)]
            return products[0] if len(products) == 1 else torch.cat(products)

        return self._mean(multiply, rows.numel()).to(self.dtype).reshape(rows.shape)

    def _chunks(self, batch: BatchProducts, rows: Tensor) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """``chunk_size`` rows of a matrix (m, P) at a time, and their products on a batch, each by layer with a leading axis of rows."""
        every = range(len(self.blocks))
        for chunk in rows.split(self.chunk_size):
            parts = self.weights.split(chunk)
            if len(chunk) > 1:
                yield parts, batch.multiply(dict(enumerate(parts)), every, batched=True)
            else:
                yield parts, [found[None] for found in batch.multiply({i: part[0] for i, part in enumerate(parts)}, every)]

    def _mean(self, multiply: Callable[[BatchProducts], Tensor], size: int) -> Tensor:
        """Mean over the examples of all ranks of what ``multiply`` gives as a sum over a batch, ``size`` numbers that are its own.

        Several batches or ranks are summed in float64.
        """
        total, count = None, 0
        with evaluated(self.net):
            for batch in self._batches():
                part = multiply(batch)
                total = part if total is None else total.double().add_(part)
                count += batch.count
        if self.comm is not None and self.comm.size > 1:
            wide = torch.zeros(size + 1, dtype=torch.float64, device=self.device)
            wide[:-1] = 0 if total is None else total.flatten()
            wide[-1] = count
            wide = self.comm.sum(wide)
            total, count = wide[:-1], int(wide[-1])
        if total is None or not count:
            raise DataError(NO_EXAMPLE)
        return total.div_(count)

    def _batches(self) -> Iterator[BatchProducts]:
        if self._kept is not None:
            yield self._kept
            return
        for batch in self.batches:
            yield self._products_on(batch)

    def _products_on(self, batch: Batch | tuple[Any, Tensor]) -> BatchProducts:
        inputs, labels = inputs_and_labels(batch, self.device)
        make = DifferenceProducts if self.differences else KINDS[self.kind]
        return make(self.weights, self.loss, inputs, labels)

    def _check_data(self) -> None:
        """Two passes over the data must give the same mean loss."""
        first, second = self._mean_loss(), self._mean_loss()
        if not math.isfinite(first):
            raise NonFiniteError(f"the mean loss is {first}; curvature needs a network and data with finite losses.")
        if not abs(first - second) <= REPEATABLE * max(abs(first), abs(second)):
            raise NonDeterministicError(
                f"two passes over the data gave losses {first:.6g} and {second:.6g}; use batches that are the same in every pass, without "
                "random augmentation and not from a generator that is used up, or pass check=False."
            )

    def _mean_loss(self) -> float:
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        with evaluated(self.net), torch.no_grad():
            for batch in self.batches:
                inputs, labels = inputs_and_labels(batch, self.device)
                losses = per_example(self.loss, outputs_of(self.net, {}, inputs), labels)
                sums += torch.stack([losses.double().sum(), sums.new_tensor(len(losses))])
        total, count = (sums if self.comm is None else self.comm.sum(sums)).tolist()
        if not count:
            raise DataError(NO_EXAMPLE)
        return total / count


class BlockOperator:
    """The diagonal block of one layer in a curvature matrix, itself an operator (p, p); its products count for the whole one too."""

    def __init__(self, whole: CurvatureOperator, block: Block) -> None:
        self.whole, self.name = whole, block.name
        self.shape = (block.size, block.size)
        self.dtype, self.device, self.comm = whole.dtype, whole.device, whole.comm

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """Product with a vector (p,) or with each column of a matrix (p, m)."""
        if vectors.ndim == 2:
            return torch.stack([self @ column for column in vectors.T], dim=1)
        return self.whole.block_products({self.name: vectors})[self.name]

    def dense(self) -> Tensor:
        """The block itself (p, p), for small layers."""
        return self @ torch.eye(self.shape[0], dtype=self.dtype, device=self.device)

    @contextmanager
    def keeping(self) -> Iterator[BlockOperator]:
        """As :meth:`CurvatureOperator.keeping`."""
        with self.whole.keeping():
            yield self


def _row_dots(rows: Tensor, others: Tensor) -> Tensor:
    """Inner product of each row of one tensor with that of another: (m,)."""
    return torch.stack([dot(*pair) for pair in zip(rows.flatten(1), others.flatten(1), strict=True)])
