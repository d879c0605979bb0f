"""Smallest members of the families of timm and torchvision, built by the libraries' own classes, for ``python:`` specs in tests."""

from __future__ import annotations

import timm
from timm.models.densenet import DenseNet as TimmDenseNet
from timm.models.resnetv2 import ResNetV2
from timm.models.swin_transformer import SwinTransformer as TimmSwin
from torch import nn
from torchvision.models import ConvNeXt, DenseNet, EfficientNet, MobileNetV2, RegNet, SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.regnet import BlockParams


def vision_transformer() -> nn.Module:
    return VisionTransformer(image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=10)


def convnext() -> nn.Module:
    return ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], stochastic_depth_prob=0.0, num_classes=10)


def swin() -> nn.Module:
    return SwinTransformer([4, 4], 16, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4], stochastic_depth_prob=0.0, num_classes=10)


def efficientnet() -> nn.Module:
    stages = [MBConvConfig(1, 3, 1, 8, 8, 1), MBConvConfig(4, 3, 2, 8, 16, 2)]
    return EfficientNet(stages, dropout=0.2, stochastic_depth_prob=0.0, num_classes=10)


def mobilenet_v2() -> nn.Module:
    return MobileNetV2(num_classes=10, width_mult=0.25, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2]])


def regnet() -> nn.Module:
    return RegNet(BlockParams.from_init_params(depth=4, w_0=8, w_a=8.0, w_m=2.0, group_width=8, se_ratio=0.25), num_classes=10)


def densenet() -> nn.Module:
    return DenseNet(growth_rate=8, block_config=(2, 2), num_init_features=16, num_classes=10)


def timm_swin() -> nn.Module:
    return TimmSwin(img_size=32, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4, drop_path_rate=0.0, num_classes=10)


def timm_densenet() -> nn.Module:
    return TimmDenseNet(growth_rate=8, block_config=(2, 2), num_classes=10)


def timm_vgg() -> nn.Module:
    # Its hidden layers are 4096 wide in every form; two channels of a map keep them small.
    return timm.models.vgg.VGG([4, "M", 4, "M", 2, "M"], num_classes=10, mlp_ratio=0.02)


def timm_bit() -> nn.Module:
    """Big Transfer's ResNet: weights standardised, group normalisation, a head that is a 1 x 1 convolution."""
    return ResNetV2([1, 1], channels=(128, 128), stem_chs=32, num_classes=10)


def timm_tower() -> nn.Module:
    return timm.create_model("test_vit", img_size=32, num_classes=0)


def convolutional_tower() -> nn.Module:
    """Returns features (B, 8) and has no Linear layer."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def perceptron_tower() -> nn.Module:
    """Returns features (B, 6), which a Linear layer and a ReLU make."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 6), nn.ReLU())
