"""Distance constraints as a method: what they hold, after each step of a loop, and what they refuse."""

from __future__ import annotations

import copy
import logging
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from holdfast import attach
from holdfast.attach import Attached
from holdfast.errors import ConfigError
from holdfast.regularizers.distance import Distance
from holdfast.regularizers.held_layers import Selection, hold
from holdfast.regularizers.l2_sp import _pair
from holdfast.testing import SmallNet
from holdfast.types import Update


class Net(nn.Module):
    """One of everything: convolutions, a transposed one in groups, BatchNorm, attention, an embedding, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv2d(2, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.up = nn.ConvTranspose2d(4, 6, 2, groups=2)
            self.words = nn.Embedding(5, 6)
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
            self.second.weight = self.first.weight
            self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.up(self.norm(self.conv(images)).tanh()).flatten(2).transpose(1, 2)
        maps = maps + self.words.weight.mean(dim=0)
        mixed, _ = self.attention(maps, maps, maps)
        return self.head(self.second(self.first(mixed).tanh()).mean(dim=1))


LAYERS = ("conv.weight", "up.weight", "attention.in_proj_weight", "attention.out_proj.weight", "first.weight")


def images(count: int = 6) -> Tensor:
    return torch.randn(count, 2, 5, 5, generator=torch.Generator().manual_seed(count))


def train(net: nn.Module, steps: int, *, optimizer: str = "sgd", **options: Any) -> tuple[Attached, list[dict[str, Tensor]]]:
    """Steps that are far too large, and the weights after each."""
    terms = attach(net, [{"name": "distance", **options}], num_classes=3)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    update = torch.optim.SGD(trained, lr=100.0, momentum=0.9) if optimizer == "sgd" else torch.optim.AdamW(trained, lr=0.1)
    states = []
    for _ in range(steps):
        update.zero_grad()
        terms.loss(images(), torch.arange(6) % 3).backward()
        update.step()
        terms.after_step()
        states.append({name: value.detach().clone() for name, value in net.state_dict().items()})
    return terms, states


def by_output(name: str, weight: Tensor) -> Tensor:
    """The matrix of a layer, a row for each output."""
    if name == "up.weight":  # (in, out / groups, ...): two groups of two inputs and three outputs
        return torch.stack([weight[2 * g : 2 * g + 2, o].flatten() for g in range(2) for o in range(3)])
    return weight.flatten(1)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("norm", ["frob", "infop", "infop_exact"])
@pytest.mark.parametrize("bound", [{"ratio": 0.05}, {"radius": 0.2}], ids=["ratio", "radius"])
def test_every_layer_is_in_its_ball_after_each_step(norm: str, bound: dict[str, float], optimizer: str) -> None:
    net = Net()
    start = copy.deepcopy(net.state_dict())
    _, states = train(net, 4, optimizer=optimizer, norm=norm, head_radius=0.3, **bound)
    outside = 0

    def norms(name: str, weight: Tensor) -> Tensor:
        rows = by_output(name, weight.double())
        return rows.norm()[None] if norm == "frob" else rows.abs().sum(dim=1)

    for state in states:
        for name in LAYERS:
            distance = norms(name, state[name].double() - start[name].double())
            radius = bound["ratio"] * norms(name, start[name]) if "ratio" in bound else torch.tensor(bound["radius"])
            assert (distance <= radius * (1 + 1e-5)).all(), name
            outside += int((distance >= radius * (1 - 1e-4)).sum())
        assert (norms("head.weight", state["head.weight"]) <= 0.3 * (1 + 1e-5)).all()
    assert outside > len(states)
    for name in ("first.bias", "head.bias", "norm.weight", "words.weight"):
        assert not torch.equal(states[-1][name], start[name]), f"{name} is free"


def test_without_options_a_tenth_of_the_start_and_1_for_the_head() -> None:
    net = Net()
    start = copy.deepcopy(net.state_dict())
    terms, _ = train(net, 3)
    rows = terms.objective.configured[-1].term.by_layer()
    assert tuple(rows) == (*LAYERS, "head.weight")
    for name in LAYERS:
        assert rows[name]["radius"] == pytest.approx(0.1 * start[name].norm().item(), rel=1e-6)
        assert rows[name]["distance"] == pytest.approx((net.get_parameter(name) - start[name]).norm().item(), rel=1e-3)
    assert rows["head.weight"]["radius"] == 1
    metrics = terms.metrics()
    assert metrics["distance/active"] == pytest.approx(sum(row["active"] for row in rows.values()) / len(rows))
    assert metrics["distance/of_radius"] == pytest.approx(sum(row["distance"] / row["radius"] for row in rows.values()) / len(rows))


def test_the_active_share_is_that_of_the_epoch() -> None:
    net = SmallNet(3)
    terms = attach(net, [{"name": "distance", "radius": 1, "layers": "body.0", "head_radius": "none"}], num_classes=3)
    start = net.body[0].weight.detach().clone()
    moves = [0.5, 3.0, 3.0, 0.1]
    shares = []
    for epoch, move in enumerate([*moves, *moves]):
        terms.start_epoch(epoch // len(moves))
        terms.loss(torch.ones(2, 6), torch.tensor([0, 1]))
        with torch.no_grad():
            net.body[0].weight.copy_(start + move / math.sqrt(start.numel()))
        terms.after_step()
        shares.append(terms.metrics()["distance/active"])
    assert shares == pytest.approx([0, 1 / 2, 2 / 3, 2 / 4] * 2)
    assert terms.metrics()["distance/of_radius"] == pytest.approx(0.1, rel=1e-4)


def test_batchnorm_is_held_as_a_diagonal_matrix_where_asked_for() -> None:
    net = Net()
    start = copy.deepcopy(net.state_dict())
    terms, states = train(net, 4, bn="diagonal", ratio=0.05, norm="infop")
    assert "norm.weight" in terms.objective.configured[-1].term.by_layer()

    def diagonal(state: dict[str, Tensor]) -> Tensor:
        return state["norm.weight"] / (state["norm.running_var"] + 1e-6).sqrt()

    for state in states:
        move = (diagonal(state) - diagonal(start)).abs()
        assert (move <= 0.05 * diagonal(start).abs() * (1 + 1e-4)).all()
        assert not torch.equal(state["norm.running_var"], start["norm.running_var"])


class OfRankZero:
    """Seen from another rank: broadcasts bring rank 0's statistics, 4 in every channel."""

    rank, size = 1, 2

    def broadcast(self, tensor: Tensor) -> Tensor:
        return torch.full_like(tensor, 4.0)


