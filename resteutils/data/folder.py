"""ImageNet and other folders of images: decoded and cropped in workers, handed over as uint8, normalised on the device.

Order and augmentation are pure functions of (seed, epoch, image), whatever the workers: each image is cropped with
random numbers of its own. A resumed run therefore sees exactly the batches that an unbroken one would see.

:class:`Folder` streams what :class:`resteutils.data.images.Images` holds in memory. ``digits-folder`` is scikit-learn's
digits written as such a folder, the stand-in that needs no download.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from resteutils.data.base import IMAGENET_MEAN, IMAGENET_STD, Data, EpochPlan, chosen
from resteutils.data.files import Split, check_readable, shared_scan
from resteutils.data.loader import Refused, batches, worker_count
from resteutils.data.reading import UnreadableImage, check_decoder
from resteutils.data.shrunk import shrunk

__all__ = ["Folder", "UnreadableImage", "central_crop", "folder_digest", "open_folder"]

IMAGENET = {"train": 1_281_167, "val": 50_000}
CROP_AREA = (0.08, 1.0)  # DEVIATION(D7): the authors write 1.25, of which torchvision rejects what exceeds the image


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
    image_size: int
    workers: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    digest: str = ""
    decoder: str = "pillow"
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
        """Augmented, normalised batches, as :meth:`resteutils.data.images.Images.train_batches`: float32 (B, 3, S, S),
        int64 (B,). Raises ``UnreadableImage`` naming the file.
        """
        order = EpochPlan.draw(self.train_size, "none", 0, seed, epoch).order
        batches = [order[places] for places in self.places(batch_size, start, rank, world)]
        return self._deliver(_Decoded(self.train, self.train_transform, self.decoder, (seed, epoch)), batches)

    def test_batches(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised test batches in order, without padding: process ``rank`` gets every ``world``-th image."""
        mine = np.arange(rank, self.test_size, world)
        batches = [mine[begin : begin + batch_size] for begin in range(0, len(mine), batch_size)]
        return self._deliver(_Decoded(self.test, self.test_transform, self.decoder), batches)

    def _deliver(self, images: _Decoded, shares: list[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        delivered = batches(images, shares, self.image_size, worker_count(self.workers))
        with contextlib.closing(delivered):
            for batch in delivered:
                if isinstance(batch, Refused):
                    raise UnreadableImage(f"{batch}; replace or remove the file, the same command then goes on")
                pixels, labels = batch
                if self.device.type == "cuda":
                    pixels = pixels.pin_memory()  # a copy, which the GPU may fetch while the place is filled again
                yield self.normalise(pixels.to(self.device, non_blocking=True)), labels.to(self.device)


@dataclass(frozen=True)
class _Decoded:
    """(uint8 image, label) by index; with ``key`` = (seed, epoch) the transform draws from numbers of that image."""

    split: Split
    transform: Callable[[Tensor], Tensor]
    decoder: str = "pillow"
    key: tuple[int, ...] = ()

    def __call__(self, index: int) -> tuple[Tensor, int] | Refused:
        try:
            image = self.split.image(index, self.decoder)
        except UnreadableImage as error:
            return Refused(error)
        with torch.random.fork_rng(devices=[], enabled=bool(self.key)):
            if self.key:
                entropy = np.random.SeedSequence([*self.key, int(index)]).generate_state(1, np.uint64)[0]
                torch.default_generator.manual_seed(int(entropy))  # torch.manual_seed would reach for the GPU too
            return self.transform(image), int(self.split.labels[index])


@functools.cache
def folder_digest(root: Path) -> str:
    """The digest of a folder of images, as runs record it; "" where there is none. Read once a process."""
    try:
        return shared_scan(root)[-1]
    except (FileNotFoundError, ValueError, UnreadableImage):
        return ""


def open_folder(
    root: Path,
    name: str,
    image_size: int = 224,
    num_classes: int = 0,
    train_size: int = 0,
    test_size: int = 0,
    holdout: int = 0,
    augment: str = "crop-flip",
    decoder: str = "pillow",
    workers: int = 0,
    device: torch.device | str = "cpu",
    patience: Callable[[], None] = lambda: None,
) -> Folder:
    """Open a folder of images: ``root/train/CLASS/*.JPEG`` and ``root/val/CLASS/*.JPEG``.

    ``num_classes`` 0 takes as many classes as there are; 1,000 with all images means ImageNet and expects its numbers
    of images. Every file is decoded once, the first time this list of files and sizes is seen; meanwhile ``patience``
    is called, which may raise. The other arguments are as in :func:`resteutils.data.sources.open_images`.

    Raises ``FileNotFoundError`` where train/ or val/ is missing or a class is empty, ``ValueError`` where the two, or
    they and the arguments, disagree about classes or images, ``UnreadableImage`` with the names of damaged files, and
    what :func:`resteutils.data.reading.check_decoder` raises.
    """
    check_decoder(decoder)
    classes, train, test, digest = shared_scan(root)
    if num_classes not in (0, len(classes)):
        raise ValueError(
            f"{root} has {len(classes)} classes, the recipe {num_classes}; num_classes=0 takes what is there"
        )
    if num_classes == 1000 and not (train_size or test_size):
        _check_imagenet(root, {"train": len(train), "val": len(test)})
    check_readable(train, test, digest, worker_count(workers), patience)
    train, test = chosen(train, test, train_size, test_size, holdout)
    if decoder == "shrunk":
        side = evaluated_side(image_size)
        train, test = (shrunk(part, side, digest, worker_count(workers), patience) for part in (train, test))
    transforms = _transforms(image_size, augment)
    return Folder(name, classes, train, test, *transforms, image_size, workers, torch.device(device), digest, decoder)


def _check_imagenet(root: Path, found: dict[str, int]) -> None:
    if found != IMAGENET:
        counts = " and ".join(f"{found[part]:,} of {IMAGENET[part]:,} images in {part}/" for part in IMAGENET)
        raise ValueError(f"{root} is not the whole of ImageNet: {counts}; num_classes=0 takes what is there")


def evaluated_side(size: int) -> int:
    """The shorter side of an image before its central crop of ``size``."""
    return round(size * 256 / 224)


def central_crop(size: int) -> Callable[[Tensor], Tensor]:
    """Evaluation: the shorter side brought to 256/224 of ``size``, then the central crop; uint8 (3, H, W) -> (3, size,
    size).
    """
    from torchvision.transforms import v2

    return v2.Compose([v2.Resize(evaluated_side(size), antialias=True), v2.CenterCrop(size)])


def _transforms(size: int, augment: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """For training a random crop of 8 to 100 % of the area and a flip; for evaluation :func:`central_crop`."""
    from torchvision.transforms import v2

    plain = central_crop(size)
    if augment == "none":
        return plain, plain
    crop = v2.RandomResizedCrop(size, scale=CROP_AREA, antialias=True)
    return (v2.Compose([crop, v2.RandomHorizontalFlip()]) if augment == "crop-flip" else crop), plain
