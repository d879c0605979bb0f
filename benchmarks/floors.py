"""What a method cannot do without, by naked tensor operations: the least a step with it can cost beside a bare step.

Each entry of ``EXTRA_WORK`` is what comes on top of a bare step, as a call; those of ``WHOLE_STEPS`` take the place of the bare step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.settings import Setting
from holdfast.models.head import find_head

__all__ = ["EXTRA_WORK", "WHOLE_STEPS"]

Call = Callable[[], None]


def read_both_weights(setting: Setting, device: torch.device) -> Call:
    """L2-SP: read both sets of weights, add the scaled difference to the gradients."""
    parameters = list(setting.build(device).parameters())
    start = [parameter.detach().clone() for parameter in parameters]
    grads = [torch.zeros_like(parameter) for parameter in parameters]

    def work() -> None:
        with torch.no_grad():
            differences = torch._foreach_sub(parameters, start)
            torch.stack(torch._foreach_norm(differences)).square().sum()
            torch._foreach_add_(grads, differences, alpha=0.01)

    return work


def move_to_start(setting: Setting, device: torch.device) -> Call:
    """Distance constraints: the norm of each layer's difference, then a part of the way to the start."""
    weights = [parameter.detach() for parameter in setting.build(device).parameters() if parameter.ndim > 1]
    start = [weight.clone() for weight in weights]

    def work() -> None:
        for weight, origin in zip(weights, start, strict=True):
            torch.linalg.vector_norm(weight - origin)
            weight.lerp_(origin, 0.1)

    return work


def frozen_forward(setting: Setting, device: torch.device) -> Call:
    """DELTA, DR-Tune: a forward pass of the frozen network."""
    net = setting.build(device).eval().requires_grad_(False)
    inputs, _ = setting.batch(device)

    def work() -> None:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=setting.precision == "bf16"):
            net(inputs)

    return work


def frozen_forward_and_rotation(setting: Setting, device: torch.device) -> Call:
    """DR-Tune: the frozen forward pass, and a tenth of one rotation of the queue by a singular value decomposition."""
    forward = frozen_forward(setting, device)
    width = _feature_width(setting, device)
    covariance = torch.randn(width, width, device=device)
    calls = 0

    def work() -> None:
        nonlocal calls
        forward()
        if calls % 10 == 0:
            torch.linalg.svd(covariance)
        calls += 1

    return work


def key_forward(setting: Setting, device: torch.device) -> Call:
    """Bi-Tuning: a forward pass of the key encoder, in training mode, and its momentum update."""
    net = setting.build(device).train().requires_grad_(False)
    inputs, _ = setting.batch(device)
    parameters = list(net.parameters())
    others = [parameter.clone() for parameter in parameters]

    def work() -> None:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=setting.precision == "bf16"):
            net(inputs)
            torch._foreach_lerp_(others, parameters, 0.001)

    return work


def gram(setting: Setting, device: torch.device) -> Call:
    """BSS: one Gram matrix of the features, and its eigenvectors."""
    features = torch.randn(setting.batch_size, _feature_width(setting, device), device=device)
    return lambda: void(torch.linalg.eigh((features @ features.T).double()))


def contrast_on_mixed_rows(setting: Setting, device: torch.device) -> Call:
    """Core-tuning: head, projection and similarities on three times the rows, forward and backward."""
    width, rows = _feature_width(setting, device), 3 * setting.batch_size
    features = torch.randn(rows, width, device=device, requires_grad=True)
    head, inner, outer = (nn.Linear(width, size).to(device) for size in (setting.num_classes, width, 256))

    def work() -> None:
        projections = outer(inner(features).relu())
        (head(features).logsumexp(1).sum() + (projections @ projections.T).logsumexp(1).sum()).backward()

    return work


def joint_batch(setting: Setting, device: torch.device) -> Call:
    """UOT: a bare step on target and source rows together, which must share one pass and its BatchNorm statistics."""
    net = setting.build(device)
    (inputs, labels), (more, others) = setting.batch(device), setting.batch(device, seed=1)
    inputs, labels = torch.cat([inputs, more]), torch.cat([labels, others])
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, nesterov=True)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=setting.precision == "bf16"):
            loss = F.cross_entropy(net(inputs), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def source_head(setting: Setting, device: torch.device) -> Call:
    """Co-Tuning: a head of 1000 source classes, forward and backward."""
    features = torch.randn(setting.batch_size, _feature_width(setting, device), device=device, requires_grad=True)
    head = nn.Linear(features.shape[1], 1000).to(device)
    return lambda: head(features).logsumexp(1).sum().backward()


def second_normalization(setting: Setting, device: torch.device) -> Call:
    """StochNorm: each BatchNorm layer once more, forward and backward."""
    net = setting.build(device).eval()
    inputs, _ = setting.batch(device)
    shapes: list[tuple[nn.Module, Tensor]] = []
    handles = [
        layer.register_forward_pre_hook(lambda layer, inputs: shapes.append((layer, torch.randn_like(inputs[0], requires_grad=True))))
        for layer in net.modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        net(inputs)
    for handle in handles:
        handle.remove()

    def work() -> None:
        for layer, activations in shapes:
            outputs = F.batch_norm(activations, layer.running_mean, layer.running_var, layer.weight, layer.bias)
            outputs.backward(activations.detach())

    return work


def _feature_width(setting: Setting, device: torch.device) -> int:
    net = setting.build(device)
    return int(net.get_submodule(find_head(net)).in_features)


def void(_: object) -> None:
    """Throw a result away."""


EXTRA_WORK: dict[str, Callable[[Setting, torch.device], Call]] = {
    **dict.fromkeys(("l2-sp", "distance-penalty", "distance-penalty-infop"), read_both_weights),
    **dict.fromkeys(("distance", "distance-frob", "distance-infop", "distance-infop-exact"), move_to_start),
    "delta": frozen_forward,
    "delta-attention": frozen_forward,
    "bss": gram,
    "co-tuning": source_head,
    "core-tuning": contrast_on_mixed_rows,
    "dr-tune": frozen_forward_and_rotation,
    "bi-tuning": key_forward,
    "stochnorm": second_normalization,
}

WHOLE_STEPS: dict[str, Callable[[Setting, torch.device], Call]] = {"uot": joint_batch}
