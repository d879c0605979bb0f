"""Curvature of networks as people have them, against differences of plain gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from timm.models import create_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from holdfast.measures.hessian_distance import hessian_distance
from holdfast.measures.noise_stability import noise_stability
from holdfast.measures.operators import CurvatureOperator
from holdfast.measures.spectrum import top_eigenvalues
from holdfast.measures.trace import hutchinson_trace

losses = partial(cross_entropy, reduction="none")

LABELS = torch.tensor([0, 2, 1])


def timm_network(name: str, **options: Any) -> tuple[nn.Module, Tensor]:
    """With BatchNorm statistics as training leaves them, and far enough from its start that no layer scale or head is nearly zero."""
    torch.manual_seed(0)
    net = create_model(name, num_classes=3, **options).double()
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        net.train()(images)
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval(), images


def bert() -> tuple[nn.Module, dict[str, Tensor]]:
    """Two layers whose query matrix is shared, on sentences of different length."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    net = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes, max_position_embeddings=8, num_labels=3)).double()
    first, second = (layer.attention.self.query for layer in net.bert.encoder.layer)
    second.weight = first.weight
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
    return net.eval(), {"input_ids": torch.randint(1, 20, (3, 5)) * mask, "attention_mask": mask}


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "vit": partial(timm_network, "test_vit", img_size=32),
    "resnet with batchnorm": partial(timm_network, "test_resnet"),
    "convnext": partial(timm_network, "test_convnext"),
    "bert with tied weights": bert,
}
A_MATRIX = {
    "vit": "blocks.1.attn.qkv.weight",
    "resnet with batchnorm": "layer2.0.conv1.weight",
    "convnext": "stages.1.blocks.0.mlp.fc1.weight",
    "bert with tied weights": "bert.encoder.layer.1.attention.self.query.weight",
}


def outputs(net: nn.Module, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
    return net(inputs) if isinstance(inputs, Tensor) else net(**inputs).logits


def gradient(net: nn.Module, inputs: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    parameters = dict(net.named_parameters())
    found = torch.autograd.grad(cross_entropy(outputs(net, inputs), LABELS), list(parameters.values()), allow_unused=True)
    return {name: torch.zeros_like(parameters[name]) if part is None else part for name, part in zip(parameters, found, strict=True)}


def difference_along(net: nn.Module, inputs: Any, direction: Mapping[str, Tensor], step: float = 1e-6) -> dict[str, Tensor]:
    """Central difference of the gradient, with the weights themselves moved."""
    start = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}

    def gradient_at(shift: float) -> dict[str, Tensor]:
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                parameter.copy_(start[name] + shift * direction.get(name, 0))
        return gradient(net, inputs)

    above, below = gradient_at(step), gradient_at(-step)
    gradient_at(0)
    return {name: (above[name] - below[name]) / (2 * step) for name in above}


@pytest.fixture(params=NETWORKS, scope="module")
def case(request: pytest.FixtureRequest) -> tuple[str, nn.Module, Any]:
    return request.param, *NETWORKS[request.param]()


def direction_of(matrix: CurvatureOperator) -> tuple[Tensor, dict[str, Tensor]]:
    vector = torch.randn(matrix.shape[0], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    vector /= vector.norm()
    return vector, dict(zip(matrix.names, matrix.weights.split(vector), strict=True))


def test_products_are_differences_of_gradients(case: tuple[str, nn.Module, Any]) -> None:
    _, net, inputs = case
    matrix = CurvatureOperator(net, losses, [(inputs, LABELS)])
    vector, parts = direction_of(matrix)
    assert set(parts) == {name for name, _ in net.named_parameters()}
    product = matrix @ vector
    expected = difference_along(net, inputs, parts)
    found = dict(zip(matrix.names, matrix.weights.split(product), strict=True))
    size = max(float(part.abs().max()) for part in expected.values())
    assert size > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6 * size)


def test_products_of_one_layer_are_differences_along_it(case: tuple[str, nn.Module, Any]) -> None:
    name, net, inputs = case
    layer = A_MATRIX[name]
    block = CurvatureOperator(net, losses, [(inputs, LABELS)]).block(layer)
    vector = torch.randn(block.shape[0], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    vector /= vector.norm()
    shape = net.get_parameter(layer).shape
    own = next(other for other, parameter in net.named_parameters() if parameter is net.get_parameter(layer))
    expected = difference_along(net, inputs, {own: vector.view(shape)})[own].flatten()
    torch.testing.assert_close(block @ vector, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


def test_measures_run_in_float32_on_halves_of_the_data(case: tuple[str, nn.Module, Any]) -> None:
    name, net, inputs = case
    net.float()
    try:
        halves = [(_rows(inputs, part), LABELS[part]) for part in (slice(0, 2), slice(2, 3))]
        matrix = CurvatureOperator(net, losses, halves, layers=[A_MATRIX[name]])
        trace = hutchinson_trace(matrix, rtol=1.0, min_probes=2, max_probes=3)
        pairs = top_eigenvalues(matrix, 1, which="magnitude", rtol=1e-2)
        moves = {matrix.names[0]: torch.ones(matrix.shape[0])}
        distance = hessian_distance(matrix, moves, over="sample", max_steps=3)
        (stability,) = noise_stability(net, losses, halves, [1e-2], layers=[A_MATRIX[name]], draws=2)
        assert all(map(torch.isfinite, map(torch.tensor, (trace.total.value, stability.mean, distance.layers[0].value))))
        product = matrix @ pairs.vectors[:, 0]
        assert float((product - pairs.values[0] * pairs.vectors[:, 0]).norm()) <= 1.1e-2 * abs(pairs.values[0]) + 1e-6
    finally:
        net.double()


def _rows(inputs: Any, part: slice) -> Any:
    return inputs[part].float() if isinstance(inputs, Tensor) else {name: value[part] for name, value in inputs.items()}
