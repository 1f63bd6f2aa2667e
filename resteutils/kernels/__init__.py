"""Compiled operations: binary convolution on packed bits, its gradients, and ReSTE's backward pass.

They know tensors only. The C++ sources are compiled on first use (see :mod:`resteutils.kernels.build`), with one code
path per instruction set: AVX-512, AVX2, NEON and plain C++, chosen at run time. ``RESTEUTILS_KERNEL`` = ``avx512``,
``avx2``, ``neon`` or ``scalar`` forces one of them and ``off`` disables them all; ``path=`` forces one call.

Signs: sign(0) = +1 (also of -0.0), zero padding contributes 0, results are exact integers. A NaN has no bit: every
output of an image that holds one is NaN, and so is every output of a channel whose weights hold one; nothing is hidden.
None of the operations is differentiable by itself: ``resteutils.nn.binarize`` gives the convolution its backward pass.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from torch import Tensor

from resteutils.kernels import build

__all__ = [
    "PackedWeight",
    "available",
    "binary_conv2d",
    "binary_conv2d_packed",
    "fills_lanes",
    "input_gradient",
    "pack_bits",
    "pack_weight",
    "paths",
    "ready",
    "reste_backward",
    "settled",
    "weight_gradient",
    "why_not",
]


class PackedWeight(NamedTuple):
    """Weights as bits, rearranged for one code path of this machine. Not a file format: that is ``onebit.file``."""

    blob: Tensor
    out_channels: int
    in_channels: int
    kernel: tuple[int, int]
    path: str


def _constant(function):
    """``torch.compiler.assume_constant_result``, which would import the whole compiler: as long as torch itself."""
    function._dynamo_marked_constant = True
    return function


@_constant
def available() -> bool:
    """Whether the kernels can be used; compiles them on the first call (about half a minute, with a message)."""
    return not build.load()


@_constant
def ready() -> bool:
    """Whether they can be used without compiling anything now; within a process the answer only changes when this
    process compiles them, so that a training run is not changed by what happens beside it.
    """
    return settled() and not build.load()


def settled() -> bool:
    """Whether :func:`available` answers without compiling anything: they were compiled before, or it was tried."""
    return build.was_built() or build.tried()


@_constant
def why_not() -> str:
    """The reason why they are not available, with what to install; "" where they are."""
    return build.load()


@_constant
def paths() -> list[str]:
    """The code paths that this machine offers: the one that ``RESTEUTILS_KERNEL`` names, then the others, best first.

    Raises ``RuntimeError`` where there is none, and where another one is asked for.
    """
    _require()
    offered = torch.ops.resteutils.paths().split(",")
    wish = os.environ.get("RESTEUTILS_KERNEL", "")
    if wish not in ("", "auto", *offered):
        raise RuntimeError(f"RESTEUTILS_KERNEL={wish}: this machine offers auto, {', '.join(offered)}, or off")
    return sorted(offered, key=lambda path: path != wish)


@_constant
def _require() -> bool:
    if reason := build.load():
        raise RuntimeError(reason)
    return True


def pack_bits(x: Tensor, path: str = "") -> Tensor:
    """Signs of ``x`` (N, C, H, W), any float dtype and memory format, as uint8 (N, H, W, ceil(C / 8)).

    Eight channels a byte, lowest bit first, 1 for -1.

    Raises ``ValueError`` on a NaN.
    """
    _require()
    bits, nan = torch.ops.resteutils.pack_bits(x, path)
    if nan.any():
        raise ValueError("a NaN has no sign to pack; look for it with torch.isnan(x)")
    return bits


def pack_weight(weight: Tensor, path: str = "") -> PackedWeight:
    """Latent weights (out, in, kh, kw), packed once for many calls.

    Raises ``ValueError`` on a NaN.
    """
    path = path or paths()[0]
    return prepare_bits(pack_bits(weight.detach(), path), weight.shape[1], path)


def prepare_bits(bits: Tensor, in_channels: int, path: str = "") -> PackedWeight:
    """Bits of weights, as :func:`pack_bits` gives them (out, kh, kw, bytes), rearranged for this machine."""
    path = path or paths()[0]
    blob = torch.ops.resteutils.prepare_weight(bits, in_channels, path)
    return PackedWeight(blob, bits.shape[0], in_channels, (bits.shape[1], bits.shape[2]), path)


def binary_conv2d(
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    path: str = "",
    *,
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """conv2d(sign(x), sign(weight)), exact integers in x's dtype (halves round beyond 256 or 2048).

    x: (N, C, H, W) on the CPU, weight: latent weights (out, C / groups, kh, kw), both of any float dtype; the result
    follows x's memory format. Packs the weights at every call: for layers in training and evaluation alike. Groups run
    one after the other; :func:`fills_lanes` says where that pays. Raises ``RuntimeError`` where the kernels are not
    available and for shapes that do not fit.
    """
    _require()
    return torch.ops.resteutils.conv2d(x, weight, _pair(stride), _pair(padding), _pair(dilation), groups, path)


def fills_lanes(out_channels: int, groups: int) -> bool:
    """Whether a group has output channels enough for the kernel, which computes 32 at a time.

    Depthwise layers have one, and torch convolves their signs as floats 35 to 50 times faster, to the same integers.
    From 8 on the kernel is as fast or faster.
    """
    return groups == 1 or out_channels >= 8 * groups


def input_gradient(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    alpha: Tensor,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    path: str = "",
) -> Tensor:
    """Gradient of conv2d(sign(x), alpha * sign(weight)) with respect to sign(x), by tables of signed sums.

    grad: (N, out, H', W'), x: (N, C, H, W), of which only shape and memory format count, weight: latent weights
    (out, C, kh, kw), alpha: one number, or one per output channel; all float32 on the CPU. Returns (N, C, H, W). The
    arithmetic is float32; only the order of summation differs from torch's, whatever the number of threads. All of it
    is NaN where a weight is. Raises ``RuntimeError`` for other types and for shapes that do not fit.
    """
    _require()
    return torch.ops.resteutils.input_gradient(grad, x, weight, alpha, _pair(stride), _pair(padding), path)


def weight_gradient(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    path: str = "",
) -> Tensor:
    """Gradient of conv2d(sign(x), sign(weight)) with respect to sign(weight), by tables of signed sums.

    Arguments as those of :func:`input_gradient`; of ``weight`` only shape and memory format count. Returns
    (out, C, kh, kw). The same number of threads gives the same bits. All of it is NaN where an input is.
    """
    _require()
    return torch.ops.resteutils.weight_gradient(grad, x, weight, _pair(stride), _pair(padding), path)


def binary_conv2d_packed(
    x: Tensor, packed: PackedWeight, stride: tuple[int, int] = (1, 1), padding: tuple[int, int] = (0, 0)
) -> Tensor:
    """As :func:`binary_conv2d`, with weights from :func:`pack_weight`: for weights that do not change, timed beside
    torch's convolution (``resteutils.items.deploy``). Raises ``ValueError`` for other channels than theirs.
    """
    if x.dim() != 4 or x.shape[1] != packed.in_channels:
        raise ValueError(f"input of shape {tuple(x.shape)}, expected (N, {packed.in_channels}, H, W)")
    _require()
    return torch.ops.resteutils.conv2d_packed(
        x, packed.blob, packed.out_channels, packed.kernel, _pair(stride), _pair(padding), (1, 1), packed.path
    )


def reste_backward(
    grad: Tensor, z: Tensor, scale: float, exponent: float, plateau: float, m: float, t: float, path: str = ""
) -> Tensor:
    """grad * (plateau if \\|z\\| <= m; scale \\|z\\|^exponent if \\|z\\| <= t; 0 beyond), in one pass.

    CPU, float32, one shape. The power is good to 1e-6 relative. NaN stays NaN.
    """
    _require()
    return torch.ops.resteutils.reste_backward(grad, z, scale, exponent, plateau, m, t, path)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
