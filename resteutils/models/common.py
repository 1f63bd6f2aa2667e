"""What all networks share: which convolutions are binary, the order of layers, and how weights start.

Common to the paper's networks: the first convolution, 1x1 shortcuts and the classifier keep full precision, every other
convolution is binary; inside a block the order is convolution -> ReLU -> BatchNorm; there is no ReLU after an addition
and no bias in a convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from resteutils.nn.layers import BinaryConv2d

__all__ = ["BITS", "ConvFactory", "check_size", "conv_factory", "conv_relu_bn", "kaiming"]

BITS = ("1/1", "1/32", "32/32")

ConvFactory = Callable[..., nn.Module]


def conv_factory(bits: str, **options: Any) -> ConvFactory:
    """What builds the inner 3x3 convolutions of a network from (cin, cout, stride=1).

    Binary at W/A 1/1 and 1/32, with ``options`` of :class:`resteutils.BinaryConv2d`; plain at 32/32 (the float twin),
    which has no use for them. Raises ``ValueError`` for other bits.
    """
    if bits not in BITS:
        raise ValueError(f"bits = {bits!r}, expected one of {', '.join(BITS)} (weights/activations)")
    if bits == "32/32":
        return partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
    return partial(BinaryConv2d, kernel_size=3, padding=1, binarize_input=bits == "1/1", **options)


def conv_relu_bn(conv: nn.Module, channels: int) -> nn.Sequential:
    """The paper's order inside blocks and stems."""
    return nn.Sequential(conv, nn.ReLU(inplace=True), nn.BatchNorm2d(channels))


def kaiming(model: nn.Module, mode: str = "fan_in", linear: bool = False) -> nn.Module:
    """Kaiming normal (ReLU) for every convolution and, if asked, the classifier."""
    kinds = (nn.Conv2d, nn.Linear) if linear else nn.Conv2d
    for module in model.modules():
        if isinstance(module, kinds):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
    return model


def check_size(image_size: int, divisor: int, name: str) -> None:
    if image_size % divisor:
        raise ValueError(f"{name}: image_size = {image_size}, expected a positive multiple of {divisor}")
