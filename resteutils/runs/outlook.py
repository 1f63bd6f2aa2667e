"""What the runs of an item will cost, before the first of them trains, and how far they are after each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from resteutils.recipes import Recipe
from resteutils.system.durations import about

__all__ = ["Outlook", "cores_of", "seconds"]

# Milliseconds of one core (AMD EPYC, AVX2) for a training image in an epoch, binary and float. CIFAR-10: the median of
# the committed runs. Digits: processor time of three epochs of 128 or 384 images, scaled so that the 28 runs of Table 1
# take the 6 minutes that they took on two idle cores.
MILLISECONDS = {
    ("resnet20", "cifar10"): (5.7, None),
    ("resnet20", "digits"): (1.2, 0.6),
    ("vgg_small", "digits"): (6.1, 7.6),
    ("resnet18", "digits"): (13.1, 11.8),
}
IMAGES = {"digits": 1437, "cifar10": 50_000, "cifar100": 50_000}
WIDTH = 20  # of the bar, in characters
EARLY = 0.1  # share of the work that is done before its pace is told


def seconds(recipe: Recipe, cores: int) -> float | None:
    """How long a training takes on that many cores by what was measured; None for what was not."""
    network = "resnet20" if recipe.model.startswith("resnet20") else recipe.model  # its variants cost alike
    measured = MILLISECONDS.get((network, recipe.dataset))
    images = recipe.train_size or IMAGES.get(recipe.dataset)
    each = measured[recipe.bits == "32/32"] if measured else None
    return each * images * recipe.epochs / 1000 / cores if each and images else None


def cores_of(device: str) -> int:
    """The cores that a training on this device uses; 0 on a GPU, whose pace is not known beforehand."""
    gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    return 0 if gpu else torch.get_num_threads()


@dataclass
class Outlook:
    """The work of some runs. ``finished`` are ids of runs that will only be read; ``cores`` 0 where no pace is known,
    as on a GPU.
    """

    recipes: Sequence[Recipe]
    finished: Iterable[str] = ()
    cores: int = 1
    _weights: dict[str, float] = field(init=False)
    _to_come: dict[str, float] = field(init=False)
    _spent: float = 0.0

    def __post_init__(self) -> None:
        read = set(self.finished)
        known = {r.run_id: seconds(r, self.cores) if self.cores else None for r in self.recipes}
        self.known = all(known.values())
        self._weights = {r.run_id: 0.0 if r.run_id in read else known[r.run_id] or r.epochs for r in self.recipes}
        self._to_come = dict(self._weights)
        self.to_train = len(known.keys() - read)  # overrides may make one run of several rows

    def shortest_first(self) -> list[Recipe]:
        """The runs in the order in which they are done; those that take as long as each other stay in theirs."""
        return sorted(self.recipes, key=lambda recipe: self._weights[recipe.run_id])

    def before(self) -> str:
        """What the reader is told first: how many runs, how long, how to stop and how to go on."""
        read = len(self._weights) - self.to_train
        said = f"{self.to_train} run{'s' * (self.to_train != 1)} to train{f', {read} to read' if read else ''}"
        if self.known and self.cores:
            said += f": {about(sum(self._weights.values()))} on {self.cores} core{'s' * (self.cores != 1)}"
        return (
            f"{said}. To stop: the square button, or Ctrl-C in a terminal. Everything is saved; the same cell or "
            "command goes on from there."
        )

    def after(self, recipe: Recipe, took: float) -> str:
        """A bar over all runs, and what is left by the pace so far; "" where nothing was to train.

        Below a tenth of the work the pace says little: the first runs also compile what the others find compiled.
        """
        weight = self._to_come.pop(recipe.run_id, 0.0)
        whole, rest = sum(self._weights.values()), sum(self._to_come.values())
        self._spent += took if weight else 0.0
        if not whole:
            return ""
        share = 1 - rest / whole
        bar = "#" * round(WIDTH * share) + "." * (WIDTH - round(WIDTH * share))
        left = self._spent / share * (1 - share) if share >= EARLY else 0.0
        return f"[{bar}] {100 * share:.0f} %{f', {about(left)} left' if left else ''}"
