"""The order of scaling (deviation D2): what it does to the gradients of a binary network, before any training.

The authors scale the weights before the convolution. Sums that are zero as integers then come out as rounding noise,
and ReLU lets gradient through by its sign. One last bit in the scales draws that noise anew, so two runs of one program
on two machines follow different gradients. Here the scale comes after: sums are exact integers, and zeros stay zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resteutils.evidence import verdict
from resteutils.items.style import COLOURS, INK, blank, styled
from resteutils.models import create
from resteutils.nn.layers import anneal, binary_layers

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ORDERS", "figure", "gradients", "judge", "measure", "random_batch", "table"]

ORDERS = {"after": "scaled after the convolution (here)", "before": "scaled before it (the authors)"}
SEEDS = (0, 1, 2)
ALL = "all layers"
LAST_BIT = 1 + 2.0**-23  # float32's epsilon: alpha = mean|w| moves by about one last bit, and no sign moves


def random_batch(size: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw normal noise as images (size, 3, 32, 32), and labels (size,): the effect needs no data."""
    dice = torch.Generator().manual_seed(seed)
    return torch.randn(size, 3, 32, 32, generator=dice), torch.randint(10, (size,), generator=dice)


def gradients(
    order: str, images: Tensor, labels: Tensor, factor: float = 1.0, seed: int = 0
) -> tuple[list[Tensor], list[float]]:
    """Compute, for each binary layer of a fresh ResNet-20 (o = 1, the start of ReSTE's path), the gradient of its
    weights, flattened to float64, and the share of its output that is exactly zero.

    images (N, 3, H, W), labels (N,); ``order`` is "after" or "before"; ``factor`` multiplies the latent weights.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model = create("resnet20", bits="1/1").train()
    anneal(model, 0.0)
    layers, zeros = [layer for _, layer in binary_layers(model)], []

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        zeros.append(float((output == 0).double().mean()))

    for layer in layers:
        layer.scale_order = order
        layer.register_forward_hook(count)
        with torch.no_grad():
            layer.weight.mul_(factor)
    F.cross_entropy(model(images), labels).backward()
    return [layer.weight.grad.flatten().double() for layer in layers], zeros


def measure(images: Tensor, labels: Tensor) -> pd.DataFrame:
    """One line per seed, order and binary layer (from 1), and one for all layers.

    Columns: ``zeros``, the share of exact zeros in the layer's output; ``norm``, the gradient's norm over that of the
    order "after"; ``cosine`` to it; ``changed``, how far one last bit in the scales moves it, over its norm.
    """
    import pandas as pd

    return pd.DataFrame([line for seed in SEEDS for line in _of_seed(images, labels, seed)])


def _of_seed(images: Tensor, labels: Tensor, seed: int) -> Iterator[dict[str, object]]:
    reference: list[Tensor] = []
    for order in ORDERS:
        found, zeros = gradients(order, images, labels, seed=seed)
        nudged, _ = gradients(order, images, labels, LAST_BIT, seed)
        found, nudged = [torch.cat(found), *found], [torch.cat(nudged), *nudged]
        reference = reference or found
        shares = [sum(zeros) / len(zeros), *zeros]
        for layer, (g, moved, ours, share) in enumerate(zip(found, nudged, reference, shares, strict=True)):
            yield {
                "seed": seed,
                "order": order,
                "layer": layer or ALL,
                "zeros": share,
                "norm": float(g.norm() / ours.norm()),
                "cosine": float(F.cosine_similarity(g, ours, dim=0)),
                "changed": float((moved - g).norm() / g.norm()),
            }


def table(found: pd.DataFrame) -> pd.DataFrame:
    """The lines of all layers together: one per order and seed."""
    import pandas as pd

    whole = found[found.layer == ALL]
    return pd.DataFrame(
        {
            "Order": whole.order.map(ORDERS),
            "Seed": whole.seed,
            "Exact zeros (%)": 100 * whole.zeros,
            "Gradient's norm": whole.norm,
            "Cosine to ours": whole.cosine,
            "Changed by one last bit (%)": 100 * whole.changed,
        }
    ).sort_values(["Order", "Seed"], ignore_index=True)


def judge(found: pd.DataFrame, profile: str) -> verdict.Verdict:
    """Three facts about the orders: how far the gradients are apart, and how far one last bit moves each."""
    whole = found[found.layer == ALL].set_index("order")
    ours, theirs = whole.loc["after"], whole.loc["before"]
    checks = [
        verdict.fact(
            "scaled after, one last bit in the scales hardly moves the gradient",
            ours.changed.max() < 1e-3,
            f"by {span(100 * ours.changed, '.1g')} % of its norm",
            tolerance="0.1 %",
        ),
        verdict.fact(
            "scaled before, the same bit moves more than half of it",
            theirs.changed.min() > 0.5,
            f"by {span(100 * theirs.changed)} % of its norm",
            tolerance="50 %",
        ),
        verdict.fact(
            "the two orders follow different gradients",
            theirs.cosine.max() < 0.9,
            f"cosine {span(theirs.cosine, '.2f')}, norm {span(theirs.norm, '.2f')} times ours",
            tolerance="cosine 0.9",
        ),
    ]
    text = "One fresh ResNet-20 per seed, 64 images of noise. What the order does to accuracy is block C of item `why`."
    return verdict.judge(profile, checks, text)


def span(values: pd.Series, form: str = ".0f") -> str:
    """Format the least and the largest value: ``62 to 79``."""
    low, high = (format(each, form) for each in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


# --- the picture -----------------------------------------------------------------------------------------------------

STYLES = {"after": (COLOURS["ReSTE"], "o"), "before": (COLOURS["other"], "s")}


@styled
def figure(found: pd.DataFrame) -> Figure:
    """By layer, a dot per seed and their mean: what one last bit moves, and how far the orders are apart."""
    figure, (moved, apart) = blank(9.0, 3.9, ncols=2)
    layers = found[found.layer != ALL]
    for order, (colour, marker) in STYLES.items():
        _dotted(moved, layers[layers.order == order], "changed", colour, marker, ORDERS[order])
    moved.set(yscale="log", ylabel="gradient changed by one last bit, over its norm")
    moved.set_title("Scaled before, a gradient is noise to one bit")
    theirs = layers[layers.order == "before"]
    _dotted(apart, theirs, "norm", COLOURS["other"], "s", "norm, over that of our order")
    _dotted(apart, theirs, "cosine", INK, "D", "cosine to the gradient of our order")
    apart.axhline(1, color=INK, lw=0.8, ls=":")
    apart.set(ylim=(0, None), ylabel="gradient of the authors' order")
    apart.set_title("The early layers differ most")
    for axes, place in ((moved, "center right"), (apart, "lower right")):
        axes.set_xlabel("binary layer, from the image on")
        axes.set_xticks([1, 6, 12, 18])
        axes.legend(loc=place, fontsize=7.5)
    return figure


def _dotted(axes: Axes, lines: pd.DataFrame, column: str, colour: str, marker: str, label: str) -> None:
    mean = lines.groupby("layer")[column].mean()
    axes.plot(lines.layer.astype(int), lines[column], ".", color=colour, alpha=0.35, ms=4)
    axes.plot(mean.index.astype(int), mean, f"-{marker}", color=colour, ms=3.5, lw=1.2, label=label)
