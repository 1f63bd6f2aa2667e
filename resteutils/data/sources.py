"""The datasets: one registry, like that of the estimators. A new one is a class and a value of ``Recipe.dataset``.

A set that fits in memory subclasses :class:`InMemory` and says how it is read; one of ``train/CLASS/*.jpg`` and
``val/CLASS/*.jpg`` subclasses :class:`ImageFolder` and says where it lies.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from resteutils.data.base import (
    AUGMENTATIONS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    NORMALIZATIONS,
    Data,
    Labelled,
    check_choice,
    chosen,
    statistics,
)
from resteutils.data.digits import digits, digits_folder
from resteutils.data.download import downloading, fetch
from resteutils.data.images import Images
from resteutils.estimators.base import check_name
from resteutils.system.defaults import torch_defaults
from resteutils.system.settings import data_dir as data_folder

__all__ = [
    "DATASETS",
    "Cifar10",
    "Cifar100",
    "Dataset",
    "Digits",
    "DigitsFolder",
    "ImageFolder",
    "ImageNet",
    "InMemory",
    "Options",
    "SmallCifar10",
    "open_images",
    "register_dataset",
]

Split = tuple[tuple[str, ...], Labelled, Labelled]  # classes, training and test images

DATASETS: dict[str, Dataset] = {}
Kind = TypeVar("Kind", bound="Dataset")


@dataclass(frozen=True)
class Options:
    """What a recipe says about its data; the names are those of its fields."""

    image_size: int = 32
    in_channels: int = 3
    num_classes: int = 0
    train_size: int = 0
    test_size: int = 0
    holdout: int = 0
    augment: str = "crop-flip"
    padding: int = 4
    normalization: str = "dataset"
    decoder: str = "pillow"
    workers: int = 0

    @classmethod
    def of(cls, recipe: Any) -> Options:
        """Take them from a recipe."""
        return cls(**{entry.name: getattr(recipe, entry.name) for entry in fields(cls)})


class Dataset:
    """A dataset by name. ``label`` is what tables and captions call it; ``published`` says whether it is the paper's
    own, so that its figures may stand beside the published ones; ``streamed``, whether it is a folder of image files.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    published: ClassVar[bool] = False
    streamed: ClassVar[bool] = False

    def open(
        self,
        options: Options,
        data_dir: str | os.PathLike = "",
        device: torch.device | str = "cpu",
        patience: Callable[[], None] = lambda: None,
    ) -> Data:
        """Open it on ``device``. ``patience`` is called while a first check of files takes long, and may raise.

        Raises ``ValueError`` where it is not as the options say, ``FileNotFoundError`` where it is missing and cannot
        be downloaded, ``RuntimeError`` where files are damaged.
        """
        raise TypeError(f"{type(self).__name__} does not say how it is opened: subclass InMemory or ImageFolder")

    def here(self, data_dir: str | os.PathLike = "") -> bool:
        """Say whether it can be opened without a download."""
        return True

    def comparable(self, num_classes: int | None) -> bool:
        """Say whether figures of a run on it may stand beside the published ones."""
        return self.published

    def described(self, num_classes: int | None) -> str:
        """Name it for captions."""
        return self.label


def register_dataset(cls: type[Kind]) -> type[Kind]:
    """Decorator: make a dataset known by its name, to recipes, captions and every command.

    Raises ``ValueError`` where the name or the label is missing, or the name is odd or another dataset's.
    """
    if not getattr(cls, "name", "") or not getattr(cls, "label", ""):
        raise ValueError(f"{cls.__name__}: a dataset needs a name and a label")
    check_name("dataset", cls.name)
    known = DATASETS.get(cls.name)
    if known is not None and type(known).__qualname__ != cls.__qualname__:
        raise ValueError(f"dataset name {cls.name!r} is taken by {type(known).__name__}; choose another")
    DATASETS[cls.name] = cls()
    return cls


# --- in memory -------------------------------------------------------------------------------------------------------


class InMemory(Dataset):
    """A dataset that fits in memory: :meth:`read` returns all of it."""

    def read(self, folder: Path) -> Split:
        """Return classes, training and test images, whole; ``folder`` is that of the datasets."""
        raise TypeError(f"{type(self).__name__} does not say how it is read: give it a method read(folder)")

    @torch_defaults()
    def images(self, options: Options, data_dir: str | os.PathLike = "") -> Images:
        """Read it, and take the part that is asked for. Never returns a part of what was asked for whole."""
        check_choice("augment", options.augment, AUGMENTATIONS)
        check_choice("normalization", options.normalization, NORMALIZATIONS)
        classes, train, test = self.read(data_folder(data_dir))
        if options.normalization == "imagenet" and (channels := train.images.shape[1]) != 3:
            raise ValueError(f"normalization = 'imagenet' needs 3 channels, {self.name} has {channels}; use 'dataset'")
        paper = options.normalization == "imagenet"
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if paper else statistics(train.images)
        train, test = chosen(train, test, options.train_size, options.test_size, options.holdout)
        parts = (train.images, train.labels, test.images, test.labels)
        return Images(self.name, classes, *parts, mean, std, options.augment, options.padding)

    def open(
        self,
        options: Options,
        data_dir: str | os.PathLike = "",
        device: torch.device | str = "cpu",
        patience: Callable[[], None] = lambda: None,
    ) -> Images:
        images = self.images(options, data_dir)
        shape = (options.in_channels, options.image_size, options.image_size)
        if tuple(images.train_images.shape[1:]) != shape or images.num_classes != options.num_classes:
            raise ValueError(
                f"the recipe expects images {shape} in {options.num_classes} classes, {self.name} has "
                f"{tuple(images.train_images.shape[1:])} in {images.num_classes}"
            )
        return images.to(device)


