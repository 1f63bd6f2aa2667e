"""Digits and CIFAR-10, held in memory as uint8 and augmented a whole epoch at a time.

Small images are decoded once and stay on the training device. Padding-and-crop has few distinct shifts, so an epoch is
cut out of the padded images one shift at a time: plain slices of many images instead of one transform per image. Order,
shifts and flips are a pure function of (seed, epoch), so a resumed run sees exactly the batches that an unbroken one
would see.

The classic per-image pipeline is kept as the reference (:func:`classic_loader`); a test compares the two.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from resteutils.locks import locked
from resteutils.settings import data_dir as data_folder

__all__ = ["AUGMENTATIONS", "DATASETS", "NORMALIZATIONS", "Images", "classic_loader", "open_images"]

DATASETS = ("digits", "cifar10")
AUGMENTATIONS = ("crop-flip", "crop", "none")
NORMALIZATIONS = ("imagenet", "dataset")

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass
class Images:
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

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def to(self, device: torch.device | str) -> Images:
        """Move all images to the device, once; small sets belong where they are used."""
        for name in ("train_images", "train_labels", "test_images", "test_labels"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def steps(self, batch_size: int, world: int = 1) -> int:
        """Batches in an epoch. A last batch that would leave a process with fewer than 2 images is dropped: BatchNorm
        has no statistics of one.
        """
        full, rest = divmod(self.train_size, batch_size)
        return full + (rest >= 2 * world)

    def train_batches(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented, normalised batches of epoch ``epoch`` (from 0), from step ``start`` on: float32 (B, C, H, W) and
        int64 (B,). ``batch_size`` counts all processes together; process ``rank`` gets every ``world``-th image of each
        batch.
        """
        plan = EpochPlan.draw(self.train_size, self.augment, self.padding, seed, epoch)
        bounds = [step * batch_size for step in range(start, self.steps(batch_size, world))]
        positions = [np.arange(b, min(b + batch_size, self.train_size))[rank::world] for b in bounds]
        if not positions:
            return
        images, labels, places = self._cut(plan, np.concatenate(positions))
        offset = 0
        for chosen in positions:
            batch = places[offset : offset + len(chosen)]
            yield self.normalise(images.index_select(0, batch)), labels.index_select(0, batch)
            offset += len(chosen)

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
        data_dir: folder of CIFAR-10; see :func:`resteutils.settings.data_dir`.
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
    classes, train, test = _digits() if name == "digits" else _cifar10(data_folder(data_dir))
    channels = train[0].shape[1]
    if normalization == "imagenet" and channels != 3:
        raise ValueError(f"normalization = 'imagenet' needs 3 channels, {name} has {channels}; use 'dataset'")
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if normalization == "imagenet" else _statistics(train[0])
    if holdout:
        _check_size("holdout", holdout, len(train[1]) - 2)
        kept, held = _split(len(train[1]), holdout)
        train, test = (train[0][kept], train[1][kept]), (train[0][held], train[1][held])
    train = _first("train_size", train, train_size)
    test = _first("test_size", test, test_size)
    return Images(name, classes, *train, *test, mean, std, augment, padding)


def classic_loader(images: Images, batch_size: int, workers: int = 2, shuffle: bool = True):
    """The per-image pipeline of torchvision for the same training images: the reference, and ``bench``'s baseline."""
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2

    steps = [v2.ToImage()]
    if images.augment != "none":
        steps.append(v2.RandomCrop(images.train_images.shape[-1], padding=images.padding))
    if images.augment == "crop-flip":
        steps.append(v2.RandomHorizontalFlip())
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(images.mean, images.std)]
    transform = v2.Compose(steps)

    class PerImage(Dataset):
        def __len__(self):
            return images.train_size

        def __getitem__(self, index):
            from PIL import Image

            pixels = images.train_images[index].permute(1, 2, 0).squeeze(-1).numpy()
            return transform(Image.fromarray(pixels)), int(images.train_labels[index])

    return DataLoader(PerImage(), batch_size, shuffle=shuffle, num_workers=workers)


def _digits():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = torch.from_numpy(np.round(digits.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=digits.target, random_state=0)
    return tuple("0123456789"), (pixels[train], labels[train]), (pixels[test], labels[test])


def _cifar10(folder: Path):
    """Through torchvision, which checks every file's md5; downloads where there is none and a network is."""
    from torchvision.datasets import CIFAR10

    def opened(download: bool):
        return CIFAR10(str(folder), train=True, download=download), CIFAR10(str(folder), train=False)

    try:
        parts = opened(download=False)
    except (OSError, RuntimeError):
        with locked(folder / ".cifar-10.lock"):  # another process may just be downloading or unpacking it
            present = (folder / CIFAR10.base_folder).is_dir()
            try:
                parts = opened(download=not present)
            except (OSError, RuntimeError) as error:
                if present:
                    raise RuntimeError(
                        f"CIFAR-10 in {folder / CIFAR10.base_folder} is incomplete or damaged ({error}); delete that "
                        "folder and run again to download it, or set DATA_DIR to a good copy"
                    ) from error
                raise FileNotFoundError(
                    f"CIFAR-10 is not in {folder} and could not be downloaded ({error}); set DATA_DIR to the folder "
                    f"that holds {CIFAR10.base_folder}/; a training in PROFILE=demo needs no download"
                ) from error

    def tensors(part):
        images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
        return images, torch.tensor(part.targets, dtype=torch.int64)

    (images, labels), (test_images, test_labels) = map(tensors, parts)
    if (len(labels), len(test_labels)) != (50_000, 10_000):
        raise RuntimeError(f"CIFAR-10 in {folder} has {len(labels)} + {len(test_labels)} images, not 50000 + 10000")
    return CIFAR10_CLASSES, (images, labels), (test_images, test_labels)


def _statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of pixels in [0, 1], over a whole training split."""
    pixels = images.transpose(0, 1).flatten(1)
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in pixels]).double()
    value = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * value).sum(1) / pixels.shape[1]
    std = ((counts * value**2).sum(1) / pixels.shape[1] - mean**2).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def _split(size: int, held: int) -> tuple[Tensor, Tensor]:
    order = torch.from_numpy(np.random.Generator(np.random.PCG64([2308, 6689])).permutation(size))
    return order[:-held].sort().values, order[-held:].sort().values


def _first(what: str, part: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    if not count:
        return part
    _check_size(what, count, len(part[1]))
    chosen, _ = _split(len(part[1]), len(part[1]) - count) if count < len(part[1]) else (torch.arange(count), None)
    return part[0][chosen], part[1][chosen]


def _check_size(what: str, value: int, largest: int) -> None:
    if not 0 < value <= largest:
        raise ValueError(f"{what} = {value}, expected 0 (all) or a number from 1 to {largest}")


def _check_choice(what: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ValueError(f"{what} = {value!r}, expected one of {', '.join(accepted)}")
