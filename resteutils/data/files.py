"""Folders of image files, one per class: listed, compared and checked before anything is trained on them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from resteutils.data.reading import UnreadableImage, decode, missing
from resteutils.system.files import write_atomic
from resteutils.system.locks import locked
from resteutils.system.settings import cache_dir

__all__ = ["Split", "check_readable", "listed", "scan", "shared_scan"]

SECONDS_WORTH_SHARING = 1.0  # a listing that took longer is left for the processes that wait for it


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

    def image(self, index: int, decoder: str = "pillow") -> Tensor:
        """uint8 (3, H, W), by :func:`resteutils.data.reading.decode`."""
        return decode(self.path(index), decoder)

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
    below = len(os.path.join(str(folder), ""))  # a slice: os.path.relpath takes 25 times as long
    names = np.array([os.fsencode(path[below:]) for path, _ in found.samples])
    return tuple(found.classes), Split(folder, names, labels)


def shared_scan(root: Path) -> tuple[tuple[str, ...], Split, Split, str]:
    """What :func:`scan` finds and :func:`listed` makes of it, once for the processes that ask at the same time: of
    ImageNet's 1.33 million files the first one makes the list, the others wait for it and read it.
    """
    began, place = time.time(), cache_dir() / "listings" / hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
    with locked(place.with_suffix(".lock")):
        if found := _left(place, root, began):
            return found
        classes, train, test = scan(root)
        digest = listed(train, test)
        if time.time() - began > SECONDS_WORTH_SHARING:
            _leave(place, classes, train, test, digest)
    return classes, train, test, digest


def _left(place: Path, root: Path, since: float) -> tuple[tuple[str, ...], Split, Split, str] | None:
    """The list that another process made after ``since``; None where there is none, or only an older one."""
    try:
        known, _, content = place.read_bytes().partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != known:  # damaged
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as kept:
            if kept["made"] < since:
                return None
            train, test = (Split(root / part, kept[part], kept[f"{part}_labels"]) for part in ("train", "val"))
            return tuple(kept["classes"].tolist()), train, test, str(kept["digest"])
    except (OSError, KeyError, ValueError):  # none, or that of another version
        return None


def _leave(place: Path, classes: tuple[str, ...], train: Split, test: Split, digest: str) -> None:
    content = io.BytesIO()
    np.savez(
        content, made=time.time(), classes=np.array(classes), digest=digest,
        train=train.names, train_labels=train.labels, val=test.names, val_labels=test.labels,
    )  # fmt: skip
    known = hashlib.sha256(content.getvalue()).hexdigest().encode()
    with contextlib.suppress(OSError):  # the others then make it themselves
        write_atomic(place, known + b"\n" + content.getvalue())


def listed(train: Split, test: Split) -> str:
    """Return a digest of the names and sizes of all files. Raises ``UnreadableImage`` for a link to nothing."""
    digest = hashlib.sha256()
    for split in (train, test):
        sizes = np.array([_size(split, name) for name in split.names.tolist()], dtype=np.int64)
        digest.update(split.names.tobytes() + sizes.tobytes())
    return digest.hexdigest()[:32]


def _size(split: Split, name: bytes) -> int:
    path = os.path.join(os.fsencode(split.root), name)
    try:
        return os.stat(path).st_size
    except FileNotFoundError as error:
        path = Path(os.fsdecode(path))
        raise UnreadableImage(f"{path} cannot be read ({missing(path)}); mend or remove it") from error


def check_readable(
    train: Split, test: Split, digest: str, threads: int = 1, patience: Callable[[], None] = lambda: None
) -> None:
    """Decode every file, once for a list of files and sizes; the user's cache remembers what was found good.

    ``digest`` is what :func:`listed` returns. ``patience`` is called every half second and may raise, which ends the
    check. Raises ``UnreadableImage`` with the number of bad files and the first names.
    """
    root, seen = train.root.parent, cache_dir() / "readable" / f"{digest}.json"
    with locked(seen.with_suffix(".lock"), patience=patience):  # one does it, the others then know
        if not seen.exists():
            count = _decode_all((train, test), max(1, threads), root, patience)
            write_atomic(seen, json.dumps({"root": str(root), "images": count}) + "\n")


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


def abridged(names: Iterable[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
