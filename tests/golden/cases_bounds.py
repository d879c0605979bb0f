"""Bounds, distances and noise stability; the Hessians themselves are compared by others."""

from __future__ import annotations

import pytest
import torch
from tests.golden.arrays import Arrays, agree
from tests.golden.networks import cross_entropies, network_of, state_of
from torch import Tensor

from holdfast.measures.bounds import Bound, BoundSetting, distance_bound, hessian_bound, isotropic_variance, rank_one_scale
from holdfast.measures.distance import as_matrix, displacements, distances, nuclear
from holdfast.measures.noise_stability import noise_stability, second_order_change


def curvature_bound_table(a: Arrays) -> None:
    for number, values in enumerate(a["cases"].tolist()):
        row = dict(zip(map(str, a["case_columns"]), values, strict=True))
        setting = BoundSetting(n=int(row["n"]), ceiling=row["C"], empirical_loss=row["emp_loss"], eps=row["eps"])
        alpha, trace = named(a[f"alpha/{number}"]), named(a[f"tracepos/{number}"])
        hessian = hessian_bound(named(a[f"h/{number}"]), setting)
        distance, noisy = distance_bound(alpha, trace, setting), distance_bound(alpha, trace, setting, noise_factor=row["rho"])
        agree_tightly(terms(hessian), a[f"per_layer/{number}"])
        agree_tightly(terms(distance), a[f"distance_per_layer/{number}"])
        found = (hessian.measure, hessian.value, distance.measure, distance.value, noisy.value)
        names = ("measure", "bound", "distance_measure", "distance_bound", "noisy_distance_bound")
        assert found == pytest.approx(tuple(row[name] for name in names), rel=1e-12, abs=0)
        assert hessian.vacuous == bool(row["vacuous"])


def curvature_mlp_tanh(a: Arrays) -> None:
    distances_of(a)
    stability_of(a)
    bounds_of(a)


curvature_mlp_gelu = curvature_conv_bn = curvature_mlp_tanh


def distances_of(a: Arrays) -> None:
    net, layers = network_of(a), [str(name) for name in a["layer_names"]]
    head = str(a["head_name"]).removesuffix(".weight")
    source = state_of(a, "source") | state_of(a, "buffer")
    for kind, start in (("dist", source), ("norm", {name: torch.zeros_like(value) for name, value in source.items()})):
        measured = distances(net, start)
        assert [layer.name for layer in measured.layers] == layers
        for norm in ("frob", "infop", "spectral"):
            agree(torch.tensor([getattr(layer, norm) for layer in measured.layers], dtype=torch.float64), a[f"{kind}_{norm}"])
    agree(distances(net, source).l2_total, a["dist_l2_total_weights"])
    moves = displacements(net, source, layers=layers)
    owners = {name: net.get_submodule(name.removesuffix(".weight")) for name in layers}
    agree(torch.tensor([nuclear(as_matrix(owners[name], moves[name])) for name in layers], dtype=torch.float64), a["dist_nuclear"])
    agree(flat(moves.values()), a["v_source"])
    agree(flat(displacements(net, source, layers=layers, head="zero", head_name=head).values()), a["v_headzero"])


def stability_of(a: Arrays) -> None:
    net, layers, traces = network_of(a), [str(name) for name in a["layer_names"]], a["layer_trace"].tolist()
    cut = len(a["X"]) // 2 + 1  # uneven batches, which the mean over examples must not notice
    batches = list(zip(a["X"].split(cut), a["y"].split(cut), strict=True))
    found = noise_stability(net, cross_entropies, batches, a["stab_sigma"].tolist(), layers=layers, draws=a["stab_draws"], trace=traces)
    agree(torch.stack([result.plus for result in found]), a["stab_diff_plus"])
    agree(torch.stack([result.minus for result in found]), a["stab_diff_minus"])
    agree(torch.stack([result.plus.mean() for result in found]), a["stab_mean_plain"])
    agree(torch.tensor([result.mean for result in found], dtype=torch.float64), a["stab_mean_antithetic"])
    agree(torch.tensor([result.second_order for result in found], dtype=torch.float64), a["stab_second_order"])
    for sigma, expected in zip(a["stab_sigma"].tolist(), a["stab_second_order_per_layer"], strict=True):
        agree(torch.tensor([second_order_change(sigma, trace) for trace in traces], dtype=torch.float64), expected)
    agree(second_order_change(a["stab_sigma_per_layer"].tolist(), traces), a["stab_second_order_layerwise_sigma"])


def bounds_of(a: Arrays) -> None:
    n, ceiling, eps, loss = int(a["bound_n"]), float(a["bound_C"]), float(a["bound_eps"]), float(a["bound_emp_loss"])
    setting = BoundSetting(n=n, ceiling=ceiling, empirical_loss=loss, eps=eps)
    hessian = hessian_bound(named(a["bound_h"]), setting)
    agree(terms(hessian), a["bound_measure_per_layer"])
    agree(hessian.measure, a["bound_measure"])
    agree(hessian.value, a["bound_total"])
    agree(hessian_bound(named(a["vHpv_headzero_sample_max"]), setting).value, a["bound_total_headzero"])
    agree(terms(hessian) / 2**0.5, a["bound_tight_per_layer"])
    assert hessian.tight == pytest.approx(float(a["bound_tight_per_layer"].sum()), rel=1e-10)
    without = hessian_bound(named(a["bound_h"]), BoundSetting(n=n, ceiling=1.0, empirical_loss=0.0, eps=eps))
    agree(terms(without), a["bound_measure_noC_per_layer"])
    traces = a["layer_trace_pos_sample_max"]
    distance = distance_bound(named(a["bound_alpha"]), named(traces), setting)
    agree(terms(distance), a["bound_distance_per_layer"])
    agree(distance.value, a["bound_distance_total"])
    pairs = zip(a["dist_frob"].tolist(), traces.tolist(), strict=True)
    agree(torch.tensor([isotropic_variance(*pair, setting) for pair in pairs], dtype=torch.float64), a["opt_sigma2_isotropic"])
    agree(torch.tensor([rank_one_scale(h, setting) for h in a["bound_h"].tolist()], dtype=torch.float64), a["opt_scale_rankone"])


def named(values: Tensor) -> dict[str, float]:
    return {str(number): value for number, value in enumerate(values.tolist())}


def terms(bound: Bound) -> Tensor:
    return torch.tensor(list(bound.terms.values()), dtype=torch.float64)


def agree_tightly(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0)


def flat(parts: object) -> Tensor:
    return torch.cat([part.flatten() for part in parts])
