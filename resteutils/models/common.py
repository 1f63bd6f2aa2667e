"""What all networks share: which convolutions are binary, and how a name and a bit width become a network.

Common to the paper's networks: the first convolution, 1x1 shortcuts and the classifier keep full precision, every other
convolution is binary; inside a block the order is convolution -> ReLU -> BatchNorm; there is no ReLU after an addition
and no bias in a convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from resteutils.estimators import Estimator
from resteutils.layers import BinaryConv2d

__all__ = ["BITS", "ConvFactory", "basic_block", "conv_relu_bn"]

BITS = ("1/1", "1/32", "32/32")

ConvFactory = Callable[..., nn.Module]


@dataclass(frozen=True)
class conv_factory:  # noqa: N801 - used like a function
    """Builds the inner convolutions of a network: binary at W/A 1/1 and 1/32, plain at 32/32 (the float twin)."""

    bits: str = "1/1"
    estimator: Estimator | None = None
    input_estimator: Estimator | None = None
    scale: str = "layer"
    scale_order: str = "after"
    standardize: bool = False

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"bits = {self.bits!r}, expected one of {', '.join(BITS)} (weights/activations)")

    def __call__(self, cin: int, cout: int, stride: int = 1) -> nn.Module:
        if self.bits == "32/32":
            return nn.Conv2d(cin, cout, 3, stride, padding=1, bias=False)
        return BinaryConv2d(
            cin,
            cout,
            3,
            stride,
            padding=1,
            estimator=self.estimator,
            input_estimator=self.input_estimator,
            binarize_input=self.bits == "1/1",
            scale=self.scale,
            scale_order=self.scale_order,
            standardize=self.standardize,
        )


def conv_relu_bn(conv: nn.Module, channels: int) -> nn.Sequential:
    """The paper's order inside blocks and stems."""
    return nn.Sequential(conv, nn.ReLU(inplace=True), nn.BatchNorm2d(channels))


class Block(nn.Module):
    """Two 3x3 convolutions, (N, cin, H, W) -> (N, cout, H/stride, W/stride).

    One skip around both, or a *double skip* (Bi-Real): one around each.
    """

    def __init__(
        self, conv: ConvFactory, shortcut: nn.Module, cin: int, cout: int, stride: int, double_skip: bool
    ) -> None:
        super().__init__()
        self.first = conv_relu_bn(conv(cin, cout, stride), cout)
        self.second = conv_relu_bn(conv(cout, cout), cout)
        self.shortcut = shortcut
        self.double_skip = double_skip

    def forward(self, x: Tensor) -> Tensor:
        skip = self.shortcut(x)
        if self.double_skip:
            x = self.first(x) + skip
            return self.second(x) + x
        return self.second(self.first(x)) + skip


def basic_block(conv, cin, cout, stride, double_skip, shortcut: Callable[[int, int, int], nn.Module]) -> Block:
    """A block with the shortcut that its change of shape asks for; the identity where the shape stays."""
    same = stride == 1 and cin == cout
    return Block(conv, nn.Identity() if same else shortcut(cin, cout, stride), cin, cout, stride, double_skip)


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
    """Stem, stages of blocks, global average pooling, BatchNorm, classifier: (N, C, H, W) -> (N, classes)."""

    def __init__(
        self,
        stem: nn.Module,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        conv: ConvFactory,
        shortcut: Callable[[int, int, int], nn.Module],
        double_skip: bool,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stem = stem
        blocks, cin = [], widths[0]
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(basic_block(conv, cin, width, stride, double_skip, shortcut))
                cin = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(cin), nn.Linear(cin, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


def kaiming(model: nn.Module, linear: bool = False) -> nn.Module:
    """Kaiming normal (fan-in, ReLU) for every convolution and, if asked, the classifier."""
    kinds = (nn.Conv2d, nn.Linear) if linear else nn.Conv2d
    for module in model.modules():
        if isinstance(module, kinds):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    return model


def check_size(image_size: int, divisor: int, name: str) -> None:
    if image_size % divisor:
        raise ValueError(f"{name}: image_size = {image_size}, expected a positive multiple of {divisor}")
