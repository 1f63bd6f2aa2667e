"""Shapes and strides of the compiled operations without computing them: what torch.compile traces with."""

from __future__ import annotations

import torch
from torch import Tensor

_LANES = 32  # LANES in paths.h


def _layout(x: Tensor) -> torch.memory_format:
    channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


def _pack_bits(x, path=""):
    n, c, h, w = x.shape
    return x.new_empty((n, h, w, (c + 7) // 8), dtype=torch.uint8), x.new_empty((n,), dtype=torch.uint8)


def blob_size(out: int, channels: int, taps: int) -> int:
    """Bytes of prepared weights, Weights::size() in ops.cpp."""
    row = (taps * ((channels + 7) // 8) + 7) // 8 * 8
    return (out + _LANES - 1) // _LANES * _LANES * (row + 4 * taps)


def _prepare_weight(bits, in_channels, path=""):
    out, height, width, _ = bits.shape
    return bits.new_empty((blob_size(out, in_channels, height * width),))


def _conv2d_packed(x, blob, out_channels, kernel, stride, padding, dilation=(1, 1), path=""):
    sizes = zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    height, width = ((size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in sizes)
    shape = (x.shape[0], out_channels, height, width)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_layout(x))


def _conv2d(x, weight, stride, padding, dilation=(1, 1), groups=1, path=""):
    return _conv2d_packed(x, None, weight.shape[0], weight.shape[2:], stride, padding, dilation)


def _reste_backward(grad, z, scale, exponent, plateau, m, t, path=""):
    return torch.empty_like(z, memory_format=_layout(z))


def _input_gradient(grad, x, weight, alpha, stride, padding, path=""):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=_layout(x))


def _weight_gradient(grad, x, weight, stride, padding, path=""):
    return torch.empty_like(weight)


def _run_program(x, tensors, code, classes, path=""):
    return x.new_empty((x.shape[0], classes))


_run_planes = _run_program


def register() -> None:
    """Called once, after the library is loaded."""
    for name in (
        "pack_bits", "prepare_weight", "conv2d_packed", "conv2d", "input_gradient", "weight_gradient",
        "reste_backward", "run_program", "run_planes",
    ):  # fmt: skip
        torch.library.register_fake(f"resteutils::{name}", globals()[f"_{name}"])
