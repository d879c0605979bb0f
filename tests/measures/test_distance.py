from __future__ import annotations

import itertools
import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from holdfast.errors import ConfigError, ModelError, ShapeError
from holdfast.measures import distance
from holdfast.measures.distance import as_matrix, displacements, distances, infop, nuclear, spectral


def small_network() -> nn.Sequential:
    torch.manual_seed(3)
    layers = OrderedDict(
        conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4, eps=1e-3), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), head=nn.Linear(4, 2)
    )
    return nn.Sequential(layers).double()


def state(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


@pytest.fixture
def moved() -> tuple[nn.Sequential, dict[str, Tensor]]:
    """A network, and tensors that it may have started from."""
    net = small_network()
    generator = torch.Generator().manual_seed(5)
    start = {name: value + torch.randn(value.shape, generator=generator).abs() for name, value in state(net).items()}
    return net, start


def test_norms_of_a_layer_are_those_of_loops_and_numpy(moved) -> None:
    net, start = moved
    found = distances(net, start).layers
    assert [(layer.name, layer.shape, layer.form) for layer in found] == [
        ("conv.weight", (4, 3, 3, 3), "kernel"),
        ("head.weight", (2, 4), "matrix"),
    ]
    for layer in found:
        difference = (net.get_parameter(layer.name).detach() - start[layer.name]).numpy()
        rows = [list(row.ravel()) for row in difference]
        assert layer.frob == pytest.approx(math.sqrt(sum(entry**2 for row in rows for entry in row)), rel=1e-12)
        assert layer.infop == pytest.approx(max(sum(abs(entry) for entry in row) for row in rows), rel=1e-12)
        assert layer.spectral == pytest.approx(np.linalg.svd(np.array(rows), compute_uv=False)[0], rel=1e-12)


def test_infop_is_the_most_that_the_largest_entry_of_a_vector_can_grow(seeded) -> None:
    matrix = torch.randn(4, 6, generator=seeded(0), dtype=torch.float64)
    corners = [torch.tensor(signs, dtype=torch.float64) for signs in itertools.product((-1, 1), repeat=6)]
    assert infop(matrix) == pytest.approx(max(float((matrix @ corner).abs().max()) for corner in corners), rel=1e-12)


def test_totals_are_over_weights_only(moved) -> None:
    found = distances(*moved)
    assert found.l2_total == pytest.approx(math.sqrt(sum(layer.frob**2 for layer in found.layers)), rel=1e-12)
    assert found.frob_total == pytest.approx(sum(layer.frob for layer in found.layers), rel=1e-12)


def test_batchnorm_is_the_diagonal_by_which_it_multiplies_in_eval_mode(moved) -> None:
    net, start = moved
    (layer,) = distances(net, start).batchnorm
    assert (layer.name, layer.form, layer.shape) == ("bn.weight", "diagonal", (4,))
    before = small_network()
    before.load_state_dict(start | {"bn.num_batches_tracked": torch.tensor(0)})
    probe = torch.eye(4, dtype=torch.float64)[:, :, None, None]

    def multiplier(network: nn.Sequential) -> Tensor:
        bn = network.bn.eval()
        return (bn(probe) - bn(torch.zeros_like(probe)))[..., 0, 0].detach()

    difference = (multiplier(net) - multiplier(before)).numpy()
    assert layer.frob == pytest.approx(np.linalg.norm(difference), rel=1e-9)
    assert layer.infop == pytest.approx(np.linalg.norm(difference, np.inf), rel=1e-9)
    assert layer.spectral == pytest.approx(np.linalg.norm(difference, 2), rel=1e-9)


def test_nothing_moved_is_distance_zero() -> None:
    net = small_network()
    found = distances(net, state(net))
    assert all(layer.frob == layer.infop == layer.spectral == 0 for layer in (*found.layers, *found.batchnorm))
    assert found.l2_total == 0


def test_head_can_be_measured_from_zero_without_an_initial_one(moved) -> None:
    net, start = moved
    weight = net.head.weight.detach()
    del start["head.weight"]
    found = distances(net, start, head="zero").layers
    assert found[1].frob == pytest.approx(float(weight.norm()), rel=1e-12)
    with pytest.raises(ModelError, match=r"the source has no 'head.weight'.*or measure the head from zero"):
        distances(net, start)


def test_displacements_are_differences_in_the_shape_of_the_weights(moved) -> None:
    net, start = moved
    found = displacements(net, start, layers=["head.weight", "conv.weight"])
    assert list(found) == ["head.weight", "conv.weight"]
    for name, move in found.items():
        assert torch.equal(move, net.get_parameter(name).detach() - start[name])
        assert not move.requires_grad
    zero = displacements(net, start, head="zero")
    assert torch.equal(zero["head.weight"], net.head.weight.detach())
    assert torch.equal(zero["conv.weight"], found["conv.weight"])


def test_the_network_and_the_source_are_left_as_they_are(moved) -> None:
    net, start = moved
    before, source = state(net), {name: value.clone() for name, value in start.items()}
    distances(net, start, head="zero")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(value, source[name]) for name, value in start.items())


