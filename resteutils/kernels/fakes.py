"""Shapes and strides of the compiled operations without computing them: what torch.compile traces with."""

from __future__ import annotations

import torch
from torch import Tensor

_LANES = 32  # LANES in paths.h


def _channels_last(x: Tensor) -> bool:
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _conv(x: Tensor, n, size, out, kernel, stride, padding, dtype, channels_last) -> Tensor:
    height, width = ((s + 2 * p - k) // t + 1 for s, k, t, p in zip(size, kernel, stride, padding, strict=True))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((n, out, height, width), dtype=dtype, device=x.device, memory_format=layout)


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


def _conv2d_bits(bits, blob, in_channels, out_channels, kernel, stride, padding, channels_last=False, path=""):
    n, h, w, _ = bits.shape
    return _conv(bits, n, (h, w), out_channels, kernel, stride, padding, torch.float32, channels_last)


def _conv2d_packed(x, blob, out_channels, kernel, stride, padding, path=""):
    return _conv(x, x.shape[0], x.shape[2:], out_channels, kernel, stride, padding, x.dtype, _channels_last(x))


def _conv2d(x, weight, stride, padding, path=""):
    out, _, *kernel = weight.shape
    return _conv(x, x.shape[0], x.shape[2:], out, kernel, stride, padding, x.dtype, _channels_last(x))


def _reste_backward(grad, z, scale, exponent, plateau, m, t, path=""):
    return torch.empty_like(z, memory_format=torch.channels_last if _channels_last(z) else torch.contiguous_format)


def _run_program(x, tensors, code, classes, path=""):
    return x.new_empty((x.shape[0], classes))


def register() -> None:
    """Called once, after the library is loaded."""
    for name in (
        "pack_bits",
        "prepare_weight",
        "conv2d_bits",
        "conv2d_packed",
        "conv2d",
        "reste_backward",
        "run_program",
    ):
        torch.library.register_fake(f"resteutils::{name}", globals()[f"_{name}"])
