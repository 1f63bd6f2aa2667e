"""What the tests of the kernels share: paths of this machine, images with exact zeros, shapes of convolutions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import strategies as st

from resteutils import kernels

available = pytest.mark.skipif(not kernels.available(), reason=kernels.why_not() or "-")
PATHS = kernels.paths() if kernels.available() else ["none"]
FORMATS = (torch.contiguous_format, torch.channels_last)


def sign(z):
    return torch.where(z < 0, -1.0, 1.0).to(z.dtype)


def images(*shape, seed=0, dtype=torch.float32):
    """Normal numbers with some exact zeros of both signs."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return torch.where(x.abs() < 0.1, x * 0, x)


@st.composite
def windows(draw):
    """Kernel, stride, padding and size of an image that holds at least one window."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = tuple(draw(st.integers(max(1, k - 2 * p), 12)) for k, p in zip(kernel, padding, strict=True))
    return kernel, draw(st.tuples(st.integers(1, 3), st.integers(1, 3))), padding, size
