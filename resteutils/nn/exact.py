"""Convolutions of signs: sums of +1 and -1, integers in float32 whatever the order of summation.

On GPUs they are computed in TF32, whatever the precision of the run: its mantissa holds +1 and -1, sums are kept in
float32, and tensor cores are the fastest. An algorithm that transforms its operands first (Winograd) gives fractions
instead, which turn exact zeros to either side; :func:`integral` finds it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["convolve", "convolve_signs", "integral"]


def convolve(
    x: Tensor, kernel: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> Tensor:
    """Convolve (N, C, H, W) or (N, C, L) with a kernel of as many dimensions, in torch's precision."""
    function = F.conv2d if kernel.dim() == 4 else F.conv1d
    return function(x, kernel, None, tuple(stride), tuple(padding), tuple(dilation), groups)


def convolve_signs(
    x: Tensor, kernel: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> Tensor:
    """:func:`convolve` of tensors of +1 and -1: in TF32 on GPUs, but for autocast, which converts them itself."""
    if not x.is_cuda or torch.is_autocast_enabled("cuda"):
        return convolve(x, kernel, stride, padding, dilation, groups)
    if torch.compiler.is_compiling():  # a compiler would drop the switch: it is part of the operation
        return torch.ops.resteutils.convolve_signs(x, kernel, stride, padding, dilation, groups)
    return _in_tf32(x, kernel, stride, padding, dilation, groups)


def _in_tf32(x, kernel, stride, padding, dilation, groups):
    with _tf32():
        return convolve(x, kernel, stride, padding, dilation, groups)


@contextlib.contextmanager
def _tf32() -> Iterator[None]:
    switch = torch.backends.cudnn.conv
    before = switch.fp32_precision
    switch.fp32_precision = "tf32"
    try:
        yield
    finally:
        switch.fp32_precision = before


torch.library.define(
    "resteutils::convolve_signs",
    "(Tensor x, Tensor kernel, int[] stride, int[] padding, int[] dilation, int groups) -> Tensor",
)
torch.library.impl("resteutils::convolve_signs", "CUDA", _in_tf32)
torch.library.register_fake("resteutils::convolve_signs", convolve)


def integral(
    shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    device: torch.device,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> bool:
    """Whether random signs of these shapes convolve to integers on ``device``, those of the first image exactly."""
    draw = torch.Generator().manual_seed(0)

    def signs(size: Sequence[int]) -> Tensor:
        made = torch.randint(0, 2, tuple(size), generator=draw, dtype=torch.int8)
        return made.to(device).float().mul_(2).sub_(1).to(memory_format=memory_format)

    x, w = signs(shape), signs(kernel)
    found = convolve_signs(x, w, stride, padding, dilation, groups)
    exact = convolve(x[:1].double(), w.double(), stride, padding, dilation, groups)
    return bool((found == found.round()).all()) and found[:1].double().equal(exact)
