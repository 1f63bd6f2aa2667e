"""Image files decoded once and for all: uint8, the shorter side as evaluation wants it, in one file a split.

An image is then a part of a memory map instead of a JPEG file. ImageNet at 256 pixels takes some 350 GB of the user's
cache. Random crops see fewer pixels than the files have, so a run on them is another recipe (``decoder=shrunk``).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from resteutils.data.files import Split
from resteutils.data.reading import decode
from resteutils.system.files import replaced
from resteutils.system.locks import locked
from resteutils.system.settings import cache_dir

__all__ = ["Shrunk", "shrunk"]

AT_ONCE = 256  # images that threads have in hand; patience is asked between them
PHOTOGRAPH = 4 / 3  # of the longer side to the shorter, to say how much room is needed


@dataclass(frozen=True)
class Shrunk(Split):
    """A split whose images are read from ``pixels``: of each, 3 x height x width bytes from its start on."""

    pixels: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    def image(self, index: int, decoder: str = "shrunk") -> Tensor:
        height, width = self.sizes[index].tolist()
        start = int(self.starts[index])
        return torch.from_numpy(np.array(self.pixels[start : start + 3 * height * width])).view(3, height, width)


def shrunk(
    split: Split, side: int, digest: str, threads: int = 1, patience: Callable[[], None] = lambda: None
) -> Shrunk:
    """The split with its images brought to ``side`` pixels on the shorter side, those that have more; made on the
    first call by one of the processes that ask, then read.

    ``digest`` is that of the folder's list of files. Raises ``OSError`` where the cache has too little room, and what
    ``patience``, which is asked again and again, raises.
    """
    key = hashlib.sha256(f"{digest} {side} ".encode() + split.names.tobytes()).hexdigest()[:32]
    folder = cache_dir() / "shrunk" / key
    if not folder.is_dir():
        with locked(folder.with_suffix(".lock"), patience=patience):
            if not folder.is_dir():  # another process was first
                _check_room(folder, len(split), side)
                with replaced(folder) as beside:
                    _write(beside, split, side, threads, patience)
    sizes = np.load(folder / "sizes.npy", allow_pickle=False)
    ends = np.cumsum(3 * sizes.prod(axis=1, dtype=np.int64))
    pixels = np.memmap(folder / "pixels", dtype=np.uint8, mode="r")
    if len(sizes) != len(split) or ends[-1] != len(pixels):
        raise OSError(f"{folder} is damaged; remove it, the same command then makes it again")
    return Shrunk(split.root, split.names, split.labels, pixels, np.concatenate([[0], ends[:-1]]), sizes)


def _write(folder: Path, split: Split, side: int, threads: int, patience: Callable[[], None]) -> None:
    from torchvision.transforms import v2

    resize = v2.Resize(side, antialias=True)

    def small(index: int) -> np.ndarray:
        image = decode(split.path(index))
        return (resize(image) if min(image.shape[1:]) > side else image).numpy()

    sizes, said = [], f"shrinking, once, the images of {split.root}"
    bar = tqdm(total=len(split), desc=said, disable=len(split) <= 10_000, mininterval=5)
    with bar, open(folder / "pixels", "wb") as file, ThreadPoolExecutor(max(1, threads)) as pool:
        for begin in range(0, len(split), AT_ONCE):
            patience()
            for image in pool.map(small, range(begin, min(begin + AT_ONCE, len(split)))):
                file.write(image.tobytes())
                sizes.append(image.shape[1:])
                bar.update()
    np.save(folder / "sizes.npy", np.array(sizes, dtype=np.int64), allow_pickle=False)


def _check_room(folder: Path, images: int, side: int) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder.parent).free, int(images * 3 * side * side * PHOTOGRAPH)
    if needed > free:
        raise OSError(
            f"decoder = 'shrunk' needs about {needed / 1e9:,.1f} GB in {folder.parent}, which has "
            f"{free / 1e9:,.1f} GB free; set XDG_CACHE_HOME elsewhere, or use decoder=torchvision"
        )
