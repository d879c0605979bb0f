"""The source network of the demo: a small residual network that this project pretrains on rendered letters.

The weights in ``assets/glyphnet.safetensors`` are made from nothing by ``scripts/pretrain_glyphnet.py``.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from torch import Tensor, nn

__all__ = ["IMAGE_SIZE", "LETTER_CLASSES", "MEAN", "STD", "glyphnet"]

LETTER_CLASSES: Final = (
    *("A", "a", "B", "b", "Cc", "D", "d", "E", "e", "F", "f", "G", "g", "H", "h", "Il", "i", "J", "j", "K", "k", "L"),
    *("M", "m", "N", "n", "Oo", "P", "p", "Q", "q", "R", "r", "Ss", "T", "t", "Uu", "Vv", "Ww", "Xx", "Y", "y", "Zz"),
    *("Γ", "Δ", "Θ", "Λ", "Ξ", "Π", "Σ", "Φφ", "Ψψ", "Ω", "α", "β", "γ", "δ", "ε", "ζ", "η", "θ", "λ", "μ", "ξ", "π", "τ", "ω"),
    *("Б", "Д", "Ж", "И", "Л", "Ц", "Ч", "Ш", "Щ", "Э", "Ю", "Я"),
)
"""The source classes; the letters of one string are one class.

Glyphs are scaled to one size, so letters that differ in size alone share a class (``Cc``), and so do ``I`` and ``l``. Greek and
Cyrillic letters that look like a Latin one are left out, as are Cyrillic small letters: upright, they repeat the capitals. No digit is
among them. A few letters have the shape of a digit (``O`` of 0, ``I`` of 1, ``Z`` of 2, ``S`` of 5, ``Ч`` of 4) and stay: they are letters.
"""

IMAGE_SIZE: Final = 32
MEAN: Final = (0.5, 0.5, 0.5)
STD: Final = (0.5, 0.5, 0.5)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm, added to their input; halves the side of the map where ``stride`` is 2.

    Args:
        in_channels: Channels of the input map.
        out_channels: Channels of the output map.
        stride: Stride of the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C_in, H, W) to maps (B, C_out, H / stride, W / stride)."""
        inner = self.relu(self.bn1(self.conv1(maps)))
        return self.relu(self.bn2(self.conv2(inner)) + self.downsample(maps))


def glyphnet(num_classes: int = len(LETTER_CLASSES)) -> nn.Module:
    """Residual network for RGB images of 32 px, normalised to mean = std = 0.5, with a feature width D of 64.

    The first convolution halves the side at once, which keeps a training step of 50 images at about 25 ms on two CPU cores.

    Args:
        num_classes: Outputs of the last layer, ``fc``.

    Returns:
        A freshly initialised network that maps images (B, 3, 32, 32) to logits (B, num_classes).

    Example:
        >>> sum(parameter.numel() for parameter in glyphnet().parameters())
        128975
    """
    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
            block1=ResidualBlock(32, 32, stride=1),
            block2=ResidualBlock(32, 48, stride=2),
            block3=ResidualBlock(48, 64, stride=2),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(64, num_classes),
        )
    )