def test_scales_of_batchnorm_are_decided_by_the_statistics_of_one_rank() -> None:
    net = Net()
    terms = attach(net, [{"name": "distance", "bn": "diagonal", "radius": 0}], num_classes=3)
    terms.loss(images(), torch.arange(6) % 3)
    term = terms.objective.configured[-1].term
    with torch.no_grad():
        term.after_step(Update(net, OfRankZero(), 0, 0, 0, None))  # type: ignore[arg-type]
    torch.testing.assert_close(net.norm.weight.detach(), torch.full((4,), 2.0))  # 1 = γ / √4


def test_the_optimizer_keeps_its_state() -> None:
    net, other = SmallNet(3), SmallNet(3)
    terms = attach(net, [{"name": "distance", "ratio": 1e-3}], num_classes=3)
    plain = attach(other, "plain", num_classes=3)
    for network, at_work in ((net, terms), (other, plain)):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.9)
        at_work.loss(torch.ones(2, 6), torch.tensor([0, 1])).backward()
        optimizer.step()
        at_work.after_step()
        network.momentum = [optimizer.state[parameter]["momentum_buffer"] for parameter in network.parameters()]
    assert not torch.equal(net.body[0].weight, other.body[0].weight)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(net.momentum, other.momentum, strict=True))


def test_it_holds_beside_another_method() -> None:
    net = SmallNet(3)
    start = copy.deepcopy(net.state_dict())
    batches = [(torch.randn(9, 6, generator=torch.Generator().manual_seed(1)), torch.arange(9) % 3)]
    terms = attach(net, "adarand+distance", batches, num_classes=3, total_steps=3)
    optimizer = torch.optim.SGD(net.parameters(), lr=3.0)
    for _ in range(3):
        optimizer.zero_grad()
        terms.loss(*batches[0]).backward()
        optimizer.step()
        terms.after_step()
    assert list(terms.values) == ["cross-entropy", "adarand"]
    for name in ("body.0.weight", "body.2.weight"):
        distance = (net.state_dict()[name] - start[name]).norm()
        assert distance == pytest.approx(0.1 * start[name].norm().item(), rel=1e-5)


