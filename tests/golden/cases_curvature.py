"""Exact Hessians and their estimates; distances, stability and bounds of the same files are in cases_bounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tests.golden.arrays import Arrays, agree
from tests.golden.networks import cross_entropies, network_of, state_of
from torch import Tensor

from holdfast.measures.distance import displacements
from holdfast.measures.hessian_distance import HessianDistance, hessian_distance, positive_quadratic
from holdfast.measures.lanczos import Lanczos
from holdfast.measures.operators import CurvatureOperator
from holdfast.measures.sketched_trace import hutch_plus_plus, xtrace, xtrace_values
from holdfast.measures.spectrum import spectral_density, top_eigenvalues
from holdfast.measures.trace import probe_values

EVERY_STEP = {"rtol": 0.0, "max_steps": 10_000}
"""Lanczos until its space is invariant, where the value is exact."""


def curvature_mlp_tanh(a: Arrays) -> None:
    weights = operator_of(a, names(a["layer_names"]))
    agree_nearly(weights.dense(), a["H_weights"], rtol=0, atol=1e-10)
    losses_of(a)
    products_of(a, weights)
    spectra_of(a, weights)
    blocks_of(a, weights)
    for head in ("source", "headzero"):
        quadratics_of(a, weights, head)
        units_of(a, weights, head)
    variances_of(a, weights)
    recursion_of(a, weights)


curvature_mlp_gelu = curvature_conv_bn = curvature_mlp_tanh


def operator_of(a: Arrays, layers: Sequence[str], *, batch_size: int | None = None) -> CurvatureOperator:
    parts = [a[key].split(batch_size or len(a["y"])) for key in ("X", "y")]
    return CurvatureOperator(network_of(a), cross_entropies, list(zip(*parts, strict=True)), layers=layers)


def losses_of(a: Arrays) -> None:
    net = network_of(a)
    losses = cross_entropies(net(a["X"]), a["y"])
    agree(net(a["X"]).detach(), a["logits"])
    agree(losses.detach(), a["loss_per_sample"])
    agree(losses.mean().detach(), a["loss_mean"])
    found = torch.autograd.grad(losses.mean(), [net.get_parameter(name) for name in names(a["layer_names"])])
    agree(flat(found), a["grad_weights"])


def products_of(a: Arrays, weights: CurvatureOperator) -> None:
    z = a["hvp_z"]
    agree(weights @ z, a["hvp_Hz"])
    agree(torch.cat(list(weights.full_rows(z).values())), a["hvp_Hz"])
    uneven = operator_of(a, weights.names, batch_size=len(a["y"]) // 2 + 1)
    agree(uneven @ z, a["hvp_Hz"])
    agree(torch.cat(list(uneven.block_products(parts(weights, z)).values())), a["hvp_Hz_blockdiag"])
    agree(operator_of(a, names(a["param_names"])) @ a["hvp_all_z"], a["hvp_all_Hz"])


def spectra_of(a: Arrays, weights: CurvatureOperator) -> None:
    for kind, operator in (("weights", weights), ("all", operator_of(a, names(a["param_names"])))):
        dense = operator.dense()
        agree(dense.trace(), a[f"H_{kind}_trace"])
        expected = a[f"H_{kind}_eigs"]
        agree_nearly(torch.linalg.eigvalsh(dense), expected, rtol=0, atol=1e-9)
        largest = top_eigenvalues(operator, 3, rtol=1e-7)
        smallest = top_eigenvalues(operator, 1, which="smallest", rtol=1e-7)
        assert largest.met
        assert smallest.met
        agree_nearly(torch.tensor(largest.values, dtype=torch.float64), expected.flip(0)[:3], rtol=1e-5, atol=0)
        agree_nearly(torch.tensor(smallest.values, dtype=torch.float64), expected[:1], rtol=1e-5, atol=0)


def blocks_of(a: Arrays, weights: CurvatureOperator) -> None:
    for i, name in enumerate(weights.names):
        block = weights.block(name)
        dense = block.dense()
        eigenvalues = torch.linalg.eigvalsh(dense)
        found = {"trace": dense.trace(), "trace_pos": eigenvalues.clamp_min(0).sum(), "frob": dense.norm()}
        found |= {"lambda_max": eigenvalues[-1], "lambda_min": eigenvalues[0]}
        for key, value in found.items():
            agree_nearly(value, a[f"layer_{key}"][i], rtol=1e-8, atol=1e-10)
        agree_nearly(eigenvalues, a[f"layer_eigs/{i}"], rtol=1e-8, atol=1e-10)
        (largest,) = top_eigenvalues(block, 1, rtol=1e-7).values
        agree_nearly(torch.tensor(largest), a["layer_lambda_max"][i], rtol=1e-5, atol=0)


def quadratics_of(a: Arrays, weights: CurvatureOperator, head: str) -> None:
    v = a[f"v_{head}"]
    exact = hessian_distance(weights, moves(a, head), **EVERY_STEP)
    agree_nearly(only(exact.plain), a[f"vHv_{head}"], rtol=1e-8, atol=1e-11)
    agree_nearly(only(exact.values), a[f"vHpv_{head}"], rtol=1e-6, atol=1e-11)
    row = hessian_distance(weights, moves(a, head), mode="full_row", psd=False)
    agree_nearly(only(row.plain), a[f"vHv_fullrow_{head}"], rtol=1e-8, atol=0)
    agree_nearly(weights.quad(v), a[f"vHv_whole_{head}"], rtol=1e-8, atol=0)
    agree_nearly(positive_quadratic(weights, v, **EVERY_STEP).value, a[f"vHpv_whole_{head}"], rtol=1e-6, atol=0)
    agree_nearly(v @ positive(weights.dense()) @ v, a[f"vHpv_whole_{head}"], rtol=1e-8, atol=0)
    for block, vector, expected in zip(weights.blocks, parts(weights, v).values(), a[f"vHpv_{head}"], strict=True):
        agree_nearly(vector @ positive(weights.block(block.name).dense()) @ vector, expected, rtol=1e-8, atol=1e-11)


def units_of(a: Arrays, weights: CurvatureOperator, head: str) -> None:
    """One-example and batch Hessians, and their maxima."""
    batched = operator_of(a, weights.names, batch_size=int(a["batch_size"]))
    for over in ("sample", "batch"):
        psd = hessian_distance(batched, moves(a, head), over=over, **EVERY_STEP)
        row = hessian_distance(batched, moves(a, head), over=over, mode="full_row", psd=False)
        found = {f"vHv_{head}": psd.plain, f"vHpv_{head}": psd.values, f"vHv_fullrow_{head}": row.plain}
        if head == "source":
            found |= traces_of(batched, over)
        for key, values in found.items():
            each, most = f"{key}_per_{over}", f"{key}_{over}_max"
            tolerance = 1e-6 if "Hpv" in key else 1e-8
            if each in a:
                agree_nearly(torch.as_tensor(values), a[each], rtol=tolerance, atol=1e-11)
            if most in a:
                agree_nearly(torch.as_tensor(values).amax(dim=0), a[most], rtol=tolerance, atol=0)
        if f"vHpv_{head}_{over}_max" in a:
            agree_nearly(maxima(psd), a[f"vHpv_{head}_{over}_max"], rtol=1e-6, atol=0)


def traces_of(operator: CurvatureOperator, over: str) -> dict[str, Tensor]:
    batches = operator.batches
    if over == "sample":
        batches = [(x[i : i + 1], y[i : i + 1]) for x, y in batches for i in range(len(y))]
    spectra = [[torch.linalg.eigvalsh(operator.on(batch).block(name).dense()) for name in operator.names] for batch in batches]
    plain = torch.stack([torch.stack([values.sum() for values in row]) for row in spectra])
    return {"layer_trace": plain, "layer_trace_pos": torch.stack([torch.stack([v.clamp_min(0).sum() for v in row]) for row in spectra])}


def variances_of(a: Arrays, weights: CurvatureOperator) -> None:
    """Variance of one probe, by the formulas that the estimators' tests rely on."""
    dense = weights.dense()

    def rademacher(matrix: Tensor) -> Tensor:
        return 2 * (matrix.square().sum() - matrix.diagonal().square().sum())

    ranges = [slice(block.start, block.stop) for block in weights.blocks]
    own = torch.stack([rademacher(dense[part, part]) for part in ranges])
    others = torch.stack([dense[part].square().sum() - dense[part, part].square().sum() for part in ranges])
    agree_nearly(own, a["hutch_var_rademacher_block"], rtol=1e-8, atol=0)
    agree_nearly(own + others, a["hutch_var_rademacher_layer_jointprobe"], rtol=1e-8, atol=0)
    agree_nearly(torch.stack([2 * dense[part, part].square().sum() for part in ranges]), a["hutch_var_gaussian_block"], rtol=1e-8, atol=0)
    agree_nearly(rademacher(dense), a["hutch_var_rademacher_whole"], rtol=1e-8, atol=0)
    quadratic = probe_values(weights, a["stab_draws"].T) / 2
    for sigma, expected in zip(a["stab_sigma"], a["stab_quadratic_of_draws"], strict=True):
        agree(sigma**2 * quadratic, expected)


