"""StochNorm: BatchNorm that picks, channel by channel, between the statistics of the batch and the running ones."""

from __future__ import annotations

import types
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from holdfast.errors import ModelError
from holdfast.terms import ModelTransform, Needs

__all__ = ["StochNorm", "stochastic_normalization"]

KNOWN = (_BatchNorm.forward, BatchNormAct2d.forward)


class StochNorm(ModelTransform):
    """Stochastic normalization of every BatchNorm layer during training.

    Kou et al., NeurIPS 2020. The layers keep their class, parameters, buffers and names, so weights trained with it load into the plain
    network and the other way round; in eval mode they are ordinary BatchNorm. The choice of a step is the same for all rows, ranks and
    micro-batches. Where the authors' release of Transfer-Learning-Library (commit c4aa59e) always chooses with probability 0.5,
    ``p`` is followed here.

    Args:
        p: Probability that a channel takes the statistics of the batch, from 0 to 1; with 1 this is BatchNorm.
    """

    NEEDS = Needs(live_batchnorm=True)
    SHARDED = True

    def __init__(self, *, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def transform(self, net: nn.Module) -> None:
        """Give every BatchNorm layer of the network the stochastic forward pass.

        Raises:
            ModelError: There is none, or one of a kind whose forward pass is not known here.
        """
        layers = [layer for layer in net.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
        if not layers:
            raise ModelError(
                f"method 'stochnorm' changes BatchNorm layers, and {type(net).__name__} has none with running statistics; "
                "choose a network with BatchNorm, or another method"
            )
        for layer in layers:
            if type(layer).forward not in KNOWN:
                raise ModelError(
                    f"method 'stochnorm' knows BatchNorm of torch and timm, not {type(layer).__name__}; choose another network or method"
                )
            # Bound methods and buffers follow their layer through copy.deepcopy.
            layer.register_buffer("select", torch.ones_like(layer.running_mean), persistent=False)  # type: ignore[arg-type]
            layer.forward = types.MethodType(_forward, layer)  # type: ignore[method-assign]

    def begin(self, net: nn.Module, generator: torch.Generator) -> None:
        """Draw which channels take the statistics of the batch."""
        masks = list(_masks(net))
        drawn = torch.rand(sum(mask.numel() for mask in masks), generator=generator, device=generator.device) < self.p
        for mask, part in zip(masks, drawn.split([mask.numel() for mask in masks]), strict=True):
            mask.copy_(part)


def stochastic_normalization(
    inputs: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    select: Tensor,
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel by the batch where ``select`` is 1, by the running statistics where it is 0, and update those.

    The running statistics enter as they were before this call, as constants; the batch's (biased variance) carry gradient. They are
    updated in place as BatchNorm does, with the unbiased variance. A single value in each channel has no variance: there the running
    statistics serve all channels, and stay as they are.

    Kou et al., NeurIPS 2020, Eq. 3-5. The release reads the running statistics through the buffers it updates, which spoils its
    gradient; here they are copied before.

    Args:
        inputs: Activations (N, C, ...).
        weight: Scale γ (C,), or None for 1.
        bias: Shift β (C,), or None for 0.
        running_mean: Mean (C,), updated in place.
        running_var: Variance (C,), updated in place.
        select: 0 or 1 for each channel (C,).
        momentum: Share of the batch in the update.
        eps: Addition to the variances.

    Returns:
        Normalized activations (N, C, ...).
    """
    weight = torch.ones_like(running_mean) if weight is None else weight
    bias = torch.zeros_like(running_mean) if bias is None else bias
    before = running_mean.clone(), running_var.clone()
    if inputs.numel() == inputs.shape[1]:
        return F.batch_norm(inputs, *before, weight, bias, training=False, eps=eps)
    rest = 1 - select
    by_batch = F.batch_norm(inputs, running_mean, running_var, weight * select, bias * select, True, momentum, eps)
    return by_batch.add_(F.batch_norm(inputs, *before, weight * rest, bias * rest, training=False, eps=eps))


def _forward(layer: _BatchNorm, inputs: Tensor) -> Tensor:
    if not layer.training:
        outputs: Tensor = type(layer).forward(layer, inputs)
        return outputs
    layer.num_batches_tracked.add_(1)  # type: ignore[union-attr]
    momentum = 1.0 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum  # type: ignore[arg-type]
    normalized = stochastic_normalization(
        inputs,
        layer.weight,
        layer.bias,
        layer.running_mean,  # type: ignore[arg-type]
        layer.running_var,  # type: ignore[arg-type]
        layer.select,  # type: ignore[arg-type]
        momentum=momentum,
        eps=layer.eps,
    )
    return layer.act(layer.drop(normalized)) if isinstance(layer, BatchNormAct2d) else normalized


def _masks(net: nn.Module) -> Iterator[Tensor]:
    for layer in net.modules():
        if isinstance(layer, _BatchNorm) and "select" in layer._buffers:
            yield layer.select  # type: ignore[misc]
