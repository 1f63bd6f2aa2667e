"""ResNets for small images: ResNet-20 (one skip or Bi-Real's double skip) and ResNet-18.

Layer order, shortcuts, extra BatchNorm and initialisation follow the authors' code; at 32x32 RGB with ten classes
ResNet-20 has 269,850 parameters and ResNet-18 has 11,174,986.
"""

from __future__ import annotations

from torch import nn

from resteutils.models.common import ConvFactory, PadShortcut, ResNet, check_size, conv_relu_bn, kaiming, projection

__all__ = ["resnet18", "resnet20", "resnet20_bireal"]


def _stem(in_channels: int, width: int) -> nn.Sequential:
    return conv_relu_bn(nn.Conv2d(in_channels, width, 3, padding=1, bias=False), width)


def resnet20(
    conv: ConvFactory, num_classes: int, image_size: int, in_channels: int, double_skip: bool = False
) -> ResNet:
    """ResNet-20: 3-3-3 blocks of 16, 32, 64 channels, parameter-free shortcuts, Kaiming normal initialisation."""
    check_size(image_size, 4, "resnet20")
    stem = _stem(in_channels, 16)
    return kaiming(ResNet(stem, (3, 3, 3), (16, 32, 64), conv, PadShortcut, double_skip, num_classes), linear=True)


def resnet20_bireal(conv: ConvFactory, num_classes: int, image_size: int, in_channels: int) -> ResNet:
    """ResNet-20 with a skip around each convolution, as in Bi-Real Net."""
    return resnet20(conv, num_classes, image_size, in_channels, double_skip=True)


def resnet18(conv: ConvFactory, num_classes: int, image_size: int, in_channels: int) -> ResNet:
    """ResNet-18 for small images: 2-2-2-2 blocks of 64 to 512 channels, 1x1 shortcuts, PyTorch's initialisation."""
    check_size(image_size, 8, "resnet18")
    stem = _stem(in_channels, 64)
    return ResNet(stem, (2, 2, 2, 2), (64, 128, 256, 512), conv, projection, False, num_classes)
