"""GPU-hours of every item, and of every block of ``docs/protocol.md``, in profile ``paper``, estimated:
``python -m benchmarks.gpu.hours`` prints both tables.

For one H200, which nobody has measured. Bytes and kernels of a step come from what :mod:`benchmarks.gpu.roofline`
counted of ResNet-20, scaled by the convolutions and their outputs; the speeds are assumptions. Runs that several items
share are counted in each.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

import resteutils as ru
from benchmarks.gpu.roofline import BYTES_A_SECOND
from resteutils.data.folder import IMAGENET
from resteutils.items.blocks import BLOCKS
from resteutils.recipes import Recipe
from resteutils.recipes.rows import ITEMS, item_recipes

__all__ = ["WAYS", "Way", "blocks", "hours", "items", "table"]


@dataclass(frozen=True)
class Way:
    """How a GPU is used: ``products`` a second that convolutions reach, seconds of a ``launch``, runs at once."""

    name: str
    products: float
    launch: float
    together: int = 1


WAYS = (
    Way("fp32, compiled", 20e12, 7e-6),
    Way("TF32, CUDA graphs", 60e12, 1.5e-6),
    Way("TF32, compiled, four runs a GPU", 60e12, 7e-6, together=4),
)
BYTES = {"1/1": 77, "1/32": 77, "32/32": 62}  # moved in a step for each number that a convolution gives
KERNELS = {"1/1": 21, "1/32": 21, "32/32": 12}  # of a step, for each convolution
INPUT = 3_700  # images of ImageNet a second: 16 cores at 230
TRAINED = {"cifar10": 50_000, "cifar10-16px": 50_000, "imagenet": IMAGENET["train"]}
EVALUATED = {"cifar10": 10_000, "cifar10-16px": 10_000, "imagenet": IMAGENET["val"]}


@functools.cache
def _size(model: str, image: int) -> tuple[int, int, float]:
    """Convolutions of a network, the numbers that they give for an image, and their multiply-adds."""
    network, numbers = ru.create(model, image_size=image, num_classes=10).eval(), []
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda layer, inputs, output: numbers.append(output.numel()))
    with torch.no_grad():
        network(torch.zeros(1, 3, image, image))
    found = ru.summary(network, (3, image, image))
    return len(numbers), sum(numbers), found.binary_macs + found.mixed_macs + found.float_macs


def hours(recipe: Recipe, way: Way) -> float:
    """GPU-hours of a run: a step is the longest of GPU, host and input; to evaluate an image costs a third."""
    convolutions, numbers, products = _size(recipe.model, recipe.image_size)
    gpu = recipe.batch_size * (numbers * BYTES[recipe.bits] / BYTES_A_SECOND + 3 * products / way.products)
    step = max(gpu, convolutions * KERNELS[recipe.bits] * way.launch / way.together)
    if recipe.dataset == "imagenet":
        step = max(step, recipe.batch_size / INPUT)
    trained, evaluated = recipe.train_size or TRAINED[recipe.dataset], recipe.test_size or EVALUATED[recipe.dataset]
    images = trained + evaluated / 3
    return recipe.epochs * images / recipe.batch_size * step / 3600


def items() -> dict[str, list[Recipe]]:
    """The runs of each item that has any."""
    return {f"`{name}`": item_recipes(name, "paper") for name, item in ITEMS.items() if item.rows}


def blocks() -> dict[str, list[Recipe]]:
    """The runs of each block's own rows."""
    return {b.name: item_recipes("why", "paper", rows=b.own, seeds=range(b.n)) for b in BLOCKS}


def table(head: str, runs: Mapping[str, Sequence[Recipe]]) -> list[str]:
    """Lines of Markdown, one for each name, with its runs."""
    lines = [f"| {head} | runs | {' | '.join(way.name for way in WAYS)} |", f"| --- | ---: |{' ---: |' * len(WAYS)}"]
    for name, recipes in runs.items():
        sums = (sum(hours(recipe, way) for recipe in recipes) for way in WAYS)
        lines.append(f"| {name} | {len(recipes)} | {' | '.join(f'{total:,.0f}' for total in sums)} |")
    return lines


if __name__ == "__main__":
    print("\n".join([*table("item", items()), "", *table("block", blocks())]))
