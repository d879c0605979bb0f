"""Operators against dense matrices that torch.func forms without our code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from timm.models import create_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from holdfast.errors import ConfigError, DataError, ModelError, NonDeterministicError, NonFiniteError, ShapeError
from holdfast.measures.operators import CurvatureOperator
from holdfast.types import Batch

losses = partial(cross_entropy, reduction="none")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def data(rows: int = 7, *shape: int) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(rows, *(shape or (3,)), generator=seeded(2), dtype=torch.float64)
    return inputs, torch.randint(3, (rows,), generator=seeded(3))


def flat_function(net: nn.Module, inputs: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """All parameters as one vector, and the logits as a function of it."""
    parameters = dict(net.named_parameters())

    def logits(vector: Tensor) -> Tensor:
        parts = vector.split([value.numel() for value in parameters.values()])
        values = {name: part.view_as(parameters[name]) for name, part in zip(parameters, parts, strict=True)}
        return torch.func.functional_call(net, values, (inputs,))

    return torch.cat([value.detach().flatten() for value in parameters.values()]), logits


def dense_hessian(net: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    vector, logits = flat_function(net, inputs)
    return torch.autograd.functional.hessian(lambda w: cross_entropy(logits(w), labels), vector)


@pytest.mark.parametrize("chunk_size", [1, 4])
@pytest.mark.parametrize("size", [7, 3])
def test_hessian_is_that_of_the_mean_loss_whatever_the_batches(size: int, chunk_size: int) -> None:
    net, (inputs, labels) = small_net(), data()
    batches = list(zip(inputs.split(size), labels.split(size), strict=True))
    operator = CurvatureOperator(net, losses, batches, chunk_size=chunk_size)
    expected = dense_hessian(net, inputs, labels)
    torch.testing.assert_close(operator.dense(), expected, rtol=1e-10, atol=1e-12)
    vector = torch.randn(len(expected), generator=seeded(4), dtype=torch.float64)
    torch.testing.assert_close(operator @ vector, expected @ vector, rtol=1e-10, atol=1e-12)
    assert operator.quad(vector) == pytest.approx(float(vector @ expected @ vector))


def test_gauss_newton_and_fisher_are_the_definitions_summed_over_examples() -> None:
    net, (inputs, labels) = small_net(), data()
    vector, logits = flat_function(net, inputs)
    jacobian, probs = torch.func.jacrev(logits)(vector), net(inputs).detach().softmax(dim=1)
    newton, empirical = (torch.zeros(len(vector), len(vector), dtype=torch.float64) for _ in range(2))
    for n, label in enumerate(labels):
        for k in range(3):
            score = jacobian[n].T @ (torch.eye(3, dtype=torch.float64)[k] - probs[n])
            newton += probs[n, k] * torch.outer(score, score) / len(labels)
            empirical += (k == label) * torch.outer(score, score) / len(labels)
    batches = list(zip(inputs.split(4), labels.split(4), strict=True))
    for kind, expected in (("gauss-newton", newton), ("fisher", newton), ("empirical-fisher", empirical)):
        for chunk_size in (1, 5):
            found = CurvatureOperator(net, losses, batches, kind=kind, chunk_size=chunk_size).dense()
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_gauss_newton_of_a_loss_that_is_linear_in_the_logits_is_zero() -> None:
    operator = CurvatureOperator(small_net(), lambda logits, labels: logits[:, 0], [data()], kind="gauss-newton")
    assert not operator.dense().any()


def test_layer_products_take_the_block_or_the_full_row() -> None:
    net, (inputs, labels) = small_net(), data()
    operator = CurvatureOperator(net, losses, [(inputs, labels)], layers=["2.weight", "0.weight"])
    dense, cut = operator.dense(), 12
    first, second = slice(0, cut), slice(cut, None)
    vector = torch.randn(24, generator=seeded(5), dtype=torch.float64)
    rows = operator.full_rows(vector)
    torch.testing.assert_close(rows["0.weight"], (dense @ vector)[second])
    torch.testing.assert_close(operator.block("0.weight") @ vector[second], dense[second, second] @ vector[second])
    torch.testing.assert_close(operator.block("2.weight").dense(), dense[first, first])
    expected = [vector[part] @ dense[part, part] @ vector[part] for part in (first, second)]
    torch.testing.assert_close(operator.layer_quads(vector), torch.stack(expected))
    assert float(operator.layer_quads(vector, mode="full_row").sum()) == pytest.approx(operator.quad(vector))


@pytest.mark.parametrize("chunk_size", [1, 2])
def test_numbers_of_every_full_row_are_those_of_the_products(chunk_size: int) -> None:
    net, (inputs, labels) = small_net(), data()
    batches = list(zip(inputs.split(4), labels.split(4), strict=True))
    operator = CurvatureOperator(net, losses, batches, layers=["2.weight", "0.weight"], chunk_size=chunk_size)
    vectors = torch.randn(24, 3, generator=seeded(5), dtype=torch.float64)
    terms = vectors * (operator.dense() @ vectors)
    before = operator.products
    torch.testing.assert_close(operator.full_row_quads(vectors), torch.stack([terms[:12].sum(0), terms[12:].sum(0)], dim=1))
    assert operator.products - before == 3


def test_order_of_layers_is_the_one_asked_for() -> None:
    net, (inputs, labels) = small_net(), data()
    vector, _ = flat_function(net, inputs)
    expected = dense_hessian(net, inputs, labels)
    places = torch.cat([torch.arange(16, 28), torch.arange(0, 12)])  # of 2.weight and 0.weight among all parameters
    operator = CurvatureOperator(net, losses, [(inputs, labels)], layers=["2.weight", "0.weight"])
    assert operator.names == ("2.weight", "0.weight")
    torch.testing.assert_close(operator.dense(), expected[places][:, places])
    assert len(vector) == 31


class Tied(nn.Module):
    """One matrix used twice, under two names: as one parameter, or as two over the same memory."""

    def __init__(self, *, one_object: bool) -> None:
        super().__init__()
        self.first, self.second = (nn.Linear(3, 3, bias=False, dtype=torch.float64) for _ in range(2))
        self.second.weight = self.first.weight if one_object else nn.Parameter(self.first.weight.data)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(self.first(inputs).tanh())


@pytest.mark.parametrize("one_object", [True, False])
def test_tied_weights_are_one_layer_with_the_curvature_of_both_uses(one_object: bool) -> None:
    net, (inputs, labels) = Tied(one_object=one_object), data()

    def loss(weight: Tensor) -> Tensor:
        return cross_entropy((inputs @ weight.view(3, 3).T).tanh() @ weight.view(3, 3).T, labels)

    operator = CurvatureOperator(net, losses, [(inputs, labels)])
    assert operator.names == ("first.weight",)
    expected = torch.autograd.functional.hessian(loss, net.first.weight.detach().flatten())
    torch.testing.assert_close(operator.dense(), expected)
    torch.testing.assert_close(operator.block("second.weight").dense(), expected)


def test_frozen_weights_stay_out_and_unused_ones_give_zeros() -> None:
    net, (inputs, labels) = small_net(), data()
    net.add_module("unused", nn.Linear(2, 2, bias=False, dtype=torch.float64))
    net.forward = lambda inputs: net[2](net[1](net[0](inputs)))  # type: ignore[method-assign]
    net[0].requires_grad_(False)
    for kind in ("hessian", "gauss-newton"):
        operator = CurvatureOperator(net, losses, [(inputs, labels)], kind=kind)
        assert operator.names == ("2.weight", "2.bias", "unused.weight")
        dense = operator.dense()
        assert not dense[-4:].any()
        assert not dense[:, -4:].any()
        assert dense[:15, :15].any()
        assert not operator.block("unused.weight").dense().any()
    assert all(parameter.grad is None for parameter in net.parameters())


def test_batchnorm_is_constant_and_modes_and_statistics_stay_as_they_were() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 3)).double().train()
    net[3].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    inputs, labels = data()
    found = CurvatureOperator(net, losses, [(inputs, labels)]).dense()
    assert [module.training for module in net] == [True, True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    torch.testing.assert_close(found, dense_hessian(net.eval(), inputs, labels))


def test_batchnorm_without_statistics_is_refused() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False)).double()
    with pytest.raises(ModelError, match=r"^1 is BatchNorm without running statistics"):
        CurvatureOperator(net, losses, [data()])


def test_fused_attention_is_measured() -> None:
    torch.manual_seed(0)
    options = {"img_size": 32, "embed_dim": 12, "depth": 1, "num_heads": 2, "num_classes": 3}
    net = create_model("vit_tiny_patch16_224", **options).double()
    inputs, labels = data(2, 3, 32, 32)
    layers = ["blocks.0.attn.qkv.weight", "head.weight"]
    batch = [(inputs, labels)]
    exact = CurvatureOperator(net, losses, batch, layers=layers)
    differences = CurvatureOperator(net, losses, batch, layers=layers, differences=True)
    vector = torch.randn(exact.shape[0], 2, generator=seeded(6), dtype=torch.float64)
    torch.testing.assert_close(exact @ vector, differences @ vector, rtol=1e-5, atol=1e-8)
    assert torch.isfinite(CurvatureOperator(net, losses, batch, layers=layers, kind="fisher") @ vector).all()


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, inputs: Tensor) -> Tensor:
        return inputs * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient * 2


class Doubling(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return Once.apply(inputs)


def test_operation_without_second_derivative_is_named_and_differences_do() -> None:
    net, (inputs, labels) = small_net(), data()
    expected = CurvatureOperator(net, lambda logits, labels: losses(2 * logits, labels), [(inputs, labels)]).dense()
    net = nn.Sequential(net, Doubling())
    with pytest.raises(ModelError, match=r"operation without second derivative .* differences=True"):
        CurvatureOperator(net, losses, [(inputs, labels)]).dense()
    found = CurvatureOperator(net, losses, [(inputs, labels)], differences=True).dense()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_one_batch_keeps_its_graph_and_several_share_a_pass() -> None:
    net, (inputs, labels) = small_net(), data()
    passes = []
    net.register_forward_hook(lambda *_: passes.append(1))
    operator = CurvatureOperator(net, losses, [(inputs, labels)], check=False)
    vector = torch.ones(operator.shape[0], dtype=torch.float64)
    with operator.keeping():
        first = operator @ vector
        assert torch.equal(operator @ vector, first)
        assert len(passes) == 1
    assert operator.products == 2
    torch.testing.assert_close(operator @ vector, first)
    assert len(passes) == 2
    several = CurvatureOperator(net, losses, [(inputs[:4], labels[:4]), (inputs[4:], labels[4:])], check=False)
    torch.testing.assert_close((several @ vector[:, None].repeat(1, 5))[:, 4], first)
    assert len(passes) == 4


class Recorded:
    """One of two ranks, played one after the other: the first remembers what it would send, the second adds it."""

    rank, size = 0, 2

    def __init__(self) -> None:
        self.sent: Tensor | None = None

    def sum(self, tensor: Tensor) -> Tensor:
        if self.sent is None:
            self.sent = tensor.clone()
            return tensor
        return tensor + self.sent


def test_uneven_shares_of_ranks_sum_to_the_whole() -> None:
    net, (inputs, labels) = small_net(), data()
    comm = Recorded()
    vector = torch.randn(31, generator=seeded(7), dtype=torch.float64)
    for share in (slice(0, 5), slice(5, 7)):
        found = CurvatureOperator(net, losses, [(inputs[share], labels[share])], comm=comm, check=False) @ vector  # type: ignore[arg-type]
    torch.testing.assert_close(found, CurvatureOperator(net, losses, [(inputs, labels)]) @ vector)


def test_ranks_ask_for_as_many_products_at_once_whether_or_not_they_keep_a_graph() -> None:
    net, batch = small_net(), data()
    alone, chunked = (CurvatureOperator(net, losses, [batch], check=False, chunk_size=size) for size in (1, 4))
    one_of_two = CurvatureOperator(net, losses, [batch], comm=Recorded(), check=False)  # type: ignore[arg-type]
    with alone.keeping(), chunked.keeping(), one_of_two.keeping():
        assert [operator.probes_per_pass for operator in (alone, chunked, one_of_two)] == [1, 4, 8]


def test_batches_and_outputs_of_other_forms_are_read() -> None:
    net, (inputs, labels) = small_net(), data()

    class ByKeyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, *, pixels: Tensor) -> object:
            return type("Output", (), {"logits": self.net(pixels)})

    batch = Batch({"pixels": inputs}, labels, torch.arange(len(labels)))
    torch.testing.assert_close(CurvatureOperator(ByKeyword(), losses, [batch]).dense(), dense_hessian(net, inputs, labels))


class Shuffled:
    """Other inputs in every pass."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        inputs, labels = data()
        yield torch.randn_like(inputs), labels


