"""Packed bits against what a user would pick instead: INT8 in onnxruntime and in OpenVINO, float32 in onnxruntime.

They are calibrated on the images that are then timed (the best case), see :mod:`resteutils.onebit.rivals`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

import resteutils as ru
from benchmarks.bound import macs_a_second
from benchmarks.ratios import Row, row, steady
from resteutils import kernels
from resteutils.nn.layers import binary_layers
from resteutils.onebit import model as packed
from resteutils.onebit.rivals import Rival, calibrated, folded_twin, lead, rivals
from resteutils.onebit.timing import interleaved

__all__ = ["AIMS", "rows"]

GROUP = "int8"
WHY_EMPTY = kernels.why_not() or "onnxruntime and OpenVINO with NNCF are not installed"
BEST = "INT8, OpenVINO"
AIMS = {  # how many times faster than OpenVINO's INT8 at batch 1 and 64, on one thread
    "resnet20": {1: 1.3, 64: 1.0},
    "resnet18": {1: 2.2, 64: 1.6},
    "vgg_small": {1: 2.5, 64: 1.9},
}
IMAGES = 512  # whose predictions are compared


def rows(full: bool) -> Iterator[Row]:
    if not kernels.available():
        return
    before = torch.get_num_threads()
    for name in AIMS:
        torch.manual_seed(0)
        images = torch.randn(IMAGES, 3, 32, 32)
        others = rivals(name, images)
        if not others:
            return
        yield from _files(name, others)
        yield from _exactness(name, others, images)
        for threads in sorted({1, before}):
            torch.set_num_threads(threads)
            try:
                for batch in (1, 64):
                    yield from _speed(name, others, images[:batch], threads)
            finally:
                torch.set_num_threads(before)


# --- rows -------------------------------------------------------------------------------------------------------------


def _files(name: str, others: dict[str, Rival]) -> Iterator[Row]:
    ours = packed.pack(ru.create(name)).bytes / 1e3
    for rival, found in others.items():
        yield steady(GROUP, name, "packed file", f"{rival} file", (ours, found.bytes / 1e3), "kB")


def _exactness(name: str, others: dict[str, Rival], images: torch.Tensor) -> Iterator[Row]:
    """Images to which a runtime gives the class that the network gives in torch's float32 arithmetic."""
    pixels, expected = images.numpy(), _in_batches(folded_twin(name), images)
    case = f"{name}, {len(images)} images"
    for rival, found in others.items():
        same = int((found.runner(1)(pixels).argmax(1) == expected.argmax(1)).sum())
        yield steady(GROUP, case, rival, "its network in torch", (same, len(images)), "same classes")
    network = calibrated(ru.create(name), images)
    small = packed.pack(network)
    for _, layer in binary_layers(network):
        layer.packed = False
    same = int((_in_batches(small, images).argmax(1) == _in_batches(network, images).argmax(1)).sum())
    yield steady(GROUP, case, "packed", "its network in torch", (same, len(images)), "same classes")


@torch.inference_mode()
def _in_batches(network: nn.Module, images: torch.Tensor) -> np.ndarray:
    return torch.cat([network(part) for part in images.split(64)]).numpy()


@torch.inference_mode()
def _speed(name: str, others: dict[str, Rival], images: torch.Tensor, threads: int) -> Iterator[Row]:
    small, pixels, batch = packed.pack(ru.create(name).eval()), images.numpy(), len(images)
    variants = {"packed": lambda: small(images)}
    for rival, found in others.items():
        variants[rival] = functools.partial(found.runner(threads), pixels)
    samples = interleaved(variants, repeats=101 if batch == 1 else 11, warmup=3, budget=30, lead=lead(threads))
    macs = ru.summary(ru.create(name), (3, 32, 32)).binary_macs * batch
    share = macs / samples["packed"].best / (macs_a_second() * threads)
    case = f"{name}, batch {batch}, {threads} thread{'s' * (threads > 1)}"
    for rival in others:
        aim = 1 / AIMS[name][batch] if rival == BEST and threads == 1 else None
        yield row(GROUP, case, samples, "packed", rival, aim, note=f"{100 * share:.0f} % of the 1-bit bound")
