from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from holdfast.errors import ConfigError, NonFiniteError, ShapeError
from holdfast.measures.noise_stability import NoiseStability, noise_stability, relative_sigmas, second_order_change


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels, reduction="none")


def halves(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum(dim=1) / 2


def network() -> nn.Sequential:
    torch.manual_seed(1)
    layers = (nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 3))
    return nn.Sequential(*layers).double()


@pytest.fixture
def data() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(7, 2, 4, 4, generator=generator, dtype=torch.float64)
    return [(inputs[:4], torch.tensor([0, 1, 2, 0])), (inputs[4:], torch.tensor([1, 1, 2]))]


def mean_loss(net: nn.Module, data: list[tuple[Tensor, Tensor]]) -> float:
    with torch.no_grad():
        return float(torch.cat([losses(net(inputs), labels) for inputs, labels in data]).mean())


def test_changes_are_those_of_a_network_whose_weights_are_really_moved(data) -> None:
    net = network()
    draws = torch.randn(3, 54 + 36, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    sigmas = [0.05, (0.01, 0.2)]
    found = noise_stability(net, losses, data, sigmas, draws=draws)
    net.eval()
    base = mean_loss(net, data)
    for result, (first, second) in zip(found, ((0.05, 0.05), (0.01, 0.2)), strict=True):
        for number, draw in enumerate(draws):
            for changes, sign in ((result.plus, 1), (result.minus, -1)):
                copy = network().eval()
                with torch.no_grad():
                    copy[0].weight += sign * first * draw[:54].reshape(3, 2, 3, 3)
                    copy[5].weight += sign * second * draw[54:].reshape(3, 12)
                assert float(changes[number]) == pytest.approx(mean_loss(copy, data) - base, abs=1e-14)


def test_mean_and_standard_error_are_over_pairs() -> None:
    plus, minus = torch.tensor([1.0, 2.0, 6.0]).double(), torch.tensor([1.0, 0.0, -2.0]).double()
    result = NoiseStability(0.1, plus, minus, second_order=0.5)
    assert result.mean == pytest.approx((1 + 1 + 2) / 3)
    assert result.stderr == pytest.approx(math.sqrt(((1 / 3) ** 2 * 2 + (2 / 3) ** 2) / 2 / 3))
    assert result.ratio == pytest.approx(8 / 3)
    single = NoiseStability(0.1, plus[:1], minus[:1], second_order=None)
    assert single.stderr == math.inf
    assert single.ratio is None


def test_a_quadratic_loss_has_its_prediction_up_to_the_sampling_error() -> None:
    torch.manual_seed(0)
    net, inputs = nn.Linear(6, 3, dtype=torch.float64), torch.randn(20, 6, dtype=torch.float64)
    data = [(inputs, torch.randn(20, 3, dtype=torch.float64))]
    trace = float(3 * inputs.square().sum(dim=1).mean())  # the Hessian in W is the second moment of the inputs, once for each output
    small, large = noise_stability(net, halves, data, [1e-3, 10.0], draws=400, trace=trace)
    for result, sigma in ((small, 1e-3), (large, 10.0)):
        assert result.second_order == pytest.approx(sigma**2 * trace / 2)
        assert abs(result.mean - result.second_order) < 4 * result.stderr
    assert small.stderr < 0.1 * small.mean
    assert large.mean == pytest.approx(1e8 * small.mean, rel=1e-6)  # no odd orders, and here no higher even ones
    assert float(small.plus.std()) > 10 * float(small.pairs.std())  # what the pairs have cancelled


def test_the_same_seed_gives_the_same_numbers_whatever_the_batches_are(data) -> None:
    net = network()
    joined = [(torch.cat([inputs for inputs, _ in data]), torch.cat([labels for _, labels in data]))]
    (first,), (again,), (other,) = (noise_stability(net, losses, data, [0.1], draws=4, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.plus, again.plus)
    assert torch.equal(first.minus, again.minus)
    assert not torch.equal(first.plus, other.plus)
    assert len(set(first.plus.tolist())) == 4
    (whole,) = noise_stability(net, losses, joined, [0.1], draws=4)
    torch.testing.assert_close(whole.plus, first.plus, rtol=0, atol=1e-14)
    (fewer,) = noise_stability(net, losses, iter(data), [0.1], draws=2)
    torch.testing.assert_close(fewer.plus, first.plus[:2], rtol=0, atol=0)


def test_global_random_state_has_no_part_and_is_not_used(data) -> None:
    net = network()
    (first,) = noise_stability(net, losses, data, [0.1], draws=2)
    torch.rand(5)
    state = torch.get_rng_state()
    (second,) = noise_stability(net, losses, data, [0.1], draws=2)
    assert torch.equal(first.plus, second.plus)
    assert torch.equal(torch.get_rng_state(), state)


class Failing(nn.Module):
    """Raises in its n-th forward pass."""

    def __init__(self, net: nn.Module, limit: int) -> None:
        super().__init__()
        self.net, self.limit, self.calls = net, limit, 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > self.limit:
            raise RuntimeError("the machine is tired")
        return self.net(inputs)


@pytest.mark.parametrize("limit", [0, 2, 5, 10**6])
def test_weights_buffers_and_modes_stay_bit_for_bit_also_on_error(data, limit: int) -> None:
    net = Failing(network(), limit).train()
    net.net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    memory = {name: parameter.data_ptr() for name, parameter in net.named_parameters()}
    if limit < 10**6:
        with pytest.raises(RuntimeError, match="tired"):
            noise_stability(net, losses, data, [0.1, 0.2], draws=2)
    else:
        noise_stability(net, losses, data, [0.1, 0.2], draws=2)
        assert net.calls == 2 * (1 + 2 * 2 * 2)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert memory == {name: parameter.data_ptr() for name, parameter in net.named_parameters()}
    assert net.training
    assert not net.net[1].training
    assert net.net[4].training
    assert all(parameter.grad is None for parameter in net.parameters())


def test_only_named_layers_get_noise_and_tied_ones_move_together() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = (nn.Linear(4, 4, bias=False, dtype=torch.float64) for _ in range(3))
            self.second.weight = self.first.weight

        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(self.second(self.first(inputs)))

    net, inputs = Tied(), torch.randn(5, 4, dtype=torch.float64)
    draws = torch.randn(2, 16, dtype=torch.float64)
    (found,) = noise_stability(net, halves, [(inputs, inputs)], [0.3], layers=["first.weight"], draws=draws)
    weight, head = net.first.weight.detach(), net.head.weight.detach()

    def loss(value: Tensor) -> float:
        return float(halves(inputs @ value.T @ value.T @ head.T, inputs).mean())

    for number, draw in enumerate(draws):
        assert float(found.plus[number]) == pytest.approx(loss(weight + 0.3 * draw.reshape(4, 4)) - loss(weight), rel=1e-10)


def test_two_ranks_give_the_numbers_of_one(data) -> None:
    net = network()
    (one,) = noise_stability(net, losses, data, [0.1], draws=3)
    sent: list[Tensor] = []
    keep = SimpleNamespace(size=2, rank=0, sum=lambda numbers: sent.append(numbers) or numbers)
    for part in data:
        noise_stability(net, losses, [part], [0.1], draws=3, comm=keep)
    both = SimpleNamespace(size=2, rank=0, sum=lambda numbers: sent[0] + sent[1])
    (two,) = noise_stability(net, losses, data[:1], [0.1], draws=3, comm=both)
    torch.testing.assert_close(two.plus, one.plus, rtol=0, atol=1e-14)
    torch.testing.assert_close(two.minus, one.minus, rtol=0, atol=1e-14)


def test_float32_agrees_with_float64(data) -> None:
    wide = network()
    narrow = network().float()
    draws = torch.randn(8, 90, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (expected,) = noise_stability(wide, losses, data, [1e-2], draws=draws)
    (found,) = noise_stability(narrow, losses, [(inputs.float(), labels) for inputs, labels in data], [1e-2], draws=draws)
    torch.testing.assert_close(found.pairs, expected.pairs, rtol=0, atol=1e-6)


def test_prediction_for_scales_by_layer() -> None:
    assert second_order_change(0.2, 3.0) == pytest.approx(0.06)
    assert second_order_change(0.2, [1.0, 2.0]) == pytest.approx(0.06)
    assert second_order_change([0.2, 0.1], [1.0, -2.0]) == pytest.approx(0.01)
    with pytest.raises(ConfigError, match="scales for 2 layers need as many traces, one for each block, got 1"):
        second_order_change([0.2, 0.1], 3.0)


def test_relative_scales_are_root_mean_squares_times_the_proportion() -> None:
    weight = torch.full((3, 4), -2.0)
    assert relative_sigmas({"a": weight, "b": weight / 4}, 0.01) == pytest.approx((0.02, 0.005))
    with pytest.raises(ShapeError, match="an empty one"):
        relative_sigmas({"a": torch.zeros(0, 3)}, 0.01)


@pytest.mark.parametrize(
    ("sigmas", "draws", "words"),
    [
        ([], 5, "one scale and one draw at least, got 0 and 5"),
        ([0.1], 0, "one scale and one draw at least, got 1 and 0"),
        ([0.0], 5, "sigmas: each must be a positive number"),
        ([math.nan], 5, "sigmas: each must be"),
        ([(0.1, 0.1, 0.1)], 5, "one for each of the 2 layers, got"),
    ],
)
def test_scales_and_draws_out_of_range_are_refused(data, sigmas, draws: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        noise_stability(network(), losses, data, sigmas, draws=draws)


def test_what_cannot_be_measured_is_said(data) -> None:
    net = network()
    with pytest.raises(ConfigError, match="the data have none"):
        noise_stability(net, losses, [], [0.1])
    with pytest.raises(ShapeError, match="one number for each of the 4 examples"):
        noise_stability(net, cross_entropy, data, [0.1])
    with pytest.raises(ShapeError, match="has 90 entries"):
        noise_stability(net, losses, data, [0.1], draws=torch.zeros(2, 7).double())
    with pytest.raises(NonFiniteError, match="before any noise"):
        noise_stability(net, losses, [(inputs * math.nan, labels) for inputs, labels in data], [0.1], draws=1)