def test_weights_of_half_precision_are_subtracted_in_float64() -> None:
    net = nn.Sequential(nn.Linear(3, 2, bias=False)).to(torch.bfloat16)
    start = {"0.weight": net[0].weight.detach().double() + 1e-9}
    assert distances(net, start).l2_total == pytest.approx(1e-9 * 6**0.5, rel=1e-6)


@pytest.mark.parametrize("shape", [(600, 530), (530, 600), (513, 4000)])
def test_largest_singular_value_of_a_large_matrix_is_that_of_numpy(seeded, shape) -> None:
    matrix = torch.randn(shape, generator=seeded(0), dtype=torch.float64)
    expected = float(torch.linalg.eigvalsh(matrix @ matrix.T if shape[0] < shape[1] else matrix.T @ matrix)[-1].sqrt())
    assert spectral(matrix) == pytest.approx(expected, rel=1e-9)  # the stated 1e-6, squared in practice
    assert spectral(matrix, tolerance=0.02) == pytest.approx(expected, rel=0.02)


def test_largest_singular_value_of_degenerate_matrices_is_found(monkeypatch, seeded) -> None:
    monkeypatch.setattr(distance, "EXACT", 0)
    column, row = (torch.randn(9, generator=seeded(seed), dtype=torch.float64) for seed in (0, 1))
    assert spectral(torch.outer(column, row)) == pytest.approx(float(column.norm() * row.norm()), rel=1e-12)
    assert spectral(torch.zeros(5, 7)) == 0
    assert spectral(torch.eye(8)) == pytest.approx(1, rel=1e-12)
    assert spectral(torch.tensor([[3.0]])) == pytest.approx(3, rel=1e-12)


def test_all_singular_values_are_computed_where_the_iteration_does_not_converge(monkeypatch, seeded) -> None:
    matrix = torch.randn(40, 30, generator=seeded(0), dtype=torch.float64)
    monkeypatch.setattr(distance, "EXACT", 0)
    monkeypatch.setattr(distance, "STEPS", 2)
    assert spectral(matrix) == pytest.approx(np.linalg.svd(matrix.numpy(), compute_uv=False)[0], rel=1e-12)


def test_norms_ignore_rotations_or_permutations_as_they_should(seeded) -> None:
    matrix = torch.randn(5, 8, generator=seeded(0), dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=seeded(1), dtype=torch.float64)).Q
    assert spectral(rotation @ matrix) == pytest.approx(spectral(matrix), rel=1e-12)
    assert nuclear(rotation @ matrix) == pytest.approx(nuclear(matrix), rel=1e-12)
    assert infop(matrix[torch.randperm(5)][:, torch.randperm(8)]) == pytest.approx(infop(matrix), rel=1e-12)
    assert infop(matrix.T) != pytest.approx(infop(matrix), rel=1e-3)
    assert nuclear(matrix) == pytest.approx(np.linalg.norm(matrix.numpy(), "nuc"), rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "groups"), [(nn.Conv1d, 1), (nn.Conv2d, 2), (nn.ConvTranspose1d, 1), (nn.ConvTranspose2d, 1), (nn.ConvTranspose2d, 2)]
)
def test_every_row_of_the_matrix_belongs_to_one_output_channel(kind: type[nn.Module], groups: int) -> None:
    layer = kind(4, 6, 3, groups=groups, bias=False)
    inputs = torch.randn(2, 4, *[5] * (layer.weight.ndim - 2))
    for channel in range(6):
        (gradient,) = torch.autograd.grad(layer(inputs)[:, channel].sum(), layer.weight)
        rows = as_matrix(layer, gradient)
        assert rows.shape == (6, layer.weight.numel() // 6)
        assert rows.abs().sum(dim=1).nonzero().flatten().tolist() == [channel]


def test_a_source_of_another_architecture_is_named(moved) -> None:
    net, start = moved
    start["conv.weight"] = torch.zeros(8, 3, 3, 3)
    with pytest.raises(ModelError, match=r"conv.weight has shape \(4, 3, 3, 3\) in the network and \(8, 3, 3, 3\) in the source"):
        distances(net, start)


@pytest.mark.parametrize("name", ["head.weight", "bn.running_var"])
def test_values_that_are_not_finite_are_named(moved, name: str) -> None:
    net, start = moved
    start[name][0] = math.nan
    with pytest.raises(ModelError, match=f"{name.partition('.')[0]}.weight has values that are NaN or infinite"):
        distances(net, start)


@pytest.mark.parametrize("name", ["head.bias", "conv", "nothing.weight"])
def test_a_layer_that_is_no_weight_is_refused(moved, name: str) -> None:
    with pytest.raises(ConfigError, match=f"layers: '{name}' is no weight"):
        distances(*moved, layers=[name])


def test_norms_are_of_matrices_only() -> None:
    for norm in (infop, nuclear, spectral):
        with pytest.raises(ShapeError, match=r"matrix must be \(M, N\), got \(3,\)"):
            norm(torch.zeros(3))
