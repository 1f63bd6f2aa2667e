"""ResNet-20 as IR-Net arranges it (Qin et al., *Forward and Backward Information Retention for Accurate Binary Neural
Networks*, CVPR 2020): BatchNorm behind each convolution, a skip around each, then Hardtanh instead of ReLU.

Hardtanh keeps the activations within [-1, 1] and passes no gradient beyond. EDE's surrogate was made for that: block G
of ``docs/protocol.md``. Only the arrangement is IR-Net's; weights are scaled as in all networks here.
"""

from __future__ import annotations

from torch import Tensor, nn

from resteutils.models.common import ConvFactory, check_size, kaiming
from resteutils.models.resnet import PadShortcut, ResNet

__all__ = ["HardtanhBlock", "resnet20_hardtanh"]


class HardtanhBlock(nn.Module):
    """Two 3x3 convolutions with a skip around each, (N, cin, H, W) -> (N, cout, H/stride, W/stride)."""

    def __init__(self, conv: ConvFactory, shortcut: nn.Module, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(conv(cin, cout, stride=stride), nn.BatchNorm2d(cout))
        self.second = nn.Sequential(conv(cout, cout), nn.BatchNorm2d(cout))
        self.shortcut = shortcut
        self.between, self.behind = nn.Hardtanh(), nn.Hardtanh()

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(self.first(x) + self.shortcut(x))
        return self.behind(self.second(x) + x)


def resnet20_hardtanh(conv: ConvFactory, num_classes: int, image_size: int, in_channels: int) -> ResNet:
    """ResNet-20 in IR-Net's arrangement: widths, depths, shortcuts and parameters are ``resnet20``'s."""
    check_size(image_size, 4, "resnet20_hardtanh")
    stem = nn.Sequential(nn.Conv2d(in_channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.Hardtanh())
    return kaiming(ResNet(stem, (3, 3, 3), (16, 32, 64), conv, PadShortcut, HardtanhBlock, num_classes), linear=True)