@register_dataset
class Digits(InMemory):
    """1,437 training and 360 test images of 8x8, shipped with scikit-learn."""

    name, label = "digits", "scikit-learn's digits"

    def read(self, folder: Path) -> Split:
        return digits()


@register_dataset
class Cifar10(InMemory):
    """50,000 training and 10,000 test images of 32x32, through torchvision, which checks every file's md5; downloaded
    where there is none and a network is.
    """

    name, label, published = "cifar10", "CIFAR-10", True
    sizes = (50_000, 10_000)

    def read(self, folder: Path) -> Split:
        kind = self._kind()
        target = folder / kind.base_folder

        def opened():
            return kind(str(folder), train=True), kind(str(folder), train=False)

        try:
            parts = opened()
        except (OSError, RuntimeError):
            with downloading(target) as place:  # another process may just be doing it
                present = target.is_dir()
                try:
                    if not present:
                        fetch(kind.url, kind.tgz_md5, target, place)
                    parts = opened()
                except (OSError, RuntimeError) as error:
                    raise self._reason(folder, kind.base_folder, present, error) from error
        train, test = map(_tensors, parts)
        if (found := (len(train), len(test))) != self.sizes:
            have, want = (" + ".join(map(str, sizes)) for sizes in (found, self.sizes))
            raise RuntimeError(f"{self.label} in {folder} has {have} images, not {want}")
        return tuple(parts[0].classes), train, test

    def here(self, data_dir: str | os.PathLike = "") -> bool:
        return (data_folder(data_dir) / self._kind().base_folder).is_dir()

    def _kind(self) -> Any:
        from torchvision.datasets import CIFAR10

        return CIFAR10

    def _reason(self, folder: Path, base: str, present: bool, error: Exception) -> Exception:
        if present:
            return RuntimeError(
                f"{self.label} in {folder / base} is incomplete or damaged ({error}); delete that folder and run again "
                "to download it, or set DATA_DIR to a good copy"
            )
        return FileNotFoundError(
            f"{self.label} is not in {folder} and could not be downloaded ({error}); set DATA_DIR to the folder that "
            f"holds {base}/; a training in PROFILE=demo needs no download"
        )


@register_dataset
class Cifar100(Cifar10):
    """CIFAR-10's sibling of 100 classes: the same sizes, the same loader. Not one of the paper's."""

    name, label, published = "cifar100", "CIFAR-100", False

    def _kind(self) -> Any:
        from torchvision.datasets import CIFAR100

        return CIFAR100


@register_dataset
class SmallCifar10(Cifar10):
    """CIFAR-10 at 16x16 pixels, each the rounded mean of four: a proxy for many short runs. Not one of the paper's."""

    name, label, published = "cifar10-16px", "CIFAR-10 at 16 x 16 pixels", False

    def read(self, folder: Path) -> Split:
        classes, *parts = super().read(folder)
        train, test = (Labelled(_halved(part.images), part.labels) for part in parts)
        return classes, train, test


def _halved(images: Tensor) -> Tensor:
    """Half the height and the width of uint8 (N, C, H, W)."""
    rows = images[:, :, ::2].int() + images[:, :, 1::2].int()
    return ((rows[..., ::2] + rows[..., 1::2] + 2) // 4).to(torch.uint8)


def _tensors(part: Any) -> Labelled:
    images: Tensor = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
    return Labelled(images, torch.tensor(part.targets, dtype=torch.int64))


def open_images(name: str, data_dir: str | os.PathLike = "", **options: Any) -> Images:
    """Open a dataset that fits in memory, by name; ``options`` are fields of :class:`Options`.

    Raises ``ValueError`` for an unknown name or a wrong option, and what :meth:`Dataset.open` raises.
    """
    check_choice("dataset", name, tuple(key for key, each in DATASETS.items() if not each.streamed))
    return DATASETS[name].images(Options(**options), data_dir)


# --- folders of images -----------------------------------------------------------------------------------------------


class ImageFolder(Dataset):
    """A folder of image files, ``train/CLASS/*`` and ``val/CLASS/*``, streamed while training."""

    streamed = True

    def root(self, data_dir: str | os.PathLike) -> Path:
        """Return the folder that holds train/ and val/."""
        return data_folder(data_dir)

    def open(
        self,
        options: Options,
        data_dir: str | os.PathLike = "",
        device: torch.device | str = "cpu",
        patience: Callable[[], None] = lambda: None,
    ) -> Data:
        from resteutils.data.folder import open_folder

        for name, expected in (("normalization", "imagenet"), ("in_channels", 3)):
            if getattr(options, name) != expected:
                raise ValueError(f"{name} = {getattr(options, name)!r}, a folder of images needs {expected!r}")
        names = {entry.name for entry in fields(options)} - {"normalization", "in_channels", "padding"}
        wanted = {name: getattr(options, name) for name in names}
        return open_folder(self.root(data_dir), self.name, **wanted, device=device, patience=patience)


@register_dataset
class ImageNet(ImageFolder):
    """ImageNet where it has 1,000 classes, else a folder of the user's."""

    name, label, published = "imagenet", "ImageNet", True
    classes = 1000

    def comparable(self, num_classes: int | None) -> bool:
        return num_classes == self.classes

    def described(self, num_classes: int | None) -> str:
        return self.label if self.comparable(num_classes) else f"a folder of images in {num_classes} classes"


@register_dataset
class DigitsFolder(ImageFolder):
    """scikit-learn's digits written as image files: the stand-in that needs no download."""

    name, label = "digits-folder", "scikit-learn's digits as a folder of image files"

    def root(self, data_dir: str | os.PathLike) -> Path:
        return digits_folder()
