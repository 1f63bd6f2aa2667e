"""GPU-hours of every item in profile ``paper``, estimated: ``python -m benchmarks.gpu.hours`` prints the table.

An estimate from what :mod:`benchmarks.gpu.roofline` counted and the assumptions below, for one H200; no GPU was
measured. Runs that several items share are counted in each.
"""

from __future__ import annotations

from dataclasses import dataclass

from resteutils.data.folder import IMAGENET
from resteutils.recipes import Recipe
from resteutils.recipes.rows import ITEMS, item_recipes

__all__ = ["WAYS", "Way", "hours", "table"]


@dataclass(frozen=True)
class Counted:
    """Of one network's compiled step: kernels, megabytes an image at 1/1 and 32/32, and millions of products an image
    (:func:`ru.summary`)."""

    kernels: int
    binary_mb: float
    float_mb: float
    macs: float


@dataclass(frozen=True)
class Way:
    """How a GPU is used: rate of products, host time of a kernel, runs at once."""

    name: str
    products: float  # multiply-adds a second that convolutions reach
    launch: float  # seconds of the host, or of the GPU between two kernels
    together: int = 1


COUNTED = {
    "resnet20": Counted(429, 15.5, 11.8, 40.6),
}
BYTES_A_SECOND = 3.9e12  # 0.8 of the memory's 4.8 TB/s
INPUT = 5_800  # images of ImageNet a second that 16 cores decode
TRAINING = {"cifar10": 50_000, "imagenet": IMAGENET["train"]}
EVALUATED = {"cifar10": 10_000, "imagenet": IMAGENET["val"]}
WAYS = (
    Way("fp32, compiled", 20e12, 7e-6),
    Way("TF32, CUDA graphs", 60e12, 1.5e-6),
    Way("TF32, four runs a GPU", 60e12, 7e-6, together=4),
)


def hours(recipe: Recipe, way: Way) -> float:
    """GPU-hours of a run: of each step the longer of host and GPU; an evaluated image costs a third of a trained."""
    counted, images = COUNTED[recipe.model], TRAINING[recipe.dataset] + EVALUATED[recipe.dataset] / 3
    megabytes = counted.float_mb if recipe.bits == "32/32" else counted.binary_mb
    gpu = recipe.batch_size * (1e6 * megabytes / BYTES_A_SECOND + 3e6 * counted.macs / way.products)
    step = max(gpu, counted.kernels * way.launch / way.together)
    if recipe.dataset == "imagenet":
        step = max(step, recipe.batch_size / INPUT)
    return recipe.epochs * images / recipe.batch_size * step / 3600


def table() -> list[str]:
    """Lines of Markdown: an item each, with its runs."""
    lines = [f"| item | runs | {' | '.join(way.name for way in WAYS)} |", f"| --- | ---: |{' ---: |' * len(WAYS)}"]
    for item in ITEMS.values():
        if not item.rows:
            continue
        recipes = item_recipes(item.name, "paper")
        sums = (sum(hours(recipe, way) for recipe in recipes) for way in WAYS)
        lines.append(f"| `{item.name}` | {len(recipes)} | {' | '.join(f'{total:,.0f}' for total in sums)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
