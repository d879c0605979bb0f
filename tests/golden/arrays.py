"""What the checks of reference files share: comparison at the files' tolerance, the toy network, stored draws."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Arrays = dict[str, Tensor]


def agree(actual: Tensor | float, expected: Tensor) -> None:
    torch.testing.assert_close(torch.as_tensor(actual, dtype=expected.dtype).reshape(expected.shape), expected, rtol=1e-9, atol=1e-12)


class Toy(nn.Module):
    """z = x·Eᵀ, logits = z·Wᵀ + b; keeps the features of the last pass with their gradient."""

    def __init__(self, extractor: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.extractor = nn.Linear(extractor.shape[1], extractor.shape[0], bias=False, dtype=extractor.dtype)
        self.head = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
        for parameter, value in zip(self.parameters(), (extractor, weight, bias), strict=True):
            parameter.data = value.clone()

    def forward(self, inputs: Tensor) -> Tensor:
        self.features = self.extractor(inputs)
        if self.features.requires_grad:
            self.features.retain_grad()
        return self.head(self.features)


class Stored:
    """Draws that are read from a file."""

    def __init__(self, draws: Tensor) -> None:
        self.draws = draws

    def normal(self, *row_shape: int) -> Tensor:
        assert self.draws.shape[1:] == row_shape
        return self.draws

    uniform = normal