def test_frozen_layers_stay_out() -> None:
    net = Net()
    net.conv.weight.requires_grad_(False)
    net.norm.weight.requires_grad_(False)
    before = net.conv.weight.clone(), net.norm.weight.clone()
    terms, _ = train(net, 2, bn="diagonal", ratio=1e-3)
    names = tuple(terms.objective.configured[-1].term.by_layer())
    assert names == (*LAYERS[1:], "head.weight")
    assert torch.equal(net.conv.weight, before[0])
    assert torch.equal(net.norm.weight, before[1])


def test_with_nothing_to_hold_it_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    net = SmallNet(3)
    net.body.requires_grad_(False)
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        terms = attach(net, [{"name": "distance", "head_radius": "none"}], num_classes=3)
        for _ in range(2):
            terms.loss(torch.ones(2, 6), torch.tensor([0, 1])).backward()
            terms.after_step()
    assert [record.message for record in caplog.records] == ["distance: no layer that it bounds is trained, so it does nothing."]
    assert terms.metrics() == {}


def test_a_layer_that_the_start_does_not_know_counts_as_head() -> None:
    net = SmallNet(3)
    terms = attach(net, [{"name": "distance", "head_radius": 0.25}], num_classes=3, pretrained=SmallNet(7, inputs=4))
    terms.loss(torch.ones(2, 6), torch.tensor([0, 1]))
    terms.after_step()
    rows = terms.objective.configured[-1].term.by_layer()
    assert {name: row["radius"] == 0.25 for name, row in rows.items()} == {
        "body.2.weight": False,
        "body.0.weight": True,  # of four inputs there
        "head.weight": True,
    }
    assert net.body[0].weight.norm().item() == pytest.approx(0.25, rel=1e-5)


def test_embeddings_are_held_where_asked_for() -> None:
    net = Net()
    start = net.words.weight.detach().clone()
    train(net, 3, embeddings=True, ratio=0.01)
    assert (net.words.weight - start).norm() <= 0.01 * start.norm() * (1 + 1e-5)


def test_starts_are_the_reference_itself_for_every_method_that_needs_them() -> None:
    net = Net()
    reference = SimpleNamespace(weights=copy.deepcopy(net).state_dict())
    step: Any = SimpleNamespace(model=net, head=net.head, reference=reference)
    held = hold(step, Selection({"*": 1.0}, "", bn=True))
    stored = {tensor.data_ptr() for tensor in reference.weights.values()}
    starts = [layer.start for layer in held.layers] + [layer.start_variance for layer in held.batchnorms]
    assert {start.data_ptr() for start in starts if start is not None} <= stored
    assert {start.data_ptr() for start in _pair(step).start} <= stored
    assert Distance().state_dict().keys() <= {"_extra_state"}


def radii(net: nn.Module, **options: Any) -> dict[str, float]:
    return Selection.of_text(str(options.pop("radius")), options.pop("layers", "all"), option="--method.radius", **options).of(net)


def test_patterns_give_radii() -> None:
    assert radii(Net(), radius="conv=1,first=2") == {"conv.weight": 1.0, "first.weight": 2.0}
    assert radii(Net(), radius=3, layers="*attention*,attention.out_proj") == {
        "attention.in_proj_weight": 3.0,
        "attention.out_proj.weight": 3.0,
    }


