"""Scoring test images."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import DataLoader, Dataset

import resteutils as ru
from benchmarks import data as bench_data
from benchmarks.networks import CASES, VARIANTS, Case, build, device
from benchmarks.ratios import Row, row
from resteutils import kernels
from resteutils.onebit.timing import interleaved
from resteutils.recipes import Recipe
from resteutils.training.epoch import evaluate

__all__ = ["rows"]


def rows(full: bool) -> Iterator[Row]:
    for case in CASES if full else CASES[:1]:
        images = bench_data.images(1, 2_000 if case.name == "resnet20" else 200)
        variants = {
            "authors' formulation": _theirs(case, images),
            "float twin": _ours(case, images, "float twin, eager", packed=False),
            "ours, float arithmetic": _ours(case, images, "ours, eager", packed=False),
        }
        if kernels.available():
            variants["ours, packed bits"] = _ours(case, images, "ours, eager", packed=None)
        samples = interleaved(variants, repeats=7, warmup=1, budget=60)
        label = f"{case.name}, {images.test_size:,} images"
        for name in list(variants)[2:]:
            yield row("evaluation", label, samples, name, "authors' formulation")
            yield row("evaluation", label, samples, name, "float twin")


def _ours(case: Case, images, variant: str, packed: bool | None) -> Callable[[], object]:
    model = build(case, VARIANTS[variant])
    for _, layer in ru.binary_layers(model):
        layer.packed = packed
    recipe = Recipe(compile="off", channels_last="off")
    images.to(device())
    return lambda: evaluate(model, images, recipe)


class _PerImage(Dataset):
    def __init__(self, images) -> None:
        from torchvision import transforms

        self.pixels, self.labels = images.test_images.cpu().permute(0, 2, 3, 1).numpy(), images.test_labels.tolist()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(images.mean, images.std)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        from PIL import Image

        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def _theirs(case: Case, images) -> Callable[[], None]:
    model = build(case, VARIANTS["authors' formulation"]).eval()
    batches = DataLoader(_PerImage(images), 128, num_workers=2)

    def scan() -> None:
        with torch.no_grad():
            for x, y in batches:
                (model(x.to(device())).argmax(1) == y.to(device())).sum().item()

    return scan
