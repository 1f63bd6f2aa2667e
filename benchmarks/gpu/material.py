"""What the acceptance run brings along: 12,000 images of CIFAR-10, and the history of training on them on a CPU.

    python -m benchmarks.gpu.material [FOLDER] [--data-dir DIR]

Writes FOLDER/images.npz (37 MB) and FOLDER/golden.json; by default build/gpu-acceptance, which git ignores. Without
CIFAR-10 the images are made up: a network learns them, and they say nothing of CIFAR-10.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from resteutils.data.base import Labelled
from resteutils.data.sources import DATASETS, InMemory, register_dataset
from resteutils.recipes import Recipe
from resteutils.system.files import write_atomic
from resteutils.system.settings import data_dir, project_root

__all__ = ["NAME", "Material", "default_folder", "make", "recipe"]

NAME = "gpu-acceptance"  # the dataset's name in recipes
CLASSES = tuple("0123456789")
TRAIN, TEST = 10_000, 2_000
PARTS = ("train_images", "train_labels", "test_images", "test_labels")


def recipe(**changes) -> Recipe:
    """ResNet-20 at 1/1 for three epochs, deterministic and uncompiled; ``changes`` are fields of a recipe."""
    usual = {"epochs": 3, "batch_size": 128, "schedule": "step", "warmup_epochs": 0.3}
    return Recipe(dataset=NAME, **{**usual, "compile": "off", "deterministic": True, **changes})


@dataclass(frozen=True)
class Material:
    """The images, where they come from ("CIFAR-10" or "made up"), and the CPU's history of them if there is one."""

    folder: Path
    images: str
    parts: tuple[torch.Tensor, ...]
    golden: list[float] | None = None  # training loss of each epoch

    @classmethod
    def of(cls, folder: Path) -> Material:
        """Read what :func:`make` wrote; made-up images where there is none."""
        path = folder / "images.npz"
        if not path.exists():
            return cls(folder, "made up", _made_up())
        with np.load(path, allow_pickle=False) as kept:
            found = cls(folder, str(kept["images"]), tuple(torch.from_numpy(kept[name]) for name in PARTS))
        golden = folder / "golden.json"
        if not golden.exists():
            return found
        history = json.loads(golden.read_text(encoding="utf-8"))
        return replace(found, golden=history["train_loss"] if history["digest"] == found.digest else None)

    @property
    def digest(self) -> str:
        """Of all images and labels: a history belongs to one."""
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in self.parts)).hexdigest()[:32]

    def register(self) -> None:
        """Make the images a dataset that recipes name."""
        train, test = Labelled(*self.parts[:2]), Labelled(*self.parts[2:])

        @register_dataset
        class Acceptance(InMemory):
            name, label = NAME, f"10,000 images ({self.images})"

            def read(self, folder: Path):
                return CLASSES, train, test


def default_folder() -> Path:
    return project_root() / "build" / "gpu-acceptance"


def _made_up() -> tuple[torch.Tensor, ...]:
    """Ten classes that differ in the brightness of their middle."""
    draw, parts = torch.Generator().manual_seed(0), []
    for count in (TRAIN, TEST):
        labels = torch.randint(0, len(CLASSES), (count,), generator=draw)
        images = torch.randint(0, 256, (count, 3, 32, 32), generator=draw, dtype=torch.uint8)
        images[:, :, 8:24, 8:24] = images[:, :, 8:24, 8:24] // 2 + (12 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
        parts += [images, labels]
    return tuple(parts)


def make(folder: Path, data: str = "") -> Material:
    """Write images and history to ``folder``; the history takes a CPU some minutes. What is there is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "images.npz"
    if not path.exists():
        images, parts = "CIFAR-10", None
        try:
            train, test = DATASETS["cifar10"].read(data_dir(data))[1:]
            parts = (train.images[:TRAIN], train.labels[:TRAIN], test.images[:TEST], test.labels[:TEST])
        except FileNotFoundError as error:
            print(f"made-up images instead of CIFAR-10: {error}")
            images, parts = "made up", _made_up()
        arrays = {name: part.numpy() for name, part in zip(PARTS, parts, strict=True)}
        np.savez(path, images=images, **arrays)
        print(f"{path}: {path.stat().st_size / 1e6:.0f} MB, {images}")
    found = Material.of(folder)
    if found.golden is None:
        write_atomic(folder / "golden.json", json.dumps(_history(found)) + "\n")
        print(f"{folder / 'golden.json'}: the history on a CPU")
    return Material.of(folder)


def _history(material: Material) -> dict:
    from resteutils.training.loop import train

    material.register()
    with tempfile.TemporaryDirectory() as folder:
        _, rows, environment = train(recipe(), Path(folder), "cpu")
    columns = ("train_loss", "train_top1", "test_loss", "test_top1")
    return {
        "digest": material.digest,
        "images": material.images,
        "recipe": recipe().to_dict(),
        "environment": environment,
        **{name: [row[name] for row in rows] for name in columns},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=str(default_folder()))
    parser.add_argument("--data-dir", default="")
    given = parser.parse_args()
    make(Path(given.folder), given.data_dir)
