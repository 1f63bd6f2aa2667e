"""A constant gain on the weights' gradients is training with smaller weights: shown by training twice.

Let every latent weight's gradient be multiplied by c. With SGD, momentum and weight decay,

    w <- w - lr (c g + decay w)    divided by c is    w/c <- w/c - lr (g + decay w/c):

the same training of latent weights c times smaller, with no gain. sign(w) and sign(w/c) agree, the scale mean|w| is
removed by the BatchNorm behind, and so g is the same in both: exactly, where BatchNorm's eps is 0 and no weight reaches
the estimator's clip. A larger constant slope on the weights and smaller initial weights are therefore one thing, more
sign flips a step (compare Helwegen et al., *Latent Weights Do Not Exist*, NeurIPS 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resteutils.estimators import STE, GainSTE
from resteutils.models import create
from resteutils.nn.layers import BinaryConv2d, BinaryLinear, binary_layers

__all__ = ["Training", "compare", "resnet20", "small"]

UNCLIPPED = STE(clip=float("inf"))
GAIN = GainSTE(t=float("1e30"))  # at the end of its path: the plateau gain of o = 3, 4.64, clipped nowhere
RATE, MOMENTUM, DECAY = 0.1, 0.9, 1e-4


@dataclass(frozen=True)
class Training:
    """``signs`` of all binary weights after every step, and the ``losses``."""

    signs: list[Tensor]
    losses: list[float]

    def flips(self) -> list[int]:
        """How many signs each step changed."""
        return [int((a != b).sum()) for a, b in zip(self.signs, self.signs[1:], strict=False)]


def compare(make: Callable[[], nn.Module], steps: int = 10, batch: int = 16, size: int = 16) -> dict[str, Training]:
    """Train the network that ``make`` builds three times from one start, ``steps`` steps on random images.

    "gain" multiplies the weights' gradients, "small" starts from smaller weights without it, "plain" has neither.
    Everything is in float64.
    """
    dice = torch.Generator().manual_seed(0)
    images = torch.randn(steps, batch, 3, size, size, generator=dice, dtype=torch.float64)
    labels = torch.randint(10, (steps, batch), generator=dice)
    factor = float(GAIN.coefficients()[0])
    kinds = {"gain": (GAIN, 1.0), "small": (UNCLIPPED, 1 / factor), "plain": (UNCLIPPED, 1.0)}
    return {name: _train(make(), estimator, shrink, images, labels) for name, (estimator, shrink) in kinds.items()}


def _train(model: nn.Module, estimator: STE | GainSTE, shrink: float, images: Tensor, labels: Tensor) -> Training:
    model = model.double().train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-30
    layers = [layer for _, layer in binary_layers(model)]
    for layer in layers:
        layer.set_estimator(estimator, STE())
        with torch.no_grad():
            layer.weight.mul_(shrink)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    signs, losses = [_signs(layers)], []
    for x, y in zip(images, labels, strict=True):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        signs.append(_signs(layers))
        losses.append(float(loss.detach()))
    return Training(signs, losses)


def _signs(layers: list[BinaryConv2d | BinaryLinear]) -> Tensor:
    return torch.cat([(layer.weight.detach() >= 0).flatten() for layer in layers])


def small(width: int = 16) -> nn.Module:
    """Two binary layers with BatchNorm, always the same initial weights."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
            BinaryConv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
            BinaryConv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10),
        )  # fmt: skip


def resnet20() -> nn.Module:
    """ResNet-20 at 1/1: 267,264 binary weights, always the same initial ones."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return create("resnet20", bits="1/1")