def test_data_that_differs_between_passes_is_refused() -> None:
    with pytest.raises(NonDeterministicError, match=r"two passes over the data gave losses 1\.\d+ and .*check=False"):
        CurvatureOperator(small_net(), losses, Shuffled())
    with pytest.raises(NonDeterministicError, match="two products with the same vector differ"):
        CurvatureOperator(small_net(), losses, Shuffled(), check=False).check_repeatable()
    CurvatureOperator(small_net(), losses, [data()]).check_repeatable()


def test_wrong_use_is_refused_in_words() -> None:
    net, batch = small_net(), data()
    with pytest.raises(DataError, match="passed over again"):
        CurvatureOperator(net, losses, iter([batch]))
    with pytest.raises(ShapeError, match=r"one number for each of the 7 examples, got shape \(\)"):
        CurvatureOperator(net, cross_entropy, [batch])
    with pytest.raises(ConfigError, match=r"unknown matrix 'hesian'. Did you mean 'hessian'\?"):
        CurvatureOperator(net, losses, [batch], kind="hesian")
    with pytest.raises(ConfigError, match=r"no parameter '0.wight'. Did you mean '0.weight'\?"):
        CurvatureOperator(net, losses, [batch], layers=["0.wight"])
    with pytest.raises(ConfigError, match="named twice"):
        CurvatureOperator(net, losses, [batch], layers=["0.weight", "0.weight"])
    with pytest.raises(ShapeError, match=r"has 31 entries, got \(4,\)"):
        CurvatureOperator(net, losses, [batch]) @ torch.ones(4, dtype=torch.float64)
    with pytest.raises(NonFiniteError, match="mean loss is nan"):
        CurvatureOperator(net, losses, [(batch[0] * float("nan"), batch[1])])
    with pytest.raises(ModelError, match=r"got torch.bfloat16; convert the network with .float\(\)"):
        CurvatureOperator(small_net().bfloat16(), losses, [batch])
    with pytest.raises(ConfigError, match="every one is frozen"):
        CurvatureOperator(small_net().requires_grad_(False), losses, [batch])
