"""What the order of scaling does to the gradient of the binary weights (deviation D2), on one fresh network.

The authors scale the weights before the convolution. Sums that are zero as integers then come out as rounding noise,
and ReLU lets gradient through by its sign: a lottery, which one last bit in the scale draws anew. Here the scale comes
after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from resteutils.models import create
from resteutils.nn.layers import anneal, binary_layers

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare", "gradient", "random_batch"]

LAST_BIT = 1 + 2.0**-23  # float32's epsilon: alpha = mean|w| moves by about one last bit, and no sign moves


def random_batch(size: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Normal noise as images (size, 3, 32, 32), and labels: the lottery needs no data."""
    dice = torch.Generator().manual_seed(seed)
    return torch.randn(size, 3, 32, 32, generator=dice), torch.randint(10, (size,), generator=dice)


def gradient(order: str, images: Tensor, labels: Tensor, factor: float = 1.0, seed: int = 0) -> Tensor:
    """The gradient of all binary weights of a fresh ResNet-20 (o = 1, the start of ReSTE's path), flattened.

    images (N, 3, H, W), labels (N,); ``order`` is "after" or "before"; ``factor`` multiplies the latent weights.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model = create("resnet20", bits="1/1").train()
    anneal(model, 0.0)
    layers = [layer for _, layer in binary_layers(model)]
    with torch.no_grad():
        for layer in layers:
            layer.scale_order = order
            layer.weight.mul_(factor)
    F.cross_entropy(model(images), labels).backward()
    return torch.cat([layer.weight.grad.flatten() for layer in layers]).double()


def compare(images: Tensor, labels: Tensor, seed: int = 0) -> pd.DataFrame:
    """One line per order, "after" and "before": the gradient's norm, its cosine to that of "after", and how far one
    last bit more in the scales moves it, in percent."""
    import pandas as pd

    lines = {}
    for order in ("after", "before"):
        found = gradient(order, images, labels, seed=seed)
        nudged = gradient(order, images, labels, LAST_BIT, seed)
        lines[order] = {"norm": float(found.norm()), "gradient": found}
        lines[order]["changed by one last bit (%)"] = 100 * float((nudged - found).norm() / found.norm())
    reference = lines["after"]["gradient"]
    for line in lines.values():
        line["cosine to after"] = float(F.cosine_similarity(line.pop("gradient"), reference, dim=0))
    return pd.DataFrame.from_dict(lines, orient="index")
