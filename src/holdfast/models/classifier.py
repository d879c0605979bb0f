"""The uniform view of a network: inputs to logits and pooled features, with a head that can be replaced."""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from holdfast.errors import ModelError, suggest
from holdfast.models.calling import arguments, logits_in
from holdfast.models.head import find_head
from holdfast.models.probe import at_rest, failed_forward, probe_inputs
from holdfast.types import HeadForm, InputSpec, Outputs, TextSpec

__all__ = ["Classifier", "find_head", "freeze_batchnorm", "synchronize_batchnorm"]

_USUAL_HEAD = HeadForm()


class _EnoughError(Exception):
    """Everything asked for is caught; ends a forward pass early."""


class Classifier(nn.Module):
    """A classification network together with the input of its final Linear layer.

    The features are caught by a forward pre-hook on the head. It is placed at construction: torch.compile ignores a hook that is added
    after the first compiled call. So build this first, replace the head, then compile it in place (``classifier.compile()``) and
    wrap *it*, not the bare network, in DistributedDataParallel, so that both outputs pass through DDP. Nothing of a forward pass stays
    behind: the caught tensors leave with the outputs. Further layers are caught after :meth:`capture`.

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
        self.layers: tuple[str, ...] = ("pooled",)
        self._catching: list[dict[str, Tensor]] = []  # what the forward pass that is under way has caught, if there is one
        self._stop_at: frozenset[str] = frozenset()
        self.whole_passes = False  # whether no forward pass may end early, since what surrounds this must see its end
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
        """Logits (B, K), under ``"pooled"`` the features (B, D) that enter the head, and the outputs of captured layers by name.

        Raises:
            ModelError: The head took no part, or its input is no feature vector.
        """
        caught: dict[str, Tensor] = {}
        self._catching[:] = [caught]
        positional, keywords = arguments(inputs)
        logits = logits_in(self.net(*positional, **keywords))
        self._catching.clear()
        return Outputs(logits, self._checked(caught, self.layers, inputs))

    def features(self, inputs: Any, layers: Collection[str] = ("pooled",)) -> dict[str, Tensor]:
        """Captured layers of a batch; the forward pass ends where the last of ``layers`` is known, which saves the rest of it."""
        if self.whole_passes:
            outputs: Outputs = self(inputs)
            return {layer: outputs.features[layer] for layer in layers}
        caught: dict[str, Tensor] = {}
        self._catching[:] = [caught]
        self._stop_at = frozenset(layers)
        positional, keywords = arguments(inputs)
        try:
            self.net(*positional, **keywords)
        except _EnoughError:
            pass
        finally:
            self._stop_at = frozenset()
            self._catching.clear()
        return self._checked(caught, layers, inputs)

    def substituted(self, inputs: Any, tensors: Mapping[str, Tensor]) -> Outputs:
        """As calling this, with other values for parameters and buffers, by their names in the bare network.

        Buffers that the pass changes, such as BatchNorm statistics, are changed in ``tensors``.
        """
        caught: dict[str, Tensor] = {}
        self._catching[:] = [caught]
        try:
            logits = logits_in(torch.func.functional_call(self.net, dict(tensors), *arguments(inputs)))
        finally:
            self._catching.clear()
        return Outputs(logits, self._checked(caught, self.layers, inputs))

    def capture(self, layers: Iterable[str]) -> None:
        """Catch the outputs of further layers from now on.

        Args:
            layers: Qualified names in the bare network; those caught already are left as they are.

        Raises:
            ModelError: There is no such layer, or the network is compiled already.
        """
        if self._compiled_call_impl is not None:
            raise ModelError("capture: the network is compiled already; name the layers before classifier.compile()")
        modules = dict(self.net.named_modules())
        for layer in layers:
            if layer in self.layers:
                continue
            if layer not in modules:
                raise ModelError(f"the network has no layer {layer!r}. {suggest(layer, [name for name in modules if name])}")
            modules[layer].register_forward_hook(functools.partial(self._catch_output, layer))
            self.layers = (*self.layers, layer)

    def _checked(self, caught: dict[str, Tensor], layers: Collection[str], inputs: Any) -> dict[str, Tensor]:
        if "pooled" in layers and "pooled" not in caught:
            raise ModelError(f"--head {self.head_name!r}: this layer takes no part in the forward pass; name the final Linear layer")
        for layer in layers:
            if layer not in caught:
                raise ModelError(f"the layer {layer!r} takes no part in the forward pass, so it has no output; name another")
        pooled = caught.get("pooled")
        if pooled is not None and pooled.ndim != 2:
            raise ModelError(
                f"the head {self.head_name!r} receives features of shape {tuple(pooled.shape)}, expected (B, D): pool them to one vector "
                "for each example before the head, or name another layer with --head"
            )
        return _without_padding(caught, inputs)

    def _catch(self, head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._keep("pooled", inputs[0])

    def _catch_output(self, layer: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise ModelError(f"the layer {layer!r} returns a {type(output).__name__}, not a tensor, so it cannot be captured; name another")
        if self._catching and layer in self._catching[-1]:
            raise ModelError(f"the layer {layer!r} runs more than once in a forward pass, so it has no one output; name another")
        self._keep(layer, output)

    def _keep(self, layer: str, value: Tensor) -> None:
        if not self._catching:
            return
        caught = self._catching[-1]
        caught[layer] = value
        if self._stop_at and self._stop_at <= caught.keys():
            raise _EnoughError

    def verify(self, inputs: InputSpec | TextSpec | Tensor | Mapping[str, Tensor]) -> None:
        """Check that ``head(pooled)`` gives the logits, in eval mode on two random images or texts, or on a batch of yours.

        Modes and random states stay as they are.

        Args:
            inputs: What images or texts the network expects, or a batch that it can run on.

        Raises:
            ModelError: The network cannot run, or its logits are not what the head returns.
        """
        with at_rest(self):
            outputs = self._run(inputs)
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
                "name the final Linear layer with --head, or end the network with one"
            )

    def verify_layers(self, inputs: InputSpec | TextSpec | Tensor | Mapping[str, Tensor]) -> None:
        """Check that each captured layer returns one tensor a pass, and that the network leaves this as it is.

        A layer that another network is to be compared with must not be changed after it is caught: a pass that ends there would miss it.

        Args:
            inputs: As for :meth:`verify`.

        Raises:
            ModelError: Names the first layer at fault.
        """
        if self.layers == ("pooled",):
            return
        versions: dict[str, int] = {}
        hooks = [
            self.net.get_submodule(layer).register_forward_hook(functools.partial(_note_version, versions, layer))
            for layer in self.layers
            if layer != "pooled"
        ]
        try:
            with at_rest(self):
                outputs = self._run(inputs)
        finally:
            for hook in hooks:
                hook.remove()
        for layer, version in versions.items():
            if outputs.features[layer]._version != version:
                raise ModelError(
                    f"the network changes the output of the layer {layer!r} in place after it has returned; name the layer that does, "
                    "such as the activation that follows it"
                )

    def _run(self, inputs: InputSpec | TextSpec | Tensor | Mapping[str, Tensor]) -> Outputs:
        batch = probe_inputs(self.net, inputs) if isinstance(inputs, InputSpec | TextSpec) else inputs
        try:
            return self.forward(batch)  # not self(...): this batch must not trigger compilation
        except ModelError:
            raise
        except Exception as error:  # a network of the user may fail in any way
            raise failed_forward(batch, error) from error

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile in place by torch.compile, whose arguments these are; names in the state dict stay as they are.

        Shapes are static unless asked otherwise: with a symbolic image size a network with "same" padding compiles for minutes.
        """
        super().compile(*args, **{"dynamic": False} | options)

    def reset_head(self, num_classes: int, seed: int, form: HeadForm = _USUAL_HEAD) -> None:
        """Replace the head by a fresh one: W ~ N(0, 0.01²), b = 0, drawn from a stream of its own.

        Args:
            num_classes: K.
            seed: Seed of the weights; the same values on every device.
            form: Another distribution, no bias, or outputs beyond the K classes.

        Raises:
            ModelError: The network is compiled already, so the new head's features would not be seen.
        """
        if self._compiled_call_impl is not None:
            raise ModelError("reset_head: the network is compiled already; replace the head before classifier.compile()")
        old, outputs = self.head, num_classes + form.extra
        new = nn.utils.skip_init(nn.Linear, old.in_features, outputs, bias=form.bias, device=old.weight.device, dtype=old.weight.dtype)
        std = math.sqrt(2 / old.in_features) if form.std is None else form.std
        weight = std * torch.randn(outputs, old.in_features, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            new.weight.copy_(weight)
            if form.bias:
                new.bias.zero_()
        new.train(old.training)
        self._hook.remove()
        self.net.set_submodule(self.head_name, new)
        self._hook = new.register_forward_pre_hook(self._catch)

    def keep_outputs(self, num_classes: int) -> None:
        """Drop the outputs of the head that follow those of the K classes, for those who only predict and measure."""
        head = self.head
        head.out_features = num_classes
        head.weight = nn.Parameter(head.weight.detach()[:num_classes].clone())
        if head.bias is not None:
            head.bias = nn.Parameter(head.bias.detach()[:num_classes].clone())

    def head_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Weight and bias of the head, by their names in the bare network."""
        return self.head.named_parameters(self.head_name)

    def backbone_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All other parameters, by their names in the bare network."""
        head = {id(parameter) for parameter in self.head.parameters()}
        return ((name, parameter) for name, parameter in self.net.named_parameters() if id(parameter) not in head)


def _without_padding(caught: dict[str, Tensor], inputs: Any) -> dict[str, Tensor]:
    """Outputs with a row for each token (B, T, ...) are 0 where a text has none: what stands there depends on the rest of the batch."""
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    if mask is None:
        return caught
    return {
        layer: value * mask.view(*mask.shape, *[1] * (value.ndim - 2)).to(value.dtype)
        if layer != "pooled" and value.ndim > 2 and value.shape[:2] == mask.shape
        else value
        for layer, value in caught.items()
    }


def _note_version(versions: dict[str, int], layer: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
    versions[layer] = output._version


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


def synchronize_batchnorm(net: nn.Module) -> None:
    """Let BatchNorm layers share the statistics of a batch over all ranks; those of timm keep the activation they contain."""
    for name, child in net.named_children():
        setattr(net, name, convert_sync_batchnorm(child))


def _stay_in_eval(layer: nn.Module, mode: bool = True) -> nn.Module:
    layer.training = False
    return layer
