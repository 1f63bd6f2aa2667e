"""ResNet-20 with another gradient where the order of scaling has one: block C2 of ``docs/protocol.md``.

Scaled before the convolution, an exact zero becomes rounding noise, and ReLU passes gradient where that is positive;
the gradients of the early layers come out larger. These networks keep the scale after the convolution and put one of
the two effects in by hand. Their outputs are ResNet-20's.
"""

from __future__ import annotations

from torch import nn

from resteutils.models.common import ConvFactory
from resteutils.models.resnet import ResNet, resnet20
from resteutils.nn.layers import binary_layers

__all__ = ["EARLY", "OPEN", "resnet20_early", "resnet20_half_gate", "resnet20_random_gate"]

OPEN = 0.44  # the share of exact zeros that the authors' order lets through
EARLY = 1.27  # norm of the authors' gradients over ours in the first six binary layers: item ``order``


def _gated(model: ResNet, share: float, random: bool) -> ResNet:
    """Put a gate in the place of each ReLU behind a binary convolution."""
    from resteutils.models.zero_gate import ZeroGate

    for index, (name, _) in enumerate(binary_layers(model)):
        parent = model.get_submodule(name.rpartition(".")[0])
        assert isinstance(parent, nn.Sequential) and isinstance(parent[1], nn.ReLU)
        parent[1] = ZeroGate(share, random, index)
    return model


def resnet20_random_gate(conv: ConvFactory, num_classes: int, image_size: int, in_channels: int) -> ResNet:
    """ResNet-20 whose ReLUs let a random 44 % of exact zeros through."""
    return _gated(resnet20(conv, num_classes, image_size, in_channels), OPEN, random=True)


def resnet20_half_gate(conv: ConvFactory, num_classes: int, image_size: int, in_channels: int) -> ResNet:
    """ResNet-20 with ReLU'(0) = 1/2: the mean of a fair random gate, without its noise."""
    return _gated(resnet20(conv, num_classes, image_size, in_channels), 0.5, random=False)


def resnet20_early(conv: ConvFactory, num_classes: int, image_size: int, in_channels: int) -> ResNet:
    """ResNet-20 whose first six binary layers get gradients 1.27 times as large."""
    model = resnet20(conv, num_classes, image_size, in_channels)
    for _, layer in binary_layers(model)[:6]:
        layer.weight.register_hook(lambda gradient: gradient * EARLY)
    return model
