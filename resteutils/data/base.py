"""What every dataset shares: labelled images, the part of them that is used, the plan of an epoch, normalisation."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "AUGMENTATIONS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "NORMALIZATIONS",
    "Data",
    "EpochPlan",
    "Labelled",
    "check_choice",
    "chosen",
    "normalise",
    "statistics",
]

AUGMENTATIONS = ("crop-flip", "crop", "none")
NORMALIZATIONS = ("imagenet", "dataset")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CHOICE = [2308, 6689]  # seeds which images are taken: the same in every run

Part = TypeVar("Part")  # labelled images with a length and ``subset(index)``, in memory or on disk


@dataclass(frozen=True)
class Labelled:
    """Images as uint8 (N, C, H, W) and their labels as int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: np.ndarray) -> Labelled:
        return Labelled(self.images[index], self.labels[index])


class Data:
    """What training asks of a dataset, in memory or on disk: classes, sizes and steps. Each kind adds its
    ``train_batches`` and ``test_batches``.
    """

    classes: tuple[str, ...]
    mean: tuple[float, ...]  # per channel, of pixels in [0, 1]
    std: tuple[float, ...]
    train_size: int
    test_size: int
    digest: str = ""  # of the list of files and their sizes: two folders under one recipe are two results

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def fingerprint(self) -> str:
        """Digest of what is trained and tested on: equal where the data are."""
        return self.digest

    def normalise(self, images: Tensor) -> Tensor:
        """Map uint8 (N, C, H, W) to the float32 that networks see."""
        return normalise(images, self.mean, self.std)

    def steps(self, batch_size: int, world: int = 1) -> int:
        """Batches in an epoch. A last batch that would leave a process with fewer than 2 images is dropped: BatchNorm
        has no statistics of one.
        """
        full, rest = divmod(self.train_size, batch_size)
        return full + (rest >= 2 * world)

    def places(self, batch_size: int, start: int, rank: int, world: int) -> list[np.ndarray]:
        """Which places of an epoch's order process ``rank`` takes, for each step from ``start`` on."""
        bounds = [step * batch_size for step in range(start, self.steps(batch_size, world))]
        return [np.arange(b, min(b + batch_size, self.train_size))[rank::world] for b in bounds]


@dataclass(frozen=True)
class EpochPlan:
    """What happens to which image in one epoch: the order, and for each place in it a group (shift and flip)."""

    order: np.ndarray
    group: np.ndarray | None
    groups: int
    flips: int

    @classmethod
    def draw(cls, size: int, augment: str, padding: int, seed: int, epoch: int) -> EpochPlan:
        """A pure function of its arguments, on any machine and device."""
        random = np.random.Generator(np.random.PCG64([seed, epoch]))
        order = random.permutation(size)
        if augment == "none":
            return cls(order, None, 0, 1)
        flips = 2 if augment == "crop-flip" else 1
        groups = (2 * padding + 1) ** 2 * flips
        return cls(order, random.integers(0, groups, size), groups, flips)


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of pixels in [0, 1], over a whole training split."""
    pixels = images.transpose(0, 1).flatten(1)
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in pixels]).double()
    value = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * value).sum(1) / pixels.shape[1]
    std = ((counts * value**2).sum(1) / pixels.shape[1] - mean**2).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def chosen(train: Part, test: Part, train_size: int, test_size: int, holdout: int) -> tuple[Part, Part]:
    """The training and test images that are used, chosen once and for all: ``train_size`` and ``test_size`` of them, 0
    is all; with ``holdout`` so many training images, taken out of training, stand for the test set.

    Raises ``ValueError`` for more than there are.
    """
    if holdout:
        _check_size("holdout", holdout, len(train) - 2, "none")
        order = _order(len(train))
        train, test = train.subset(np.sort(order[:-holdout])), train.subset(np.sort(order[-holdout:]))
    return _first("train_size", train, train_size), _first("test_size", test, test_size)


def _first(what: str, part: Part, size: int) -> Part:
    if not size:
        return part
    _check_size(what, size, len(part), "all")
    return part.subset(np.sort(_order(len(part))[:size]))


def _order(size: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(CHOICE)).permutation(size)


def _check_size(what: str, value: int, largest: int, zero: str) -> None:
    if not 0 < value <= largest:
        raise ValueError(f"{what} = {value}, expected 0 ({zero}) or a number from 1 to {largest}")


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Map uint8 (N, C, H, W) to float32, (pixel/255 - mean)/std per channel.

    One product and one sum: written otherwise, the last bits of every committed run would be others.
    """
    scale, shift = _constants(tuple(mean), tuple(std), images.device)
    return images.to(torch.float32).mul_(scale).add_(shift)


@functools.lru_cache(maxsize=16)
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and summand, (1, C, 1, 1): made once a device, since each copy to a GPU would make its batch wait.

    float32 whatever torch's default is: they outlive the caller who had set another one.
    """
    columns = [1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
    scale, shift = (torch.tensor(each, dtype=torch.float32, device=device).view(1, -1, 1, 1) for each in columns)
    return scale, shift


def check_choice(what: str, value: str, accepted: tuple[str, ...]) -> None:
    """Raise ``ValueError``, naming what is accepted, where ``value`` is not among it."""
    if value not in accepted:
        raise ValueError(f"{what} = {value!r}, expected one of {', '.join(accepted)}")
