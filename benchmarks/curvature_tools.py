"""Trace and largest eigenvalues of one network's Hessian as holdfast, PyHessian and curvlinops find them."""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from holdfast.measures.operators import CurvatureOperator
from holdfast.measures.spectrum import top_eigenvalues
from holdfast.measures.trace import hutchinson_trace

__all__ = ["TOOLS", "Eigenvalues", "Problem", "Tool", "installed", "operator"]


@dataclass(frozen=True)
class Problem:
    """A network in eval mode and the one batch whose mean cross-entropy is measured."""

    net: nn.Module
    inputs: Tensor
    labels: Tensor

    def gradient(self) -> None:
        """One forward and backward pass."""
        torch.autograd.grad(cross_entropy(self.net(self.inputs), self.labels), list(self.net.parameters()))


class Eigenvalues(NamedTuple):
    """Values (k,), their vectors as columns (P, k), and the products that it took."""

    values: Tensor
    vectors: Tensor
    products: int


@dataclass(frozen=True)
class Tool:
    """A way to both: ``trace(problem, probes)``, and ``top(problem, k, tolerance)``.

    ``at_once`` is a trace with all probes in one call where that differs.
    """

    package: str
    trace: Callable[[Problem, int], object]
    top: Callable[[Problem, int, float], Eigenvalues]
    at_once: Callable[[Problem, int], object]


def operator(problem: Problem, **options: Any) -> CurvatureOperator:
    """Our Hessian."""
    return CurvatureOperator(problem.net, partial(cross_entropy, reduction="none"), [(problem.inputs, problem.labels)], **options)


def _our_trace(problem: Problem, probes: int) -> float:
    return hutchinson_trace(operator(problem), rtol=1e-12, min_probes=probes, max_probes=probes).total.value


def _our_top(problem: Problem, k: int, tolerance: float) -> Eigenvalues:
    found = top_eigenvalues(operator(problem), k, rtol=tolerance)
    return Eigenvalues(torch.tensor(found.values), found.vectors, found.products)


def _pyhessian(problem: Problem) -> Any:
    from pyhessian import hessian

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a graph that refers to itself
        return hessian(problem.net, cross_entropy, (problem.inputs, problem.labels), cuda=problem.inputs.is_cuda)


def _pyhessian_trace(problem: Problem, probes: int) -> object:
    try:
        return _pyhessian(problem).trace(maxIter=probes, tol=float("-inf"))  # which never stops it
    finally:
        problem.net.zero_grad(set_to_none=True)


def _pyhessian_top(problem: Problem, k: int, tolerance: float) -> Eigenvalues:
    module: Any = importlib.import_module("pyhessian.hessian")  # the package has a class of that name
    products, plain = 0, module.hessian_vector_product

    def counted(*arguments: object) -> object:
        nonlocal products
        products += 1
        return plain(*arguments)

    module.hessian_vector_product = counted
    try:
        values, vectors = _pyhessian(problem).eigenvalues(top_n=k, tol=tolerance)
    finally:
        module.hessian_vector_product = plain
        problem.net.zero_grad(set_to_none=True)
    columns = [torch.cat([part.detach().flatten() for part in vector]) for vector in vectors]
    return Eigenvalues(torch.tensor(values), torch.stack(columns, dim=1), products)


def _curvlinops(problem: Problem) -> Any:
    from curvlinops import HessianLinearOperator

    parameters = list(problem.net.parameters())
    return HessianLinearOperator(
        problem.net, nn.CrossEntropyLoss(), parameters, [(problem.inputs, problem.labels)], check_deterministic=False
    )


def _curvlinops_trace(problem: Problem, probes: int) -> object:
    from curvlinops import hutchinson_trace

    matrix = _curvlinops(problem)
    return [hutchinson_trace(matrix, 1) for _ in range(probes)]


def _curvlinops_trace_at_once(problem: Problem, probes: int) -> object:
    from curvlinops import hutchinson_trace

    return hutchinson_trace(_curvlinops(problem), probes)


def _curvlinops_top(problem: Problem, k: int, tolerance: float) -> Eigenvalues:
    products, matrix = 0, _curvlinops(problem).to_scipy()

    def counted(vector: Any) -> Any:
        nonlocal products
        products += 1
        return matrix @ vector

    values, vectors = eigsh(LinearOperator(matrix.shape, matvec=counted, dtype=matrix.dtype), k=k, which="LA", tol=tolerance)
    return Eigenvalues(torch.tensor(values[::-1].copy()), torch.tensor(vectors[:, ::-1].copy()), products)


TOOLS = {
    "holdfast": Tool("holdfast", _our_trace, _our_top, _our_trace),
    "pyhessian": Tool("pyhessian", _pyhessian_trace, _pyhessian_top, _pyhessian_trace),
    "curvlinops": Tool("curvlinops-for-pytorch", _curvlinops_trace, _curvlinops_top, _curvlinops_trace_at_once),
}
"""By name. holdfast makes its usual check of the data; the far dearer one of curvlinops is off, and its probes come one by one where time
is taken, which is its quickest way."""


def installed(name: str) -> str | None:
    """Version of a tool, None where it is not installed."""
    try:
        return importlib.metadata.version(TOOLS[name].package)
    except importlib.metadata.PackageNotFoundError:
        return None
