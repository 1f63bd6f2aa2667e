"""ResNets: for small images ResNet-20 (one skip or Bi-Real's double skip) and -18, for ImageNet -18 and -34.

Layer order, shortcuts, extra BatchNorm and initialisation follow the authors' code, the double skip of the ImageNet
networks too. At 32x32 RGB with ten classes ResNet-20 has 269,850 parameters and ResNet-18 has 11,174,986; at 224x224
RGB with 1,000 classes ResNet-18 has 11,690,536 and ResNet-34 has 21,798,696.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from resteutils.models.common import ConvFactory, check_size, conv_relu_bn, kaiming

__all__ = [
    "Block",
    "PadShortcut",
    "ResNet",
    "resnet18",
    "resnet18_imagenet",
    "resnet20",
    "resnet20_bireal",
    "resnet34_imagenet",
]


class Block(nn.Module):
    """Two 3x3 convolutions, (N, cin, H, W) -> (N, cout, H/stride, W/stride).

    One skip around both, or a *double skip* (Bi-Real): one around each.
    """

    def __init__(
        self, conv: ConvFactory, shortcut: nn.Module, cin: int, cout: int, stride: int, double_skip: bool = False
    ) -> None:
        super().__init__()
        self.first = conv_relu_bn(conv(cin, cout, stride=stride), cout)
        self.second = conv_relu_bn(conv(cout, cout), cout)
        self.shortcut = shortcut
        self.double_skip = double_skip

    def forward(self, x: Tensor) -> Tensor:
        skip = self.shortcut(x)
        if self.double_skip:
            x = self.first(x) + skip
            return self.second(x) + x
        return self.second(self.first(x)) + skip


def projection(cin: int, cout: int, stride: int) -> nn.Sequential:
    """Shortcut of ResNet-18 and -34: full-precision 1x1 convolution and BatchNorm."""
    return nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))


class PadShortcut(nn.Module):
    """Shortcut of ResNet-20 ("option A"): every ``stride``-th pixel, zero channels on both sides; no parameters."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.stride, self.before, self.after = stride, (cout - cin) // 2, (cout - cin + 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(x, (0, 0, 0, 0, self.before, self.after))


class ResNet(nn.Module):
    """Stem, stages of blocks, global average pooling, BatchNorm, classifier: (N, C, H, W) -> (N, classes).

    Every stage but the first begins with a block that halves the image and has a ``shortcut``; where the shape stays
    the skip is the identity. ``block`` makes one from (conv, shortcut, cin, cout, stride), as :class:`Block` does.
    """

    def __init__(
        self,
        stem: nn.Module,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        conv: ConvFactory,
        shortcut: Callable[[int, int, int], nn.Module],
        block: Callable[[ConvFactory, nn.Module, int, int, int], nn.Module],
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stem = stem
        blocks, cin = [], widths[0]
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                skip = nn.Identity() if stride == 1 else shortcut(cin, width, stride)
                blocks.append(block(conv, skip, cin, width, stride))
                cin = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(cin), nn.Linear(cin, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


def resnet20(
    conv: ConvFactory, num_classes: int, image_size: int, in_channels: int, double_skip: bool = False
) -> ResNet:
    """ResNet-20: 3-3-3 blocks of 16, 32, 64 channels, parameter-free shortcuts, Kaiming normal initialisation."""
    check_size(image_size, 4, "resnet20")
    stem, block = _small_stem(in_channels, 16), partial(Block, double_skip=double_skip)
    return kaiming(ResNet(stem, (3, 3, 3), (16, 32, 64), conv, PadShortcut, block, num_classes), linear=True)


def resnet20_bireal(conv: ConvFactory, num_classes: int, image_size: int, in_channels: int) -> ResNet:
    """ResNet-20 with a skip around each convolution, as in Bi-Real Net."""
    return resnet20(conv, num_classes, image_size, in_channels, double_skip=True)


def resnet18(conv: ConvFactory, num_classes: int, image_size: int, in_channels: int) -> ResNet:
    """ResNet-18 for small images: 2-2-2-2 blocks of 64 to 512 channels, 1x1 shortcuts, PyTorch's initialisation."""
    check_size(image_size, 8, "resnet18")
    stem = _small_stem(in_channels, 64)
    return ResNet(stem, (2, 2, 2, 2), (64, 128, 256, 512), conv, projection, Block, num_classes)


def resnet18_imagenet(conv: ConvFactory, num_classes: int, image_size: int, in_channels: int) -> ResNet:
    """2-2-2-2 blocks, (N, 3, 224, 224) -> (N, 1000)."""
    return _imagenet((2, 2, 2, 2), conv, num_classes, image_size, in_channels)


def resnet34_imagenet(conv: ConvFactory, num_classes: int, image_size: int, in_channels: int) -> ResNet:
    """3-4-6-3 blocks, (N, 3, 224, 224) -> (N, 1000)."""
    return _imagenet((3, 4, 6, 3), conv, num_classes, image_size, in_channels)


def _imagenet(
    depths: tuple[int, ...], conv: ConvFactory, num_classes: int, image_size: int, in_channels: int
) -> ResNet:
    check_size(image_size, 32, "resnet for ImageNet")
    stem = conv_relu_bn(nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False), 64)
    stem.append(nn.MaxPool2d(3, stride=2, padding=1))
    block = partial(Block, double_skip=True)
    return kaiming(ResNet(stem, depths, (64, 128, 256, 512), conv, projection, block, num_classes))


def _small_stem(in_channels: int, width: int) -> nn.Sequential:
    return conv_relu_bn(nn.Conv2d(in_channels, width, 3, padding=1, bias=False), width)