class Encoder(nn.Module):
    """Names as in BERT."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.ModuleDict(
            {
                "attention": nn.ModuleDict({"query": nn.Linear(4, 4), "LayerNorm": nn.LayerNorm(4)}),
                "output": nn.Linear(4, 4),
            }
        )
        self.bert = nn.ModuleDict({"encoder": nn.ModuleList([block]), "pooler": nn.Linear(4, 4)})
        self.classifier = nn.Linear(4, 2)


def test_the_published_form_for_texts_can_be_written() -> None:
    assert radii(Encoder(), radius="*attention*=0.5,*encoder*!*attention*=2") == {
        "bert.encoder.0.attention.query.weight": 0.5,
        "bert.encoder.0.output.weight": 2.0,
    }


def test_depth_scales_the_last_two_stages_of_a_residual_network() -> None:
    net = resnet18()
    reference = SimpleNamespace(weights=copy.deepcopy(net).state_dict())
    step: Any = SimpleNamespace(model=net, head=net.fc, reference=reference)
    held = hold(step, Selection({"*": 8.0}, "", bn=True), scale_by_depth=0.5)
    found = {layer.name: layer.number for layer in (*held.layers, *held.batchnorms)}
    expected = {"conv1": 8, "bn1": 8, "layer1": 8, "layer2": 8, "layer3": 4, "layer4": 2}
    assert found == {name: expected[name.partition(".")[0]] for name in found}
    assert {name.partition(".")[0] for name in found} == set(expected)
    assert "layer4.0.downsample.1.weight" in found


def test_depth_scales_the_last_two_quarters_of_other_networks() -> None:
    net = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(8)), nn.Linear(4, 2))
    step: Any = SimpleNamespace(model=net, head=net[-1], reference=SimpleNamespace(weights=copy.deepcopy(net).state_dict()))
    held = hold(step, Selection({"*": 1.0}, ""), scale_by_depth=0.5)
    assert [layer.number for layer in held.layers] == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"radius": 1, "ratio": 0.1}, r"distance: --method\.distance\.radius 1 and --method\.distance\.ratio 0\.1: give one of them"),
        (
            {"radius": "body=1,body.0=2"},
            r"radius: the patterns 'body' and 'body\.0' both match body\.0\.weight, with 1 and 2; .*'body!body\.0=1'",
        ),
        ({"radius": "body=1,*.weight=1"}, r"the patterns 'body' and '\*\.weight' both match body\.0\.weight"),
        ({"ratio": "boddy=1"}, r"--method\.distance\.ratio 'boddy' matches no parameter of the network\. Did you mean 'body'"),
        ({"layers": "body,haed"}, r"--method\.distance\.layers 'haed' matches no parameter of the network\. Did you mean 'head'"),
        ({"radius": "body!boby=1"}, r"--method\.distance\.radius 'boby' matches no parameter"),
        ({"radius": "*.bias=1"}, r"--method\.distance\.radius '\*\.bias' matches parameters but no layer; layers are body\.0\.weight"),
        ({"radius": "body=1", "layers": "body"}, r"'body=1' says which layers it is for; leave out --method\.distance\.layers 'body'"),
        ({"radius": -1}, r"radius: expected a number of at least 0, several by name as layer3=0\.5,layer4=1, or none, got -1"),
        ({"radius": "body=-1"}, r"radius: expected a number of at least 0, several by name .*, got 'body=-1'"),
        ({"ratio": "wide"}, r"ratio: expected a number of at least 0, several by name .* or auto, got 'wide'"),
        ({"ratio": "body=1,body=2"}, r"ratio: expected .*, got 'body=1,body=2'"),
        ({"head_radius": "head=1"}, r"head_radius: expected a number of at least 0 or none, got 'head=1'"),
        ({"norm": "spectral"}, r"norm: expected one of frob, infop, infop_exact, got 'spectral'"),
        ({"bn": "on"}, r"bn: expected one of off, diagonal, got 'on'"),
        ({"scale_by_depth": -0.5}, r"scale_by_depth: expected a number of at least 0, got -0\.5"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        attach(SmallNet(3), [{"name": "distance", **options}], num_classes=3)


def test_options_built_in_python_are_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"--method\.distance\.radius '-1': expected numbers of at least 0"):
        Distance(radius=-1)
    with pytest.raises(ConfigError, match=r"--method\.distance\.ratio 'x': expected a number, or several by name"):
        Distance(ratio="x")
