"""Choose parts of a network: parameters by a pattern on their names or by how deep they lie, layers whose maps describe it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Literal

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from holdfast.errors import ConfigError, ModelError
from holdfast.models.head import find_head

__all__ = ["BACKBONE", "channel_axis", "layer_depths", "map_layers", "match_parameters", "measured_layers"]

BACKBONE = "backbone"
"""The pattern that stands for all parameters but those of the head."""

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
"""Weights of :class:`torch.nn.MultiheadAttention` that belong to no module of their own."""

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def match_parameters(net: nn.Module, patterns: Iterable[str], *, head_name: str | None = None, option: str = "--freeze") -> set[str]:
    """Qualified names of the parameters that at least one pattern matches.

    A pattern is a shell glob on the whole name, in which ``*`` also crosses dots: ``layer1.*``, ``*.bias``, ``blocks.[0-5]``. One that
    matches a module takes everything below it, so ``layer1`` says the same as ``layer1.*``. ``backbone`` is all but the head.

    Args:
        net: The bare network.
        patterns: The patterns, as typed.
        head_name: Qualified name of its head, which ``backbone`` leaves out; found where not given.
        option: What the user typed the patterns after, for messages.

    Raises:
        ConfigError: A pattern matches nothing; names it and the nearest names.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> sorted(match_parameters(net, ["0", "*.bias"]))
        ['0.bias', '0.weight', '2.bias']
    """
    names = [name for name, _ in net.named_parameters()]
    matched: set[str] = set()
    for pattern in patterns:
        if pattern == BACKBONE:
            head = f"{head_name or find_head(net)}."
            found = {name for name in names if not name.startswith(head)}
        else:
            found = {name for name in names if any(fnmatchcase(path, pattern) for path in _with_parents(name))}
        if not found:
            raise ConfigError(f"{option} {pattern!r} matches no parameter of the network. {_nearest(pattern, names)}")
        matched |= found
    return matched


def _with_parents(name: str) -> Iterator[str]:
    """A qualified name and those of the modules around it: ``a.b.weight``, ``a.b``, ``a``."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _nearest(pattern: str, names: list[str]) -> str:
    known = list(dict.fromkeys(path for name in names for path in _with_parents(name)))
    near = difflib.get_close_matches(pattern.rstrip("*").rstrip("."), known, n=3, cutoff=0.6)
    top = list(dict.fromkeys(name.partition(".")[0] for name in names))
    hint = f"Did you mean {', '.join(repr(name) for name in near)}? " if near else ""
    return f"{hint}Its parts are {', '.join(top[:12])}{', ...' * (len(top) > 12)}; '{BACKBONE}' stands for all but the head."


def measured_layers(
    net: nn.Module,
    *,
    preset: Literal["all", "ju2022"] = "all",
    patterns: Iterable[str] = ("*",),
    option: str = "--layers",
    frozen: bool = False,
) -> tuple[str, ...]:
    """Names of the weights that count as layers where distance and curvature are measured, in the order of the network.

    A layer is the weight of a Linear layer, of a convolution or of an attention projection, by the type of its module: tokens, position
    and word embeddings, biases and scales of normalisation are no layers. Frozen weights are left out, unless ``frozen``; tied ones are
    named once.

    Preset ``ju2022`` is what Ju et al., ICML 2022, measured: in a convolutional network (no fewer convolutions than Linear layers) the
    2d convolutions with ``conv`` in their name and the head, so not the shortcuts of a ResNet; in others every Linear layer whose name
    has no ``LayerNorm``, ``embeddings`` or ``pooler``.

    Args:
        net: The bare network.
        preset: Which layers.
        patterns: Only those that one of these matches, see :func:`match_parameters`.
        option: What the user typed the patterns after, for messages.
        frozen: Whether weights without gradient count too.

    Raises:
        ConfigError: A pattern matches nothing, or nothing that is a layer.
        ModelError: There is no layer, or the weight of one is computed from others.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
        >>> measured_layers(net)
        ('0.weight', '3.weight')
    """
    owners = _published_owners(net) if preset == "ju2022" else dict(net.named_modules())
    found: dict[object, str] = {}
    for name in (name for path, module in owners.items() for name in _weights_of(path, module)):
        weight = net.get_parameter(name)
        if weight.requires_grad or frozen:
            found.setdefault((weight.device, weight.data_ptr()) if weight.data_ptr() else id(weight), name)
    if not found:
        raise ModelError(f"{type(net).__name__} has no trainable Linear, convolution or attention weight to measure (preset {preset!r}).")
    patterns = list(patterns)
    matched = match_parameters(net, patterns, option=option)
    chosen = tuple(name for name in found.values() if name in matched)
    if not chosen:
        typed = " ".join(map(repr, patterns))
        raise ConfigError(f"{option} {typed} matches parameters but no layer; layers are {', '.join(list(found.values())[:12])}.")
    return chosen


