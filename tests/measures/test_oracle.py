"""Products and estimators of curvature against those of curvlinops, another library's."""

from __future__ import annotations

import warnings
from functools import partial
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from holdfast.measures.lanczos import Lanczos
from holdfast.measures.operators import CurvatureOperator
from holdfast.measures.spectrum import top_eigenvalues

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # in what curvlinops imports

losses = partial(cross_entropy, reduction="none")


@pytest.fixture(scope="module")
def curvlinops() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        return pytest.importorskip("curvlinops", reason="curvlinops is not installed")


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 6), nn.GELU(), nn.Linear(6, 3)]
    return nn.Sequential(*layers).double().eval()


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(11, 2, 4, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (11,), generator=generator)
    return list(zip(inputs.split(4), labels.split(4), strict=True))  # a short one at the end


def theirs(curvlinops: ModuleType, kind: str, net: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Its matrix (P, P)."""
    parameters = list(net.parameters())
    matrix = getattr(curvlinops, kind)(net, nn.CrossEntropyLoss(), parameters, batches, check_deterministic=False)
    return matrix @ torch.eye(sum(parameter.numel() for parameter in parameters), dtype=torch.float64)


@pytest.mark.parametrize(
    ("ours", "kind"),
    [("hessian", "HessianLinearOperator"), ("gauss-newton", "GGNLinearOperator"), ("empirical-fisher", "EFLinearOperator")],
)
def test_matrices_are_those_of_curvlinops(
    curvlinops: ModuleType, net: nn.Module, batches: list[tuple[Tensor, Tensor]], ours: str, kind: str
) -> None:
    operator = CurvatureOperator(net, losses, batches, kind=ours)
    torch.testing.assert_close(operator.dense(), theirs(curvlinops, kind, net, batches), rtol=1e-9, atol=1e-12)


def test_largest_eigenvalues_and_the_recursion_are_those_of_its_matrix(
    curvlinops: ModuleType, net: nn.Module, batches: list[tuple[Tensor, Tensor]]
) -> None:
    dense = theirs(curvlinops, "HessianLinearOperator", net, batches)
    expected = torch.linalg.eigvalsh(dense).flip(0)
    found = top_eigenvalues(CurvatureOperator(net, losses, batches), 4, rtol=1e-9)
    assert found.values == pytest.approx(expected[:4].tolist(), rel=1e-8)
    lanczos = Lanczos(torch.ones(len(dense), dtype=torch.float64))
    operator = CurvatureOperator(net, losses, batches)
    for _ in range(6):
        lanczos.advance(operator @ lanczos.vector)
    tridiagonal = lanczos.basis @ dense @ lanczos.basis.T
    torch.testing.assert_close(tridiagonal.diagonal(), torch.tensor(lanczos.alpha, dtype=torch.float64), rtol=1e-9, atol=1e-12)
