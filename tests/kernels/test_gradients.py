"""Gradients by tables of signed sums, on every code path, against float64."""

from __future__ import annotations

import pytest
import torch
from helpers.signs import FORMATS, PATHS, available, images, sign, windows
from hypothesis import given, settings
from hypothesis import strategies as st

from resteutils import kernels


@st.composite
def convolutions(draw):
    return draw(st.integers(0, 40)), draw(st.integers(1, 70)), draw(st.integers(1, 70)), *draw(windows())


def case(convolution, layout, seed):
    n, channels, out, kernel, stride, padding, size = convolution
    x = images(n, channels, *size, seed=seed).to(memory_format=layout)
    weight = images(out, channels, *kernel, seed=seed + 1)
    shape = torch.nn.functional.conv2d(x, weight, stride=stride, padding=padding).shape
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(memory_format=layout), x, weight


def expected(grad, x, weight, stride, padding):
    stride, padding = ((n, n) if isinstance(n, int) else n for n in (stride, padding))
    return torch.ops.aten.convolution_backward(
        grad.double(), sign(x).double(), sign(weight).double(), None, stride, padding, (1, 1), False, (0, 0), 1,
        (True, True, False),
    )[:2]  # fmt: skip


def close(result, wanted):
    return float((result - wanted).norm()) <= 1e-5 * float(wanted.norm())


def gradients(grad, x, weight, stride, padding, path="", alpha=1.0):
    alpha = torch.as_tensor(alpha, dtype=torch.float32)
    return (
        kernels.input_gradient(grad, x, weight, alpha, stride, padding, path),
        kernels.weight_gradient(grad, x, weight, stride, padding, path),
    )


@available
@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=60, deadline=None)
@given(convolutions(), st.sampled_from(FORMATS), st.booleans(), st.integers(0, 1000))
def test_equals_the_gradients_in_float64(path, convolution, layout, per_channel, seed):
    stride, padding = convolution[4:6]
    grad, x, weight = case(convolution, layout, seed)
    alpha = images(len(weight) if per_channel else 1, seed=seed + 2) + 3
    results = gradients(grad, x, weight.to(memory_format=layout), stride, padding, path, alpha)
    scaled = expected(grad * alpha.view(1, -1, 1, 1), x, weight, stride, padding)[0]
    for result, wanted in zip(results, (scaled, expected(grad, x, weight, stride, padding)[1]), strict=True):
        assert result.shape == wanted.shape and close(result, wanted)


@available
@pytest.mark.parametrize("channels", [16, 128])
def test_many_images_lose_no_digits(channels):
    """3e-6 of the norm over 100,000 pixels: sums of sums, not one long sum."""
    grad, x, weight = case((100, channels, 16, (3, 3), (1, 1), (1, 1), (32, 32)), torch.channels_last, 0)
    for result, wanted in zip(gradients(grad, x, weight, 1, 1), expected(grad, x, weight, 1, 1), strict=True):
        assert float((result - wanted).norm()) <= 3e-6 * float(wanted.norm())


@available
def test_threads_share_the_images_and_repeat_themselves(threads):
    grad, x, weight = case((37, 32, 48, (3, 3), (1, 1), (1, 1), (9, 9)), torch.channels_last, 0)
    alone = gradients(grad, x, weight, 1, 1)
    for count in (2, 5):  # five are more than groups of images: their rows are shared too
        threads(count)
        first, second = (gradients(grad, x, weight, 1, 1) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert torch.equal(first[0], alone[0])
        assert all(close(a, b) for a, b in zip(first, expected(grad, x, weight, 1, 1), strict=True))


@available
@pytest.mark.parametrize("layout", FORMATS)
def test_are_operations_that_torch_can_trace(layout):
    grad, x, weight = case((3, 5, 7, (3, 2), (2, 1), (1, 0), (8, 6)), layout, 0)
    weight, alpha, place = weight.to(memory_format=layout), torch.full((7, 1, 1, 1), 0.5), ((2, 1), (1, 0))
    for operation, arguments in (("input_gradient", (grad, x, weight, alpha)), ("weight_gradient", (grad, x, weight))):
        torch.library.opcheck(getattr(torch.ops.resteutils, operation).default, (*arguments, *place))
        function = getattr(kernels, operation)
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        ours, theirs = function(*arguments, *place), compiled(*arguments, *place)
        assert torch.equal(ours, theirs) and ours.stride() == theirs.stride()


@available
@pytest.mark.parametrize("path", PATHS)
def test_a_nan_is_not_hidden(path):
    grad, x, weight = case((2, 5, 7, (3, 3), (1, 1), (1, 1), (6, 6)), torch.contiguous_format, 0)
    holed = x.clone()
    holed[1, 4, 5, 5] = torch.nan
    grad_x, grad_weight = gradients(grad, holed, weight, 1, 1, path)
    assert grad_weight.isnan().all() and grad_x.isfinite().all()
    weight[6, 4, 2, 2] = torch.nan
    grad_x, grad_weight = gradients(grad, x, weight, 1, 1, path)
    assert grad_x.isnan().all() and grad_weight.isfinite().all()


@available
def test_refuses_what_does_not_fit():
    grad, x, weight = case((2, 5, 7, (3, 3), (1, 1), (1, 1), (6, 6)), torch.contiguous_format, 0)
    with pytest.raises(RuntimeError, match=r"\[2, 7, 6, 6\]"):
        gradients(grad, x, weight, 1, 0)
    with pytest.raises(RuntimeError, match="Double"):
        kernels.weight_gradient(grad.double(), x, weight, 1, 1)
    with pytest.raises(RuntimeError, match=r"alpha is one float32 number or 7, got \[5\]"):
        gradients(grad, x, weight, 1, 1, alpha=torch.ones(5))