def _weights_of(path: str, module: nn.Module) -> Iterator[str]:
    below = f"{path}." if path else ""
    if isinstance(module, (nn.Linear, *CONVOLUTIONS)):
        if is_parametrized(module, "weight") or "weight" not in module._parameters:
            raise ModelError(
                f"the weight of {path or 'the network'} is computed from others (weight or spectral normalisation); make it a plain one "
                "with torch.nn.utils.parametrize.remove_parametrizations first"
            )
        yield f"{below}weight"
    elif isinstance(module, nn.MultiheadAttention):
        yield from (f"{below}{name}" for name in PROJECTIONS if getattr(module, name) is not None)


def _published_owners(net: nn.Module) -> dict[str, nn.Module]:
    """The modules whose weights Ju et al. measured."""
    linears = {path: module for path, module in net.named_modules() if isinstance(module, nn.Linear)}
    convolutions = {path: module for path, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    if len(convolutions) < len(linears):
        return {path: module for path, module in linears.items() if not any(word in path for word in ("LayerNorm", "embeddings", "pooler"))}
    head = find_head(net)
    return {path: module for path, module in net.named_modules() if (path in convolutions and "conv" in path) or path == head}


def layer_depths(net: nn.Module, head_name: str) -> dict[str, int]:
    """How deep each parameter lies, by its name: 0 at the input, then one more for each block, the head deepest.

    The layers of layer-wise learning-rate decay (Bao et al., BEiT, 2022): tokens and position embeddings are at depth 0 with the stem,
    the final normalisation belongs to the last block, and what is built around the head to the head. Networks of timm say themselves
    which parameters form a block. In others a block is a child of the stages (``nn.Sequential``, ``nn.ModuleList``, ``nn.ModuleDict``,
    nested ones too) in the order of definition; a normalisation layer between blocks goes with the one before it.

    Args:
        net: The bare network.
        head_name: Qualified name of its head.

    Returns:
        A depth for every parameter; each number from 0 to that of the head occurs.
    """
    depths = _of_timm(net) or _of_blocks(net, head_name)
    deepest = max(depths.values(), default=0)
    depths |= {f"{head_name}.{name}": deepest for name, _ in net.get_submodule(head_name).named_parameters()}
    ranks = {depth: rank for rank, depth in enumerate(sorted(set(depths.values())))}
    return {name: ranks[depths[name]] for name, _ in net.named_parameters()}


def _of_timm(net: nn.Module) -> dict[str, int]:
    """Depths by the blocks that a network of timm names; empty for others."""
    matcher = getattr(net, "group_matcher", None)
    if matcher is None:
        return {}
    from timm.models import group_parameters

    depths: dict[str, int] = group_parameters(net, matcher(coarse=False), reverse=True)
    return depths


def _of_blocks(net: nn.Module, head_name: str) -> dict[str, int]:
    """Depths by the order in which blocks are defined; loose parameters of modules around blocks, such as tokens, are at depth 0."""
    half = _size(net) / 2
    blocks = _blocks(net, "", half)
    around_head = next((block for block in blocks if any(name.startswith(f"{head_name}.") for name in block)), [])
    ordered = [block for block in blocks if block is not around_head] + [around_head]
    depths = {name: depth for depth, block in reversed(list(enumerate(ordered))) for name in block}
    return {name: depths.get(name, 0) for name, _ in net.named_parameters()}


def _blocks(module: nn.Module, path: str, half: float) -> list[list[str]]:
    """Parameter names of each block in ``module``, a module around blocks."""
    blocks: list[list[str]] = []
    leading: list[str] = []  # normalisation at the very start, which goes with what follows it
    for name, child in module.named_children():
        below = f"{path}{name}."
        if _is_around_blocks(child, half):
            inner = _blocks(child, below, half)
        else:
            inner = [[f"{below}{parameter}" for parameter, _ in child.named_parameters()]]
        inner = [block for block in inner if block]
        if not inner:
            continue
        if not _is_normalisation(child):
            inner[0] = leading + inner[0]
            leading = []
            blocks += inner
        elif blocks:
            blocks[-1] += inner[0]
        else:
            leading += inner[0]
    return [*blocks, leading] if leading else blocks


def _is_around_blocks(module: nn.Module, half: float) -> bool:
    """Whether ``module`` is a stage, or holds most of the network, as an encoder does, and so is no block itself."""
    children = list(module.children())
    if not children:
        return False
    # Libraries derive their convolution-norm-activation from Sequential: that is one block. Their stages hold blocks only.
    is_stage = type(module) in CONTAINERS or (isinstance(module, CONTAINERS) and all(list(child.children()) for child in children))
    return is_stage or _size(module) > half


def _size(module: nn.Module) -> int:
    """Numbers in the parameters of a module, tables of embeddings aside: that of words may outweigh all layers of a small network."""
    tables = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Embedding)}
    return sum(parameter.numel() for parameter in module.parameters() if id(parameter) not in tables)


