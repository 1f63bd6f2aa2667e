"""ImageNet and other folders of images: decoded and cropped in workers, handed over as uint8, normalised on the device.

Order and augmentation are pure functions of (seed, epoch, image), whatever the workers: each image is cropped with
random numbers of its own. A resumed run therefore sees exactly the batches that an unbroken one would see.

:class:`Folder` streams what :class:`resteutils.data.images.Images` holds in memory. ``digits-folder`` is scikit-learn's
digits written as such a folder, the stand-in that needs no download.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from resteutils.data.images import IMAGENET_MEAN, IMAGENET_STD, Data, EpochPlan
from resteutils.data.sources import chosen
from resteutils.data.files import Split, UnreadableImage, check_readable, decode, digits_folder, listed, scan
from resteutils.system.settings import data_dir as data_folder

__all__ = ["FOLDERS", "Folder", "UnreadableImage", "central_crop", "folder_digest", "open_folder"]

FOLDERS = ("imagenet", "digits-folder")  # the datasets that are opened here
IMAGENET = {"train": 1_281_167, "val": 50_000}
CROP_AREA = (0.08, 1.0)  # DEVIATION(D7): the authors write 1.25, of which torchvision rejects what exceeds the image
GROUP_SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, n)]
LONGEST_STEP = 60  # seconds that a worker outlives a SIGTERM, for the training process to save meanwhile


@dataclass
class Folder(Data):
    """A training and a test split on disk, and how their images become batches on ``device``.

    ``train_transform`` and ``test_transform`` map uint8 (3, H, W) of any size to uint8 (3, image_size, image_size).
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    train_transform: Callable[[Tensor], Tensor]
    test_transform: Callable[[Tensor], Tensor]
    workers: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    digest: str = ""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def train_size(self) -> int:
        return len(self.train)

    @property
    def test_size(self) -> int:
        return len(self.test)

    def train_batches(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented, normalised batches, as :meth:`resteutils.data.images.Images.train_batches`: float32 (B, 3, S, S), int64
        (B,). Raises ``UnreadableImage`` naming the file.
        """
        order = EpochPlan.draw(self.train_size, "none", 0, seed, epoch).order
        batches = [order[places] for places in self.places(batch_size, start, rank, world)]
        return self._deliver(_Decoded(self.train, self.train_transform, (seed, epoch)), batches)

    def test_batches(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised test batches in order, without padding: process ``rank`` gets every ``world``-th image."""
        mine = np.arange(rank, self.test_size, world)
        batches = [mine[begin : begin + batch_size] for begin in range(0, len(mine), batch_size)]
        return self._deliver(_Decoded(self.test, self.test_transform), batches)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) -> float32, (pixel/255 - mean)/std."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return images.to(torch.float32).sub_(255 * mean).div_(255 * std)

    def _deliver(self, images: _Decoded, batches: list[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        loader = DataLoader(
            images,
            batch_sampler=batches,
            num_workers=min(self.workers, len(batches), os.cpu_count() or 1),
            collate_fn=_stack,
            worker_init_fn=_outlive_signals,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # the loader draws a number from it, else from the global one
        )
        with _signals_held():  # a worker is born deaf to them, and listens once it knows what to do
            delivered = iter(loader)
        for batch in delivered:
            if isinstance(batch, _Unreadable):
                raise UnreadableImage(f"{batch}; replace or remove the file, the same command then goes on")
            pixels, labels = (part.to(self.device, non_blocking=True) for part in batch)
            yield self.normalise(pixels), labels


class _Unreadable(str):
    """What is wrong with which file: a value, because an exception leaves a worker wrapped in its traceback."""


@dataclass(frozen=True)
class _Decoded(Dataset):
    """(uint8 image, label) by index; with ``key`` = (seed, epoch) the transform draws from numbers of that image."""

    split: Split
    transform: Callable[[Tensor], Tensor]
    key: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | _Unreadable:
        try:
            image = decode(self.split.path(index))
        except UnreadableImage as error:
            return _Unreadable(error)
        with torch.random.fork_rng(devices=[], enabled=bool(self.key)):
            if self.key:
                entropy = np.random.SeedSequence([*self.key, int(index)]).generate_state(1, np.uint64)[0]
                torch.default_generator.manual_seed(int(entropy))  # torch.manual_seed would reach for the GPU too
            return self.transform(image), int(self.split.labels[index])


def _stack(samples: list[tuple[Tensor, int] | _Unreadable]) -> tuple[Tensor, Tensor] | _Unreadable:
    for sample in samples:
        if isinstance(sample, _Unreadable):
            return sample
    images, labels = zip(*samples, strict=True)
    return torch.stack(images), torch.tensor(labels, dtype=torch.int64)


def _outlive_signals(worker: int) -> None:
    """Ctrl-C, torchrun and Slurm signal a whole group of processes; the training process then still needs the workers
    to finish its step and save, and sends them home itself. An alarm ends those that nobody sends home.
    """
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(LONGEST_STEP))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Signals wait until the end of the block; processes that are started in it inherit that."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@functools.cache
def folder_digest(root: Path) -> str:
    """The digest of a folder of images, as runs record it; "" where there is none. Read once a process."""
    try:
        _, train, test = scan(root)
    except (FileNotFoundError, ValueError):
        return ""
    return listed(train, test)


def open_folder(
    name: str,
    data_dir: str | os.PathLike = "",
    image_size: int = 224,
    num_classes: int = 0,
    train_size: int = 0,
    test_size: int = 0,
    holdout: int = 0,
    augment: str = "crop-flip",
    workers: int = 0,
    device: torch.device | str = "cpu",
    patience: Callable[[], None] = lambda: None,
) -> Folder:
    """Open a folder of images: ``data_dir/train/CLASS/*.JPEG`` and ``data_dir/val/CLASS/*.JPEG``, or, for the name
    "digits-folder", the digits written like that.

    ``num_classes`` 0 takes as many classes as there are; 1,000 with all images means ImageNet and expects its numbers
    of images. Every file is decoded once, the first time this list of files and sizes is seen; meanwhile ``patience``
    is called, which may raise. The other arguments are as in :func:`resteutils.data.images.open_images`.

    Raises ``FileNotFoundError`` where train/ or val/ is missing or a class is empty, ``ValueError`` where the two, or
    they and the arguments, disagree about classes or images, ``UnreadableImage`` with the names of damaged files.
    """
    digits = name == "digits-folder"
    root = digits_folder() if digits else data_folder(data_dir)
    classes, train, test = scan(root)
    if num_classes not in (0, len(classes)):
        raise ValueError(
            f"{root} has {len(classes)} classes, the recipe {num_classes}; num_classes=0 takes what is there"
        )
    if not digits and num_classes == 1000 and not (train_size or test_size):
        _check_imagenet(root, {"train": len(train), "val": len(test)})
    digest = check_readable(train, test, workers, patience)
    train, test = chosen(train, test, train_size, test_size, holdout)
    return Folder(name, classes, train, test, *_transforms(image_size, augment), workers, torch.device(device), digest)


def _check_imagenet(root: Path, found: dict[str, int]) -> None:
    if found != IMAGENET:
        counts = " and ".join(f"{found[part]:,} of {IMAGENET[part]:,} images in {part}/" for part in IMAGENET)
        raise ValueError(f"{root} is not the whole of ImageNet: {counts}; num_classes=0 takes what is there")


def central_crop(size: int) -> Callable[[Tensor], Tensor]:
    """Evaluation: the shorter side brought to 256/224 of ``size``, then the central crop; uint8 (3, H, W) -> (3, size,
    size).
    """
    from torchvision.transforms import v2

    return v2.Compose([v2.Resize(round(size * 256 / 224), antialias=True), v2.CenterCrop(size)])


def _transforms(size: int, augment: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """For training a random crop of 8 to 100 % of the area and a flip; for evaluation :func:`central_crop`."""
    from torchvision.transforms import v2

    plain = central_crop(size)
    if augment == "none":
        return plain, plain
    crop = v2.RandomResizedCrop(size, scale=CROP_AREA, antialias=True)
    return (v2.Compose([crop, v2.RandomHorizontalFlip()]) if augment == "crop-flip" else crop), plain
