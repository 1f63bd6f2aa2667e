"""Image files on disk, one folder per class: listed, compared and checked before anything is trained on them."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from resteutils.data.base import Labelled
from resteutils.data.sources import Digits
from resteutils.system.files import replaced, write_atomic
from resteutils.system.locks import locked
from resteutils.system.settings import cache_dir

__all__ = ["Split", "UnreadableImage", "check_readable", "decode", "digits_folder", "listed", "scan"]


_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, struct.error)  # what Pillow raises for broken files


class UnreadableImage(RuntimeError):
    """An image file cannot be decoded."""


@dataclass(frozen=True)
class Split:
    """One folder of class folders. ``names`` are paths below ``root`` as bytes: a list of a million Python strings
    would be copied into every worker, page by page.
    """

    root: Path
    names: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        return self.root / os.fsdecode(self.names[index])

    def subset(self, index: np.ndarray) -> Split:
        return Split(self.root, self.names[index], self.labels[index])


def scan(root: Path) -> tuple[tuple[str, ...], Split, Split]:
    """The classes of ``root/train`` and ``root/val``, which must be the same and none of them empty, and both splits.

    Raises ``FileNotFoundError`` for a missing folder or an empty class, ``ValueError`` for classes that differ.
    """
    (classes, train), (others, test) = _scan(root / "train"), _scan(root / "val")
    if classes != others:
        different = abridged(set(classes) ^ set(others))
        raise ValueError(f"{root}: train/ and val/ hold different classes; in only one of the two: {different}")
    return classes, train, test


def _scan(folder: Path) -> tuple[tuple[str, ...], Split]:
    from torchvision.datasets import ImageFolder

    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no {folder}; DATA_DIR must hold train/ and val/ with one folder of images per class "
            "(for ImageNet n01440764/ and so on); a training in PROFILE=demo needs no download"
        )
    if not any(entry.is_dir() for entry in os.scandir(folder)):
        raise FileNotFoundError(f"{folder} holds no class folders; expected {folder}/CLASS/*.JPEG")
    found = ImageFolder(str(folder), allow_empty=True)
    labels = np.array(found.targets, dtype=np.int64)
    empty = np.flatnonzero(np.bincount(labels, minlength=len(found.classes)) == 0)
    if len(empty):
        names = abridged(found.classes[index] for index in empty)
        raise FileNotFoundError(f"{folder}: {len(empty)} class folder(s) without an image: {names}")
    names = np.array([os.fsencode(os.path.relpath(path, folder)) for path, _ in found.samples])
    return tuple(found.classes), Split(folder, names, labels)


def decode(path: Path) -> Tensor:
    """The image as uint8 (3, H, W), by Pillow, whatever its name says it is.

    Raises ``UnreadableImage`` with the file's name.
    """
    from PIL import Image
    from torchvision.transforms.v2.functional import pil_to_tensor

    try:
        with Image.open(path) as image:
            if image.mode == "F" or image.mode.startswith("I"):  # convert would cut them off at 255
                raise ValueError(f"mode {image.mode}, expected 8 bits per channel")
            return pil_to_tensor(image.convert("RGB"))
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"{path} cannot be decoded ({error})") from error


def listed(train: Split, test: Split) -> str:
    """A digest of the names and sizes of all files."""
    digest = hashlib.sha256()
    for split in (train, test):
        sizes = [os.stat(split.path(index)).st_size for index in range(len(split))]
        digest.update(split.names.tobytes() + np.array(sizes, dtype=np.int64).tobytes())
    return digest.hexdigest()[:32]


def check_readable(train: Split, test: Split, threads: int = 1, patience: Callable[[], None] = lambda: None) -> str:
    """Decode every file, once for a list of files and sizes; the user's cache remembers what was found good.

    ``patience`` is called every half second and may raise, which ends the check. Returns a digest of the list. Raises
    ``UnreadableImage`` with the number of bad files and the first names.
    """
    digest = listed(train, test)
    root, seen = train.root.parent, cache_dir() / "readable" / f"{digest}.json"
    with locked(seen.with_suffix(".lock")):  # the first process of this machine does it, the others then know
        if not seen.exists():
            count = _decode_all((train, test), max(1, threads), root, patience)
            write_atomic(seen, json.dumps({"root": str(root), "images": count}) + "\n")
    return digest


def _decode_all(splits: tuple[Split, ...], threads: int, root: Path, patience: Callable[[], None]) -> int:
    count = sum(len(split) for split in splits)
    checked = tqdm(total=count, desc=f"checking, once, the images below {root}", disable=count <= 10_000, mininterval=5)
    enough = threading.Event()
    with checked, ThreadPoolExecutor(threads) as pool:  # the decoder lets other threads run
        shares = [
            pool.submit(_unreadable, split, range(k, len(split), threads), checked, enough)
            for split in splits
            for k in range(threads)
        ]
        try:
            while wait(shares, timeout=0.5).not_done:
                patience()
        finally:
            enough.set()
        bad = list(chain.from_iterable(share.result() for share in shares))
    if bad:
        raise UnreadableImage(f"{len(bad)} of {count:,} images cannot be read: {abridged(bad)}; replace or remove them")
    return count


def _unreadable(split: Split, indices: Iterable[int], checked: tqdm, enough: threading.Event) -> list[str]:
    errors = []
    for index in indices:
        if enough.is_set():
            break
        try:
            decode(split.path(index))
        except UnreadableImage as error:
            errors.append(str(error))
        checked.update()
    return errors


def digits_folder() -> Path:
    """scikit-learn's digits as train/ and val/ of 40x40 RGB files, written on the first call. Returns their folder."""
    folder = cache_dir() / "digits-folder"
    if not folder.is_dir():
        with locked(folder.with_suffix(".lock")):
            if not folder.is_dir():  # another process was first
                with replaced(folder) as beside:
                    _, train, test = Digits().read(Path())
                    _write(beside / "train", train)
                    _write(beside / "val", test)
    return folder


def _write(folder: Path, part: Labelled) -> None:
    """Grey images as RGB PNG files of 40x40, one folder per label."""
    from PIL import Image

    pixels = torch.nn.functional.interpolate(part.images.float(), size=(40, 40), mode="bicubic", align_corners=False)
    pixels = pixels.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)
    for label in part.labels.unique().tolist():
        (folder / str(label)).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(pixels, part.labels.tolist(), strict=True)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / str(label) / f"{number:04d}.png")


def abridged(names: Iterable[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
