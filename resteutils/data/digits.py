"""scikit-learn's digits: as tensors, and written as a folder of image files that stands in for ImageNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from resteutils.data.base import Labelled
from resteutils.system.files import replaced
from resteutils.system.locks import locked
from resteutils.system.settings import cache_dir

__all__ = ["digits", "digits_folder"]


def digits() -> tuple[tuple[str, ...], Labelled, Labelled]:
    """Return classes, training and test images: 1,437 and 360 of 8x8."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    pixels = torch.from_numpy(np.round(found.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(found.target.astype(np.int64))
    train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=found.target, random_state=0)
    whole = Labelled(pixels, labels)
    return tuple("0123456789"), whole.subset(train), whole.subset(test)


def digits_folder() -> Path:
    """scikit-learn's digits as train/ and val/ of 40x40 RGB files, written on the first call. Returns their folder."""
    folder = cache_dir() / "digits-folder"
    if not folder.is_dir():
        with locked(folder.with_suffix(".lock")):
            if not folder.is_dir():  # another process was first
                with replaced(folder) as beside:
                    _, train, test = digits()
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
