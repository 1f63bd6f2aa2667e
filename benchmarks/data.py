"""Augmented training batches: a whole epoch at a time in plain torch, against one image at a time in two workers."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.authors import loader
from benchmarks.ratios import Row, row
from resteutils.data.images import Images
from resteutils.onebit.timing import interleaved

__all__ = ["images", "rows"]

BATCH = 128


def images(train: int, test: int = 0) -> Images:
    """Random pixels in CIFAR-10's shape: what they show does not matter here."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (train + test, 3, 32, 32), dtype=torch.uint8, generator=draw)
    labels = torch.randint(10, (train + test,), generator=draw)
    classes = tuple("0123456789")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Images("random", classes, pixels[:train], labels[:train], pixels[train:], labels[train:], mean, std)


def rows(full: bool) -> Iterator[Row]:
    count = 50_000  # an epoch of CIFAR-10
    data = images(count)
    batches = loader(data, BATCH)
    batches_in_process = loader(data, BATCH, workers=0)
    epoch = iter(range(1_000_000))

    def ours() -> None:
        for _ in data.train_batches(BATCH, seed=0, epoch=next(epoch)):
            pass

    def theirs() -> None:
        for _ in batches:
            pass

    def in_process() -> None:
        for _ in batches_in_process:
            pass

    variants = {"ours, whole batches": ours, "per-image transforms, 2 workers": theirs}
    if full:
        variants["per-image transforms, in process"] = in_process
    samples = interleaved(variants, repeats=5, warmup=1, budget=45)
    fast = count / samples["ours, whole batches"].median
    slow = count / samples["per-image transforms, 2 workers"].median
    case = f"{count:,} images 32x32, crop and flip"
    note = f"{fast:,.0f} against {slow:,.0f} images/s"
    for name in list(variants)[1:]:
        target = 1 / 20 if name.endswith("2 workers") else None
        yield row("data", case, samples, "ours, whole batches", name, target=target, note=note if target else "")
