from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from holdfast import attach
from holdfast.errors import ModelError
from holdfast.models.classifier import freeze_batchnorm
from holdfast.transforms.stochnorm import StochNorm, stochastic_normalization

K = 3


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, K)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(inputs).mean((2, 3)))


def images(count: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 9, 9, generator=generator), torch.randint(K, (count,), generator=generator)


def statistics(channels: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(channels, generator=generator, dtype=torch.float64),
        0.5 + torch.rand(channels, generator=generator, dtype=torch.float64),
    )


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    made = Net()
    for layer in (made.body[1], made.body[4]):
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    return made


def train(model: nn.Module, method: str | list[dict[str, object]], steps: int = 3) -> dict[str, Tensor]:
    terms = attach(model, method, num_classes=K, seed=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for step in range(steps):
        terms.loss(*images(seed=step)).backward()
        optimizer.step()
        optimizer.zero_grad()
        terms.after_step()
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_each_channel_is_normalized_as_the_mask_says() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, 5, 3, 2, generator=generator, dtype=torch.float64)
    mean, var = statistics(5)
    weight, bias = torch.arange(1.0, 6.0, dtype=torch.float64), torch.arange(5.0, dtype=torch.float64)
    select = torch.tensor([1.0, 0, 1, 0, 0], dtype=torch.float64)
    start = mean.clone(), var.clone()
    outputs = stochastic_normalization(inputs, weight, bias, mean, var, select, momentum=0.1, eps=1e-3)
    for channel in range(5):
        rows = inputs[:, channel]
        centre, spread = (rows.mean(), ((rows - rows.mean()) ** 2).mean()) if select[channel] else (start[0][channel], start[1][channel])
        expected = weight[channel] * (rows - centre) / (spread + 1e-3).sqrt() + bias[channel]
        torch.testing.assert_close(outputs[:, channel], expected)
        torch.testing.assert_close(mean[channel], 0.9 * start[0][channel] + 0.1 * rows.mean())
        torch.testing.assert_close(var[channel], 0.9 * start[1][channel] + 0.1 * rows.flatten().var())


def test_the_gradient_is_that_of_the_statistics_used_in_the_forward_pass() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    weight, bias = (torch.randn(3, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    select = torch.tensor([0.0, 1, 0], dtype=torch.float64)
    mean, var = statistics(3)

    def normalized(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
        return stochastic_normalization(x, g, b, mean.clone(), var.clone(), select)

    assert torch.autograd.gradcheck(normalized, (inputs, weight, bias))


def test_with_probability_one_it_is_batchnorm_and_with_zero_the_running_statistics() -> None:
    plain = train(net(), "plain")
    always = train(net(), [{"name": "stochnorm", "p": 1.0}])
    assert plain.keys() == always.keys()
    for name, value in plain.items():
        torch.testing.assert_close(always[name], value)
    inputs = images()[0]
    model = net()
    expected = copy.deepcopy(model).eval()(inputs)
    transform = StochNorm(p=0.0)
    transform.transform(model)
    transform.begin(model, torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.train()(inputs), expected)


def test_half_of_the_channels_take_the_statistics_of_the_batch_and_every_step_others() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2000))
    transform = StochNorm(p=0.3)
    transform.transform(model)
    masks = []
    for step in range(2):
        transform.begin(model, torch.Generator().manual_seed(step))
        masks.append(model[0].select.clone())
        assert 500 < masks[-1].sum() < 700  # 600 ± 5 standard deviations
    assert not torch.equal(*masks)


def test_names_and_eval_are_those_of_the_plain_network() -> None:
    model, plain = net(), net()
    state = model.state_dict()
    StochNorm().transform(model)
    assert model.state_dict().keys() == state.keys()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(images()[0]), plain.eval()(images()[0]))
    again = copy.deepcopy(model)
    StochNorm().begin(again, torch.Generator().manual_seed(0))
    assert bool((model.body[1].select == 1).all())  # a copy has masks of its own
    assert not bool((again.body[1].select == 1).all())


def test_one_value_in_a_channel_has_no_variance_so_running_statistics_serve() -> None:
    mean, var = statistics(4)
    before = mean.clone(), var.clone()
    inputs = torch.ones(1, 4, 1, 1, dtype=torch.float64)
    outputs = stochastic_normalization(inputs, None, None, mean, var, torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(outputs.flatten(), (1 - before[0]) / (before[1] + 1e-5).sqrt())
    assert torch.equal(mean, before[0])
    assert torch.equal(var, before[1])


def test_activations_inside_the_norm_layers_of_timm_are_kept() -> None:
    model = timm.create_model("mobilenetv3_small_050", num_classes=K).train()
    StochNorm(p=1.0).transform(model)
    plain = timm.create_model("mobilenetv3_small_050", num_classes=K).train()
    plain.load_state_dict(model.state_dict())
    inputs = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(inputs), plain(inputs), rtol=1e-4, atol=1e-5)


def test_a_network_without_batchnorm_is_refused() -> None:
    with pytest.raises(ModelError, match="'stochnorm' changes BatchNorm layers, and Linear has none"):
        StochNorm().transform(nn.Linear(2, 2))
    with pytest.raises(ModelError, match="not SyncBatchNorm"):
        StochNorm().transform(nn.Sequential(nn.SyncBatchNorm(3)))


def test_frozen_layers_stay_frozen() -> None:
    model = net()
    StochNorm().transform(model)
    freeze_batchnorm(model)
    before = model.body[1].running_mean.clone()
    model.train()(images()[0])
    assert torch.equal(model.body[1].running_mean, before)


def test_cumulative_averages_are_kept() -> None:
    model, plain = (nn.Sequential(nn.BatchNorm1d(4, momentum=None)) for _ in range(2))
    StochNorm().transform(model)
    for seed in range(3):
        inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
        model(inputs)
        plain(inputs)
    torch.testing.assert_close(model[0].running_mean, plain[0].running_mean)
