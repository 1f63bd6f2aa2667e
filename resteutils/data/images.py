"""Datasets held in memory as uint8 and augmented a whole epoch at a time.

Small images are decoded once and stay on the training device. Padding-and-crop has few distinct shifts, so an epoch is
cut out of the padded images one shift at a time: plain slices of many images instead of one transform per image. Order,
shifts and flips are a pure function of (seed, epoch), so a resumed run sees exactly the batches that an unbroken one
would see. A test compares the batches with those of torchvision's per-image pipeline.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from resteutils.data.sources import chosen, cifar10, digits, statistics
from resteutils.system.settings import data_dir as data_folder

__all__ = ["AUGMENTATIONS", "DATASETS", "NORMALIZATIONS", "Data", "Images", "open_images"]

DATASETS = ("digits", "cifar10")
AUGMENTATIONS = ("crop-flip", "crop", "none")
NORMALIZATIONS = ("imagenet", "dataset")

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Data:
    """What training asks of a dataset, in memory or on disk: classes, sizes and steps. Each kind adds its
    ``train_batches`` and ``test_batches``.
    """

    classes: tuple[str, ...]
    train_size: int
    test_size: int
    digest: str = ""  # of the list of files and their sizes: two folders under one recipe are two results

    @property
    def num_classes(self) -> int:
        return len(self.classes)

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


@dataclass
class Images(Data):
    """A dataset in memory. Images are uint8 (N, C, H, W), labels int64 (N,).

    ``mean`` and ``std`` are per channel, for pixels in [0, 1]. ``padding`` is that of the random crop.
    """

    name: str
    classes: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str = "crop-flip"
    padding: int = 4

    @property
    def train_size(self) -> int:
        return len(self.train_labels)

    @property
    def test_size(self) -> int:
        return len(self.test_labels)

    def to(self, device: torch.device | str) -> Images:
        """Move all images to the device, once; small sets belong where they are used."""
        for name in ("train_images", "train_labels", "test_images", "test_labels"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def train_batches(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented, normalised batches of epoch ``epoch`` (from 0), from step ``start`` on: float32 (B, C, H, W) and
        int64 (B,). ``batch_size`` counts all processes together; process ``rank`` gets every ``world``-th image of each
        batch.
        """
        plan = EpochPlan.draw(self.train_size, self.augment, self.padding, seed, epoch)
        shares = self.places(batch_size, start, rank, world)
        if not shares:
            return
        images, labels, places = self._cut(plan, np.concatenate(shares))
        offset = 0
        for share in shares:
            batch = places[offset : offset + len(share)]
            yield self.normalise(images.index_select(0, batch)), labels.index_select(0, batch)
            offset += len(share)

    def test_batches(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised test batches in order, without padding: process ``rank`` gets every ``world``-th image."""
        images, labels = self.test_images[rank::world], self.test_labels[rank::world]
        for begin in range(0, len(labels), batch_size):
            yield self.normalise(images[begin : begin + batch_size]), labels[begin : begin + batch_size]

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) -> float32, (pixel/255 - mean)/std."""
        shape = (1, -1, 1, 1)
        scale = torch.tensor([1 / (255 * s) for s in self.std], device=images.device).view(shape)
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)], device=images.device)
        return images.to(torch.float32).mul_(scale).add_(shift.view(shape))

    def _cut(self, plan: EpochPlan, positions: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """The images at these positions of the epoch, cropped and flipped, and their labels, sorted by group so that
        each distinct (shift, flip) is one slice; and where in them each position's image is.
        """
        device, order = self.train_images.device, plan.order[positions]
        if plan.group is None:
            index = torch.from_numpy(order).to(device)
            places = torch.arange(len(order), device=device)
            return self.train_images.index_select(0, index), self.train_labels.index_select(0, index), places
        group = plan.group[positions]
        by_group = np.argsort(group, kind="stable")
        edges = np.searchsorted(group[by_group], np.arange(plan.groups + 1)).tolist()
        index = torch.from_numpy(order[by_group]).to(device)
        out = self.train_images.new_zeros(len(order), *self.train_images.shape[1:])  # the zeros are the padding
        height, width = out.shape[2:]
        for key, (begin, end) in enumerate(pairwise(edges)):
            shift, flip = divmod(key, plan.flips)
            top, left = divmod(shift, 2 * self.padding + 1)
            rows, to_rows = _overlap(top - self.padding, height)
            columns, to_columns = _overlap(left - self.padding, width)
            seen = self.train_images.index_select(0, index[begin:end])  # few enough to stay in the cache
            crop = seen[:, :, rows, columns]
            if flip:
                crop, to_columns = crop.flip(3), slice(width - to_columns.stop, width - to_columns.start)
            out[begin:end, :, to_rows, to_columns] = crop
        places = torch.from_numpy(np.argsort(by_group)).to(device)
        return out, self.train_labels.index_select(0, index), places


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """Which pixels of a line a crop shifted by ``shift`` sees, and where in the crop they come to lie."""
    shift = max(-size, min(shift, size))
    seen = slice(max(shift, 0), size + min(shift, 0))
    return seen, slice(seen.start - shift, seen.stop - shift)


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


def open_images(
    name: str,
    data_dir: str | os.PathLike = "",
    train_size: int = 0,
    test_size: int = 0,
    holdout: int = 0,
    augment: str = "crop-flip",
    padding: int = 4,
    normalization: str = "dataset",
) -> Images:
    """Open a dataset that fits in memory.

    Arguments:
        name: "digits" (1,797 images of 8x8, shipped with scikit-learn: 1,437 to train, 360 to test) or "cifar10".
        data_dir: folder of CIFAR-10; see :func:`resteutils.system.settings.data_dir`.
        train_size, test_size: use only so many images, chosen once and for all; 0 is all.
        holdout: evaluate on so many training images, taken out of training, instead of the test set.
        augment: "crop-flip", "crop" or "none"; ``padding`` is that of the crop.
        normalization: "imagenet", what the authors' recipe uses for CIFAR-10 too, or "dataset", the set's own
        statistics.

    Raises ``ValueError`` for a wrong argument, ``FileNotFoundError`` where the data is missing and cannot be
    downloaded, ``RuntimeError`` where files are damaged. Never returns a part of a dataset that it was asked for whole.
    """
    _check_choice("augment", augment, AUGMENTATIONS)
    _check_choice("normalization", normalization, NORMALIZATIONS)
    _check_choice("dataset", name, DATASETS)
    classes, train, test = digits() if name == "digits" else cifar10(data_folder(data_dir))
    channels = train.images.shape[1]
    if normalization == "imagenet" and channels != 3:
        raise ValueError(f"normalization = 'imagenet' needs 3 channels, {name} has {channels}; use 'dataset'")
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if normalization == "imagenet" else statistics(train.images)
    train, test = chosen(train, test, train_size, test_size, holdout)
    return Images(name, classes, train.images, train.labels, test.images, test.labels, mean, std, augment, padding)


def _check_choice(what: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ValueError(f"{what} = {value!r}, expected one of {', '.join(accepted)}")
