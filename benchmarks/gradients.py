"""Gradients of a binary layer by tables of signed sums, against oneDNN's products in its better memory format."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.ratios import Row, row, steady
from resteutils import kernels
from resteutils.nn.binarize import sign
from resteutils.onebit.timing import interleaved

__all__ = ["LAYERS", "rows"]

GROUP = "gradients"
WHY_EMPTY = kernels.why_not()
LAYERS = (  # channels in and out, size, batch, stride
    (16, 16, 32, 64, 1), (32, 32, 16, 64, 1), (64, 64, 8, 64, 1), (64, 64, 32, 32, 1), (128, 128, 16, 32, 1),
    (256, 256, 8, 32, 1), (512, 512, 4, 32, 1), (16, 32, 32, 64, 2), (64, 128, 32, 32, 2),
)  # fmt: skip
INPUT, WEIGHT = "gradient of the input", "gradient of the weights"


def rows(full: bool) -> Iterator[Row]:
    if not kernels.available():
        return
    for layer in LAYERS:
        yield from _layer(*layer)


@torch.inference_mode()
def _layer(channels: int, out: int, size: int, batch: int, stride: int) -> Iterator[Row]:
    torch.manual_seed(0)
    x, weight = torch.randn(batch, channels, size, size), torch.randn(out, channels, 3, 3)
    grad, one = torch.randn(batch, out, size // stride, size // stride), torch.ones(1)
    last = [tensor.to(memory_format=torch.channels_last) for tensor in (grad, x, weight)]
    step = ((stride, stride), (1, 1))
    variants = {}
    for name, layout in (("channels first", (grad, x, weight)), ("channels last", last)):
        signs = layout[0], sign(layout[1]), sign(layout[2])  # they are made in the forward pass
        variants[f"{INPUT}, oneDNN, {name}"] = lambda s=signs: _by_products(*s, stride, (True, False, False))[0]
        variants[f"{WEIGHT}, oneDNN, {name}"] = lambda s=signs: _by_products(*s, stride, (False, True, False))[1]
    variants[f"{INPUT}, tables"] = lambda: kernels.input_gradient(*last, one, *step)
    variants[f"{WEIGHT}, tables"] = lambda: kernels.weight_gradient(*last, *step)
    samples = interleaved(variants, repeats=15, warmup=2, budget=8)
    threads = torch.get_num_threads()
    case = f"{channels} to {out} channels, {size}x{size}, stride {stride}, batch {batch}, {threads} threads"
    exact = _by_products(grad.double(), sign(x).double(), sign(weight).double(), stride, (True, True, False))
    for which, wanted in zip((INPUT, WEIGHT), exact, strict=False):
        rivals = [name for name in variants if name.startswith(f"{which}, oneDNN")]
        yield row(GROUP, case, samples, f"{which}, tables", min(rivals, key=lambda name: samples[name].median))
        error = float((variants[f"{which}, tables"]() - wanted).norm() / wanted.norm())
        yield steady(GROUP, case, f"error of the {which}", "1e-5 of its norm", (error, 1e-5), "relative", target=1.0)


def _by_products(grad: Tensor, signs: Tensor, weight: Tensor, stride: int, wanted: tuple[bool, ...]):
    return torch.ops.aten.convolution_backward(
        grad, signs, weight, None, (stride, stride), (1, 1), (1, 1), False, (0, 0), 1, wanted
    )
