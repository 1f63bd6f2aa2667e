"""ResNet-18 and ResNet-34 for ImageNet, with the double skip of the authors' code.

At 224x224 RGB with 1,000 classes they have 11,690,536 and 21,798,696 parameters.
"""

from __future__ import annotations

from torch import nn

from resteutils.models.common import ConvFactory, ResNet, check_size, conv_relu_bn, kaiming, projection

__all__ = ["resnet18_imagenet", "resnet34_imagenet"]


def _resnet(depths: tuple[int, ...], conv: ConvFactory, num_classes: int, image_size: int, in_channels: int) -> ResNet:
    check_size(image_size, 32, "resnet for ImageNet")
    stem = conv_relu_bn(nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False), 64)
    stem.append(nn.MaxPool2d(3, stride=2, padding=1))
    return kaiming(ResNet(stem, depths, (64, 128, 256, 512), conv, projection, True, num_classes))


def resnet18_imagenet(conv: ConvFactory, num_classes: int, image_size: int, in_channels: int) -> ResNet:
    """2-2-2-2 blocks, (N, 3, 224, 224) -> (N, 1000)."""
    return _resnet((2, 2, 2, 2), conv, num_classes, image_size, in_channels)


def resnet34_imagenet(conv: ConvFactory, num_classes: int, image_size: int, in_channels: int) -> ResNet:
    """3-4-6-3 blocks, (N, 3, 224, 224) -> (N, 1000)."""
    return _resnet((3, 4, 6, 3), conv, num_classes, image_size, in_channels)
