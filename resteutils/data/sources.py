"""What there is to train on: scikit-learn's digits and CIFAR-10 as tensors, and which part of them is used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from resteutils.system.locks import locked

__all__ = ["Labelled", "chosen", "cifar10", "digits", "statistics"]

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
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


def digits() -> tuple[tuple[str, ...], Labelled, Labelled]:
    """Classes, training and test images: 1,437 and 360 of 8x8, shipped with scikit-learn."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    pixels = torch.from_numpy(np.round(found.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(found.target.astype(np.int64))
    train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=found.target, random_state=0)
    whole = Labelled(pixels, labels)
    return tuple("0123456789"), whole.subset(train), whole.subset(test)


def cifar10(folder: Path) -> tuple[tuple[str, ...], Labelled, Labelled]:
    """Classes, training and test images, through torchvision, which checks every file's md5; downloaded where there is
    none and a network is.

    Raises ``FileNotFoundError`` where it is missing and cannot be downloaded, ``RuntimeError`` where files are damaged.
    """
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
    train, test = map(_tensors, parts)
    if (len(train), len(test)) != (50_000, 10_000):
        raise RuntimeError(f"CIFAR-10 in {folder} has {len(train)} + {len(test)} images, not 50000 + 10000")
    return CIFAR10_CLASSES, train, test


def _tensors(part) -> Labelled:
    images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
    return Labelled(images, torch.tensor(part.targets, dtype=torch.int64))


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
