"""Filters taken out one by one: the numbers of whole forward passes, at the price of what follows the layer."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from tests.models.families import FAMILIES, load_family
from torch import Tensor, nn

from holdfast.distributed import SingleProcess
from holdfast.errors import DataError, ModelError
from holdfast.models.select import channel_axis, map_layers
from holdfast.regularizers.ablation import Restart, loss_gaps
from holdfast.types import Batch


def batch(rows: int, *, size: int = 8, seed: int = 0, dtype: torch.dtype = torch.float64) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (rows,), generator=generator)
    return Batch(torch.randn(rows, 3, size, size, generator=generator, dtype=dtype), labels, torch.full_like(labels, -1))


class Residual(nn.Module):
    """A block whose shortcut is needed after the layer, with one activation at two places that works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.stages = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)])
        self.conv = nn.Conv2d(4, 5, 1)
        self.back = nn.Conv2d(5, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 3)
        self.runs: dict[str, int] = {}

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        for stage in self.stages:
            maps = self.relu(stage(maps))
        inner = self.back(self.relu(self.conv(maps)))
        maps += inner  # changes what a module before the layer returned
        return self.fc(self.relu(maps).mean((2, 3)))


def network(seed: int = 0) -> Residual:
    torch.manual_seed(seed)
    return Residual().double().eval()


def without_filter(net: nn.Module, layer: str, number: int, inputs: Tensor) -> Tensor:
    """Logits of a copy whose filter has zeros for weights and bias."""
    changed = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in changed.get_submodule(layer).parameters():
            parameter[number] = 0
        return changed(inputs)


@pytest.mark.parametrize(("layer", "filters"), [("stem.0", 4), ("stages.0", 4), ("stages.1", 4), ("conv", 5), ("back", 4), ("fc", 3)])
def test_gaps_are_those_of_a_network_with_zeros_for_the_filter(layer: str, filters: int) -> None:
    net, first = network(), batch(6)
    (gaps,) = loss_gaps(net, [layer], [first], SingleProcess())
    full = F.cross_entropy(net(first.inputs), first.labels)
    expected = [F.cross_entropy(without_filter(net, layer, c, first.inputs), first.labels) - full for c in range(filters)]
    torch.testing.assert_close(gaps, torch.stack(expected).detach(), rtol=1e-9, atol=1e-13)
    assert gaps.abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_restarting_gives_what_a_whole_pass_gives_in_every_family(family: str) -> None:
    pretrained = load_family(family)
    net = pretrained.net.eval()
    inputs = torch.randn(2, 3, pretrained.input.size, pretrained.input.size)
    for layer in map_layers(net) or [name for name, part in net.named_modules() if isinstance(part, nn.Conv2d)][1:2]:
        with torch.no_grad(), Restart(net, layer, inputs) as restart:
            assert restart.restarts
            axis = channel_axis(net.get_submodule(layer), restart.output.shape)
            output = restart.output.clone()
            output.select(axis, 1).zero_()
            found = [restart.run(output.clone()) for _ in range(2)]

        def replace(module: nn.Module, args: object, given: Tensor, output: Tensor = output) -> Tensor:
            return output.clone()

        hook = net.get_submodule(layer).register_forward_hook(replace)
        with torch.no_grad():
            expected = net(inputs)
        hook.remove()
        for logits in found:
            torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            torch.testing.assert_close(net(inputs), restart.logits, rtol=0, atol=0)


