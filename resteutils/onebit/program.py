"""The program of a packed network: which steps it takes over bits, and the numbers that each one needs.

A program is a list of steps. Value 0 is the image batch; step k makes value k + 1. Every step names its operation
(``do``), the value it reads (``source``) and what its result must be available as: ``floats``, ``bits`` (signs) or
both.

====================  ===========================================================================================
stem, project         full-precision convolution (any; 1x1), then ReLU if ``relu``, then ``x * gain + offset``:
                      the folded BatchNorm
binary                signs of the source (as they are where ``activations`` is 32) convolved with ``bits``: exact
                      integers n; then ``relu(n * alpha) * gain + offset``, plus the value ``skip`` if there is one
threshold             the same where only the sign is needed: +1 where n >= ``cuts``, reversed where ``flip``
activate              ``clamp(x, *limits)`` where x >= 0, ``clamp(slope * x, *limits)`` elsewhere, per channel
add                   the source plus the value ``skip``
max_pool, pad,        what they say; sign(max) is the maximum of the signs, so bits are pooled as bits
avg_pool, flatten
mean_pool             averages of windows, padding counted where ``include``
affine                ``x * gain + offset`` per channel
linear                ``x @ weight.T + bias``
====================  ===========================================================================================

Convolutions have ``groups`` where there is more than one, and ``dilation`` where it is not (1, 1). A binary linear
layer is a 1x1 convolution of one pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Program", "pack_signs", "slid", "unpack_signs", "unpack_traceable"]


@dataclass
class Program:
    """Steps, and their tensors by name: ``"<number of the step>.<name>"``."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def add(self, do: str, source: int, tensors: dict[str, Tensor] | None = None, **fields: Any) -> int:
        """Append a step; return the number of its value."""
        self.tensors.update(
            {f"{len(self.steps)}.{name}": t.detach().contiguous() for name, t in (tensors or {}).items()}
        )
        self.steps.append({"do": do, "source": source, **fields})
        return len(self.steps)

    def of(self, step: int, name: str) -> Tensor:
        return self.tensors[f"{step}.{name}"]


def slid(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] = (1, 1),
) -> tuple[int, ...]:
    """Height and width of what a window that slides over an image of ``size`` (H, W) gives."""
    axes = zip(size, kernel, stride, padding, dilation, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)


def pack_signs(signs: Tensor) -> Tensor:
    """(O, C, kh, kw) -> uint8 (O, kh, kw, ceil(C / 8)): eight channels a byte, lowest bit first, 1 for -1."""
    bits = np.packbits((signs.permute(0, 2, 3, 1) < 0).numpy(), axis=-1, bitorder="little")
    return torch.from_numpy(bits)


def unpack_signs(bits: Tensor, channels: int) -> Tensor:
    """The signs, float32 (O, C, kh, kw), that :func:`pack_signs` packed; of one row of bits (1, C, 1, 1)."""
    array = bits.numpy()
    array = array.reshape(1, 1, 1, -1) if array.ndim == 1 else array
    ones = np.unpackbits(array, axis=-1, count=channels, bitorder="little")
    return torch.from_numpy(np.ascontiguousarray((1 - 2 * ones.astype(np.float32)).transpose(0, 3, 1, 2)))


def unpack_traceable(bits: Tensor, channels: int) -> Tensor:
    """The same in operations of torch alone, for torch.export, whose program then keeps the bits.

    Bit k of n is floor(n / 2^k) - 2 floor(n / 2^(k+1)).
    """
    bits = bits.view(1, 1, 1, -1) if bits.dim() == 1 else bits
    number, powers = bits.float().unsqueeze(-1), 2.0 ** torch.arange(8, dtype=torch.float32)
    ones = torch.floor(number / powers) - 2 * torch.floor(number / (2 * powers))
    return (1 - 2 * ones.flatten(3)[..., :channels]).permute(0, 3, 1, 2)
