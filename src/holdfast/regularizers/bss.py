"""BSS: batch spectral shrinkage."""

from __future__ import annotations

import logging

from torch import Tensor

from holdfast.regularizers.spectral_shrinkage import batch_spectral_shrinkage
from holdfast.terms import Needs, Regularizer, Scope
from holdfast.types import Step

__all__ = ["BatchSpectralShrinkage"]

log = logging.getLogger("holdfast")


class BatchSpectralShrinkage(Regularizer):
    """Squares of the ``k`` smallest singular values of the pooled features of a batch.

    Chen et al., NeurIPS 2019. The spectrum is that of the rows of all ranks; that of a part of the batch is another one.

    Args:
        k: How many singular values; all there are where a batch has fewer, which is warned about once.
        gather: Whether the rows of all ranks are gathered; without, each rank shrinks the spectrum of its own, as published.
    """

    NEEDS = Needs(layers=("pooled",))
    SCOPE = Scope.BATCH
    SHARDED = True

    def __init__(self, *, k: int = 1, gather: bool = True) -> None:
        super().__init__()
        self.k = k
        self.gather = gather
        self._warned: set[str] = set()

    def penalty(self, step: Step) -> Tensor:
        """``Σ_{i≤k} σ_{m+1-i}²`` with m = min(B, D); 0 for a single row."""
        features = step.features["pooled"]
        if self.gather:
            features = step.comm.gather(features)
        rows, values = len(features), min(features.shape)
        if rows == 1:
            self._warn_once("row", "bss: the only singular value of a single row is its norm, so the penalty of such a batch is 0.")
            return features.sum() * 0
        if self.k > values:
            self._warn_once("k", f"bss: k is {self.k}, but features {tuple(features.shape)} have {values} singular values; all are shrunk.")
        return batch_spectral_shrinkage(features, k=min(self.k, values))

    def _warn_once(self, about: str, sentence: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            log.warning(sentence)