def counting(net: nn.Module) -> dict[str, int]:
    """How often the own code of each layer runs."""
    runs: dict[str, int] = {}

    def counted(name: str, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(*args: Tensor) -> Tensor:
            runs[name] = runs.get(name, 0) + 1
            return forward(*args)

        return run

    for name, module in net.named_modules():
        if not list(module.children()):
            module.forward = counted(name, module.forward)
    return runs


def test_only_what_follows_the_layer_runs_again() -> None:
    net = network()
    runs = counting(net)
    loss_gaps(net, ["conv"], [batch(4)], SingleProcess())
    # One whole pass, one that tries the restart, one for each of the five filters.
    assert runs == {"stem.0": 1, "stem.1": 1, "stages.0": 1, "stages.1": 1, "conv": 1, "relu": 4 + 2 * 6, "back": 1 + 6, "fc": 1 + 6}


def test_a_network_is_as_it_was_afterwards() -> None:
    net = network()
    before = {name: dict(vars(module)) for name, module in net.named_modules()}
    loss_gaps(net, ["conv", "back"], [batch(4)], SingleProcess())
    assert_untouched(net, before)


def test_a_network_is_as_it_was_after_an_error_too() -> None:
    net = network()
    before = {name: dict(vars(module)) for name, module in net.named_modules()}
    with torch.no_grad(), pytest.raises(RuntimeError), Restart(net, "conv", batch(4).inputs) as restart:
        restart.run(torch.zeros(4, 7, 8, 8, dtype=torch.float64))
    assert_untouched(net, before)
    with pytest.raises(RuntimeError), Restart(net, "conv", torch.zeros(4, 7, 8, 8)):
        pass
    assert_untouched(net, before)


def assert_untouched(net: nn.Module, before: dict[str, dict[str, object]]) -> None:
    for name, module in net.named_modules():
        assert vars(module).keys() == before[name].keys()
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_forward_that_was_replaced_before_is_put_back() -> None:
    net = network()
    own = net.stem.forward
    net.stem.forward = lambda images: 2 * own(images)
    replaced = net.stem.forward
    (gaps,) = loss_gaps(net, ["conv"], [batch(4)], SingleProcess())
    assert net.stem.forward is replaced
    del net.stem.forward
    (others,) = loss_gaps(net, ["conv"], [batch(4)], SingleProcess())
    assert not torch.allclose(gaps, others)


class Aliasing(nn.Module):
    """Reads a tensor by the name it had before a module changed it in place: whoever skips the module misses the change."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(images)
        self.relu(maps)
        return self.fc((maps + self.conv(maps)).mean((2, 3)))


def test_where_a_restart_would_differ_whole_passes_are_made() -> None:
    torch.manual_seed(0)
    net, first = Aliasing().double().eval(), batch(6)
    with torch.no_grad(), Restart(net, "conv", first.inputs) as restart:
        assert not restart.restarts
    (gaps,) = loss_gaps(net, ["conv"], [first], SingleProcess())
    full = F.cross_entropy(net(first.inputs), first.labels)
    expected = [F.cross_entropy(without_filter(net, "conv", c, first.inputs), first.labels) - full for c in range(4)]
    torch.testing.assert_close(gaps, torch.stack(expected).detach(), rtol=1e-9, atol=1e-13)


def test_batches_count_the_same_whatever_their_size() -> None:
    net, parts = network(), [batch(6), batch(3, seed=1)]
    each = [loss_gaps(net, ["conv", "back"], [part], SingleProcess()) for part in parts]
    together = loss_gaps(net, ["conv", "back"], parts, SingleProcess())
    for first, second, mean in zip(*each, together, strict=True):
        torch.testing.assert_close(mean, (first + second) / 2, rtol=1e-12, atol=0)


def test_a_batch_of_all_ranks_is_divided_by_the_rows_of_all() -> None:
    class Tripled(SingleProcess):
        """Two further ranks with the same rows."""

        def sum(self, tensor: Tensor) -> Tensor:
            return 3 * tensor

    net = network()
    torch.testing.assert_close(loss_gaps(net, ["conv"], [batch(4)], Tripled()), loss_gaps(net, ["conv"], [batch(4)], SingleProcess()))


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        ("relu", "the layer 'relu' runs 4 times in a forward pass, so its filters cannot be taken out one by one; name another"),
        ("stages", "the layer 'stages' takes no part in a forward pass"),
    ],
)
def test_a_layer_without_one_output_is_named(layer: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        loss_gaps(network(), [layer], [batch(2)], SingleProcess())


def test_without_a_batch_there_is_nothing_to_measure_on() -> None:
    with pytest.raises(DataError, match="the training split gave no batch"):
        loss_gaps(network(), ["conv"], [], SingleProcess())
