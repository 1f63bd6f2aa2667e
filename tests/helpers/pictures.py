"""Small folders of images, and recipes for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from resteutils.recipes import Recipe, recipe


def small(**overrides) -> Recipe:
    """A few of the digits, written as a folder."""
    fields = {"image_size": 32, "workers": 0, "train_size": 23, "test_size": 9, "batch_size": 6}
    return recipe("table2/resnet18-1w1a", profile="smoke", **(fields | overrides))


def here(**overrides) -> Recipe:
    """All images of the folder that the test names, whatever their classes."""
    fields = {"dataset": "imagenet", "num_classes": 0, "train_size": 0, "test_size": 0, "batch_size": 4}
    return small(**(fields | overrides))


def noise(path: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB", seed: int = 0, **options) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], len(Image.new(mode, (1, 1)).getbands())))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8).squeeze(), mode).save(path, **options)


def two_classes(root: Path) -> Path:
    """Cats and dogs below ``root``, three training and two test images each."""
    for part, count in (("train", 3), ("val", 2)):
        for index, name in enumerate(("cat", "dog")):
            for number in range(count):
                noise(root / part / name / f"{number}.JPEG", seed=10 * index + number)
    return root