def _is_normalisation(module: nn.Module) -> bool:
    """Whether a layer has no weights but a scale and a shift for each channel."""
    return not list(module.children()) and all(parameter.ndim <= 1 for parameter in module.parameters())


def map_layers(net: nn.Module) -> tuple[str, ...]:
    """Layers whose outputs describe a network at up to four depths, by their names; none for a network of unknown make.

    In residual networks with stages ``layer1``, ``layer2``, … (ResNet) it is the last convolution of the last block of each stage, whose
    raw output is not yet normalised or added to the shortcut: the layers that DELTA was published with. In other networks of timm it is
    what they list as their features, in others of torchvision the last part before each halving of the side (ConvNeXt, Swin, MobileNet,
    EfficientNet, DenseNet, RegNet, VGG); in a Vision Transformer four blocks at even distances.

    Example:
        >>> from torchvision.models import resnet50
        >>> map_layers(resnet50())
        ('layer1.2.conv3', 'layer2.3.conv3', 'layer3.5.conv3', 'layer4.2.conv3')
    """
    modules = dict(net.named_modules())
    for names in (_of_residual_stages(net), _of_feature_info(net), _before_halvings(net), _of_attention_blocks(net)):
        if names and modules.keys() >= set(names):
            return names
    return ()


def _of_residual_stages(net: nn.Module) -> tuple[str, ...]:
    names = []
    for name, stage in net.named_children():
        path, block = name, stage
        if isinstance(stage, nn.Sequential) and len(stage):
            last, block = list(stage.named_children())[-1]
            path = f"{name}.{last}"
        last_conv = next((conv for conv in ("conv3", "conv2") if isinstance(getattr(block, conv, None), nn.Conv2d)), None)
        if last_conv:
            names.append(f"{path}.{last_conv}")
    return tuple(names[-4:]) if len(names) > 1 else ()


def _of_feature_info(net: nn.Module) -> tuple[str, ...]:
    """What a network of timm says of itself: one entry a stage, or one a block where all maps have one size."""
    info = getattr(net, "feature_info", None)
    if not isinstance(info, list) or not all(isinstance(entry, dict) and {"module", "reduction"} <= entry.keys() for entry in info):
        return ()
    names = [str(entry["module"]) for entry in info]
    return _at_four_depths(names) if len({entry["reduction"] for entry in info}) == 1 else tuple(names[-4:])


def _before_halvings(net: nn.Module) -> tuple[str, ...]:
    """Of the sequence that torchvision makes of a network's body, the last part before each that halves the side of the map, and the last.

    Pooling or a normalisation at the very end is left out.
    """
    body = next((name for name in ("features", "trunk_output", "layers") if isinstance(getattr(net, name, None), nn.Sequential)), None)
    if body is None:
        return ()
    parts = net.get_submodule(body)
    names = [before for (before, _), (_, part) in pairwise(parts.named_children()) if _halves(part)]
    if not names:
        return ()
    *_, (before, _), (last, part) = parts.named_children()
    names.append(before if _is_normalisation(part) else last)
    return tuple(f"{body}.{name}" for name in dict.fromkeys(names))[-4:]


def _halves(part: nn.Module) -> bool:
    def strides(layer: nn.Module) -> Iterable[int]:
        stride = getattr(layer, "stride", None)
        return (stride,) if isinstance(stride, int) else stride if isinstance(stride, tuple) else ()

    return any(max(strides(layer), default=1) > 1 or type(layer).__name__.startswith("PatchMerging") for layer in part.modules())


def _of_attention_blocks(net: nn.Module) -> tuple[str, ...]:
    for path, blocks in net.named_modules():
        children = list(blocks.children())
        alike = isinstance(blocks, CONTAINERS) and len(children) > 1 and len({type(block) for block in children}) == 1
        if alike and any("attention" in type(layer).__name__.lower() for layer in children[0].modules()):
            return _at_four_depths([f"{path}.{name}" for name, _ in blocks.named_children()])
    return ()


def _at_four_depths(names: list[str]) -> tuple[str, ...]:
    """The last of each quarter."""
    return tuple(dict.fromkeys(names[-(-len(names) * quarter // 4) - 1] for quarter in (1, 2, 3, 4)))


def channel_axis(layer: nn.Module, shape: tuple[int, ...]) -> int:
    """Which axis of a layer's output holds its channels.

    The last of (B, C) and of tokens (B, T, C), the first after the batch in the output of a convolution. Maps of blocks come in both
    orders; their two sides are equal, as those of the images are.

    Args:
        layer: The layer.
        shape: Shape of its output, the batch first.

    Example:
        >>> block = nn.Sequential(nn.LayerNorm(96), nn.Linear(96, 96))
        >>> channel_axis(block, (8, 7, 7, 96)), channel_axis(block, (8, 96, 7, 7)), channel_axis(block, (8, 49, 96))
        (3, 1, 2)
    """
    convolution = isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    if convolution or len(shape) > 4 or (len(shape) == 4 and not shape[1] == shape[2] != shape[3]):
        return 1
    return len(shape) - 1
