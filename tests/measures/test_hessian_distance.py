"""vᵀ H v and vᵀ H⁺ v of layers against dense Hessians and their eigenvalues."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from holdfast.errors import ConfigError, ShapeError
from holdfast.measures.hessian_distance import hessian_distance, positive_quadratic
from holdfast.measures.measurement import Budget
from holdfast.measures.operators import CurvatureOperator

LAYERS = ("0.weight", "2.weight")


def operator(batch_size: int = 4) -> CurvatureOperator:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    inputs, labels = 3 * torch.randn(10, 5, dtype=torch.float64), torch.randint(3, (10,))
    batches = list(zip(inputs.split(batch_size), labels.split(batch_size), strict=True))
    return CurvatureOperator(net, partial(cross_entropy, reduction="none"), batches, layers=LAYERS)


def moves() -> dict[str, Tensor]:
    torch.manual_seed(4)
    return {"0.weight": torch.randn(6, 5, dtype=torch.float64), "2.weight": torch.randn(3, 6, dtype=torch.float64)}


def exact(operator: CurvatureOperator) -> tuple[Tensor, Tensor]:
    """Plain and positive quadratic form of each layer, by eigenvalues."""
    pairs = []
    for name, move in moves().items():
        values, vectors = torch.linalg.eigh(operator.block(name).dense())
        along = (vectors.T @ move.flatten()).square()
        pairs.append((along @ values, along @ values.clamp_min(0)))
    plain, positive = zip(*pairs, strict=True)
    return torch.stack(plain), torch.stack(positive)


def test_mean_of_the_data_gives_the_exact_forms() -> None:
    found = hessian_distance(operator(), moves(), rtol=1e-9)
    plain, positive = exact(operator())
    torch.testing.assert_close(torch.tensor(found.plain[0]), plain)
    torch.testing.assert_close(torch.tensor(found.values[0]), positive, rtol=1e-6, atol=1e-12)
    assert all(layer.met and layer.value >= layer.plain * (1 - 1e-12) for layer in found.layers)
    assert positive[0] > 1.01 * plain[0]


def test_default_accuracy_is_reached_in_few_products() -> None:
    found = hessian_distance(operator(), moves())
    torch.testing.assert_close(torch.tensor(found.values[0]), exact(operator())[1], rtol=0.04, atol=0)
    assert found.products < 30


@pytest.mark.parametrize("over", ["batch", "sample"])
def test_maximum_is_taken_for_each_layer_over_its_units(over: str) -> None:
    whole = operator()
    batches = whole.batches if over == "batch" else [(x[i : i + 1], y[i : i + 1]) for x, y in whole.batches for i in range(len(y))]
    table = torch.stack([exact(whole.on(batch))[1] for batch in batches])
    found = hessian_distance(whole, moves(), over=over, rtol=1e-9)
    torch.testing.assert_close(torch.tensor(found.values), table, rtol=1e-6, atol=1e-9)
    assert [layer.argmax for layer in found.layers] == table.argmax(dim=0).tolist()
    assert [layer.value for layer in found.layers] == pytest.approx(table.amax(dim=0).tolist(), rel=1e-6)
    torch.testing.assert_close(torch.tensor(found.quantiles()[0.5]), table.quantile(0.5, dim=0), rtol=1e-6, atol=1e-9)


def test_negative_curvature_is_flagged_and_counts_as_zero_where_it_is_not_taken_out() -> None:
    plain = hessian_distance(operator(), moves(), over="sample", psd=False)
    assert (plain.plain < 0).any()
    assert (plain.values >= 0).all()
    assert [layer.negative for layer in plain.layers] == (plain.plain < 0).any(axis=0).tolist()


def test_published_form_is_the_full_row_whose_sum_is_the_whole_form() -> None:
    whole = operator()
    found = hessian_distance(whole, moves(), mode="full_row", psd=False)
    vector = torch.cat([move.flatten() for move in moves().values()])
    assert found.plain.sum() == pytest.approx(whole.quad(vector))
    assert found.products == 1
    with pytest.raises(ConfigError, match="add psd=False"):
        hessian_distance(whole, moves(), mode="full_row")


def test_layer_that_did_not_move_is_zero() -> None:
    still = moves() | {"0.weight": torch.zeros(6, 5)}
    found = hessian_distance(operator(), still)
    assert (found.layers[0].value, found.layers[0].met) == (0.0, True)
    assert found.layers[1].value > 0
    assert positive_quadratic(torch.eye(3), torch.zeros(3)).value == 0


def test_units_beyond_the_budget_are_left_out_and_told() -> None:
    found = hessian_distance(operator(), moves(), over="sample", budget=Budget(products=9))
    assert found.products <= 9
    assert not found.complete
    with pytest.raises(ConfigError, match="nothing was measured"):
        hessian_distance(operator(), moves(), budget=Budget(products=1))


def test_displacements_of_other_layers_or_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"only one of them has 2\.weight"):
        hessian_distance(operator(), {"0.weight": moves()["0.weight"]})
    with pytest.raises(ShapeError, match=r"displacement of 0\.weight must have shape \(6, 5\), got \(2,\)"):
        hessian_distance(operator(), moves() | {"0.weight": torch.ones(2)})
