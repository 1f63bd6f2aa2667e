"""Networks that can be packed: one like a trained one, and a small one whose parts can be exchanged."""

from __future__ import annotations

import torch
from torch import nn

import resteutils as ru


def trained(name: str, bits: str = "1/1", size: int = 32, seed: int = 0, **fields) -> nn.Module:
    """A network with the BatchNorm of a trained one: scales of both signs, statistics of its own activations."""
    torch.manual_seed(seed)
    model = ru.create(name, bits, image_size=size, **fields)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(8, fields.get("in_channels", 3), size, size))
    return model.eval()


def small_network(*changed: nn.Module, at: int = 0) -> nn.Sequential:
    """A network that can be packed, with ``changed`` in the place of the module at ``at``."""
    parts = [
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        ru.BinaryConv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(8),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ]
    parts[at : at + len(changed)] = changed
    return nn.Sequential(*parts).eval()