def recursion_of(a: Arrays, weights: CurvatureOperator) -> None:
    for i, (name, start) in enumerate(parts(weights, a["v_source"]).items()):
        lanczos, estimates = Lanczos(start), []
        for _ in a[f"lanczos_alpha/{i}"]:
            lanczos.advance(weights.block(name) @ lanczos.vector)
            estimates.append(float(start.square().sum()) * lanczos.positive_part())
        agree_nearly(torch.tensor(lanczos.alpha, dtype=torch.float64), a[f"lanczos_alpha/{i}"], rtol=1e-6, atol=0)
        agree_nearly(torch.tensor(lanczos.beta, dtype=torch.float64), a[f"lanczos_beta/{i}"], rtol=1e-6, atol=0)
        agree_nearly(torch.tensor(estimates, dtype=torch.float64), a["vHpv_source_lanczos_k"][i], rtol=1e-6, atol=0)


def curvature_estimators(a: Arrays) -> None:
    matrix, dimension = a["A"], len(a["A"])
    agree(matrix.trace(), a["trace"])
    agree_nearly(torch.linalg.eigvalsh(matrix), a["exact_eigs"], rtol=0, atol=1e-10)
    agree(a["exact_eigs"].clamp_min(0).sum(), a["exact_trace_pos"])
    samples = probe_values(matrix, a["Z"])
    agree(samples, a["hutchinson_samples"])
    agree(samples.mean(), a["hutchinson"])
    agree(samples.std() / len(samples) ** 0.5, a["hutchinson_stderr"])
    agree(hutch_plus_plus(matrix, sketch=a["S"], probes=a["G"]).value, a["hutchpp"])
    agree_nearly(xtrace(matrix, tests=a["W"]).value, a["xtrace"], rtol=1e-8, atol=0)
    agree_nearly(xtrace_values(matrix, a["W"]), a["xtrace_loo"], rtol=1e-8, atol=0)
    steps, sigma = int(a["slq_k"]), float(a["slq_sigma"])
    found = spectral_density(matrix, steps=steps, starts=list(a["slq_starts"]), sigma=sigma, grid=a["slq_grid"].numpy())
    agree_nearly(torch.tensor(np.array(found.nodes)), a["slq_nodes"], rtol=1e-6, atol=1e-9)
    agree_nearly(torch.tensor(np.array(found.weights)), a["slq_weights"], rtol=1e-6, atol=1e-9)
    agree_nearly(torch.as_tensor(found.density), a["slq_density"], rtol=1e-5, atol=0)
    agree_nearly(found.trace.value, a["slq_trace"], rtol=1e-6, atol=0)
    agree_nearly(found.positive_trace.value, a["slq_trace_pos"], rtol=1e-6, atol=0)
    for start, alpha, beta in zip(a["slq_starts"], a["slq_alpha"], a["slq_beta"], strict=True):
        assert len(start) == dimension
        lanczos = Lanczos(start)
        for _ in range(steps):
            lanczos.advance(matrix @ lanczos.vector)
        agree_nearly(torch.tensor(lanczos.alpha, dtype=torch.float64), alpha, rtol=1e-6, atol=0)
        agree_nearly(torch.tensor(lanczos.beta[:-1], dtype=torch.float64), beta, rtol=1e-6, atol=0)


def moves(a: Arrays, head: str) -> dict[str, Tensor]:
    layers, name = names(a["layer_names"]), str(a["head_name"]).removesuffix(".weight")
    convention = "zero" if head == "headzero" else "source"
    return displacements(network_of(a), state_of(a, "source"), layers=layers, head=convention, head_name=name)


def names(array: object) -> list[str]:
    return [str(name) for name in array]


def parts(operator: CurvatureOperator, vector: Tensor) -> dict[str, Tensor]:
    return {block.name: vector[block.start : block.stop] for block in operator.blocks}


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def positive(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0)) @ vectors.T


def only(table: object) -> Tensor:
    (row,) = torch.as_tensor(table)
    return row


def maxima(found: HessianDistance) -> Tensor:
    return torch.tensor([layer.value for layer in found.layers], dtype=torch.float64)


def agree_nearly(actual: Tensor | float, expected: Tensor, *, rtol: float, atol: float) -> None:
    """At the tolerance that the files state for an array."""
    torch.testing.assert_close(torch.as_tensor(actual, dtype=expected.dtype).reshape(expected.shape), expected, rtol=rtol, atol=atol)
