"""The uniform view of a network: inputs to logits and pooled features, with a head that can be replaced."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from holdfast.errors import ModelError
from holdfast.models.head import find_head
from holdfast.models.probe import at_rest, failed_forward, random_images
from holdfast.types import InputSpec, Outputs

__all__ = ["Classifier", "find_head", "freeze_batchnorm"]

HEAD_STD = 0.01
"""Standard deviation of a fresh head's weights (methods.md, protocol of AdaRand)."""


class Classifier(nn.Module):
    """A classification network together with the input of its final Linear layer.

    The features are caught by a forward pre-hook on the head. It is placed at construction: torch.compile ignores a hook that is added
    after the first compiled call. So build this first, replace the head, then compile it in place (``classifier.compile()``) and
    wrap *it*, not the bare network, in DistributedDataParallel, so that both outputs pass through DDP. Nothing of a forward pass stays
    behind: the caught tensor leaves with the outputs.

    Args:
        net: The bare network; its parameter names stay as they are.
        head_name: Qualified name of its final Linear; found by :func:`find_head` where not given.

    Raises:
        ModelError: The network has no head that can be used.
    """

    def __init__(self, net: nn.Module, head_name: str | None = None) -> None:
        super().__init__()
        self.net = net
        self.head_name = find_head(net, head_name)
        self._catching: list[list[Tensor]] = []  # the list of the forward pass that is under way, if any
        self._hook = self.head.register_forward_pre_hook(self._catch)

    @property
    def head(self) -> nn.Linear:
        """The final Linear layer now in ``net``."""
        head = self.net.get_submodule(self.head_name)
        assert isinstance(head, nn.Linear)
        return head

    @property
    def feature_dim(self) -> int:
        """Width D of the pooled features."""
        return self.head.in_features

    def forward(self, inputs: Any) -> Outputs:
        """Logits (B, K), and under ``"pooled"`` the features (B, D) that enter the head.

        Raises:
            ModelError: The head took no part, or its input is no feature vector.
        """
        caught: list[Tensor] = []
        self._catching[:] = [caught]
        logits = self.net(inputs)
        self._catching.clear()
        if not caught:
            raise ModelError(f"--head {self.head_name!r}: this layer takes no part in the forward pass; name the final Linear layer")
        pooled = caught.pop()
        if pooled.ndim != 2:
            raise ModelError(
                f"the head {self.head_name!r} receives features of shape {tuple(pooled.shape)}, expected (B, D): pool them to one vector "
                "for each image before the head, or name another layer with --head"
            )
        return Outputs(logits, {"pooled": pooled})

    def _catch(self, head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self._catching:
            self._catching[-1].append(inputs[0])

    def verify(self, inputs: InputSpec | Tensor) -> None:
        """Check that ``head(pooled)`` gives the logits, in eval mode on two random images or on a batch of yours.

        Modes and random states stay as they are.

        Args:
            inputs: What images the network expects, or a batch that it can run on.

        Raises:
            ModelError: The network cannot run, or its logits are not what the head returns.
        """
        images = inputs if isinstance(inputs, Tensor) else random_images(self.net, inputs.size)
        with at_rest(self):
            outputs = self._run(images)
            expected = self.head(outputs.features["pooled"])
        logits = outputs.logits
        if not isinstance(logits, Tensor):
            raise ModelError(
                f"the network returns a {type(logits).__name__} instead of logits; choose one that returns a single tensor (B, K), "
                "or write a 'python:' function that does"
            )
        tolerance = 1e-2 if logits.dtype in (torch.float16, torch.bfloat16) else 1e-4
        if logits.shape != expected.shape or not torch.allclose(
            logits, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())
        ):
            raise ModelError(
                f"the logits of the network are not the output of {self.head_name!r}, which was taken for its head; "
                "name the final Linear layer with --head, or choose a network in which nothing follows it"
            )

    def _run(self, images: Tensor) -> Outputs:
        try:
            return self.forward(images)  # not self(...): this batch must not trigger compilation
        except ModelError:
            raise
        except Exception as error:  # a network of the user may fail in any way
            raise failed_forward(images, error) from error

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile in place by torch.compile, whose arguments these are; names in the state dict stay as they are.

        Shapes are static unless asked otherwise: with a symbolic image size a network with "same" padding compiles for minutes.
        """
        super().compile(*args, **{"dynamic": False} | options)

    def reset_head(self, num_classes: int, seed: int) -> None:
        """Replace the head by a fresh one: W ~ N(0, 0.01²), b = 0, drawn from a stream of its own.

        Args:
            num_classes: K.
            seed: Seed of the weights; the same values on every device.

        Raises:
            ModelError: The network is compiled already, so the new head's features would not be seen.
        """
        if self._compiled_call_impl is not None:
            raise ModelError("reset_head: the network is compiled already; replace the head before classifier.compile()")
        old = self.head
        new = nn.utils.skip_init(nn.Linear, old.in_features, num_classes, device=old.weight.device, dtype=old.weight.dtype)
        weight = HEAD_STD * torch.randn(num_classes, old.in_features, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            new.weight.copy_(weight)
            new.bias.zero_()
        new.train(old.training)
        self._hook.remove()
        self.net.set_submodule(self.head_name, new)
        self._hook = new.register_forward_pre_hook(self._catch)

    def head_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Weight and bias of the head, by their names in the bare network."""
        return self.head.named_parameters(self.head_name)

    def backbone_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All other parameters, by their names in the bare network."""
        head = {id(parameter) for parameter in self.head.parameters()}
        return ((name, parameter) for name, parameter in self.net.named_parameters() if id(parameter) not in head)


def freeze_batchnorm(module: nn.Module) -> int:
    """Keep BatchNorm layers in eval mode for good, so that they use and keep their pretrained statistics.

    ``train()`` leaves them alone from now on; their weight and bias stay trainable.

    Returns:
        How many layers there are.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    for layer in layers:
        # A bound method follows its layer through copy.deepcopy; the class, and so isinstance, stays as it is.
        layer.train = types.MethodType(_stay_in_eval, layer)  # type: ignore[method-assign]
        layer.eval()
    return len(layers)


def _stay_in_eval(layer: nn.Module, mode: bool = True) -> nn.Module:
    layer.training = False
    return layer
