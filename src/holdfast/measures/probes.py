"""Random test vectors that depend on a seed and their number alone, so that every rank and every pass has the same."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

__all__ = ["Distribution", "draw_probe", "draw_probes"]

Distribution = Literal["rademacher", "gaussian"]
"""Signs ±1 with equal probability, whose estimates never vary more, or standard normal entries."""


def draw_probe(operator: Any, seed: int, number: int, distribution: Distribution = "rademacher") -> Tensor:
    """Test vector ``number`` (P,) for an operator, of independent entries with mean 0 and variance 1, drawn on the CPU.

    Example:
        >>> draw_probe(torch.eye(3), seed=0, number=1).abs()
        tensor([1., 1., 1.])
    """
    size = operator.shape[0]
    if distribution == "gaussian":
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
        return torch.randn(size, generator=generator, dtype=operator.dtype).to(operator.device)
    words = np.random.PCG64([seed, number]).random_raw(-(-size // 64)).astype("<u8")  # a bit for each sign; the same on every machine
    signs = torch.from_numpy(np.unpackbits(words.view(np.uint8), count=size))
    return signs.to(operator.device).to(operator.dtype).mul_(2).sub_(1)


def draw_probes(operator: Any, seed: int, count: int, *, first: int = 0, distribution: Distribution = "rademacher") -> Tensor:
    """Test vectors ``first`` to ``first + count - 1`` as columns (P, count)."""
    rows = [draw_probe(operator, seed, number, distribution) for number in range(first, first + count)]
    return torch.stack(rows).T if count > 1 else rows[0][:, None]
