"""Binary layers: their arithmetic, forward and backward, against composed and plain layers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import resteutils as ru
from resteutils.nn.binarize import SCALES
from resteutils.nn.layers import standardized


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("binarize_input", [True, False], ids=["1/1", "1/32"])
def test_convolution_of_signs_times_the_scale(scale: str, binarize_input: bool) -> None:
    layer = ru.BinaryConv2d(6, 5, 3, stride=2, padding=1, scale=scale, binarize_input=binarize_input).double()
    x = torch.randn(2, 6, 9, 9, dtype=torch.float64)
    signs = ru.sign(x) if binarize_input else x
    plain = F.conv2d(signs, ru.sign(layer.weight), stride=2, padding=1)
    mean = layer.weight.abs().mean((1, 2, 3))
    factor = {"layer": mean.mean(), "channel": mean[:, None, None], "none": torch.ones(())}[
        scale.removesuffix("-detached")
    ]
    torch.testing.assert_close(layer(x), plain * factor)


@pytest.mark.parametrize("kernel", [1, 2, (3, 1), 5])
@pytest.mark.parametrize("padding", [0, 1, (2, 0)])
def test_kernel_and_padding_shapes(kernel, padding) -> None:
    layer = ru.BinaryConv2d(3, 4, kernel, padding=padding, scale="none")
    twin = nn.Conv2d(3, 4, kernel, padding=padding, bias=False)
    twin.weight.data = ru.sign(layer.weight.data)
    x = torch.randn(2, 3, 8, 7)
    assert layer(x).equal(twin(ru.sign(x)))
    layer(x).sum().backward()
    assert layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("binarize_input", [True, False], ids=["1/1", "1/32"])
@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7), (0, 7)], ids=str)
def test_linear_is_the_composed_form(scale: str, binarize_input: bool, shape: tuple) -> None:
    layer = ru.BinaryLinear(7, 4, scale=scale, binarize_input=binarize_input).double()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight = layer.weight.detach().requires_grad_()
    signs = ru.binarize(x, layer.estimator) if binarize_input else x
    alpha = {"layer": weight.abs().mean(), "channel": weight.abs().mean(1), "none": torch.ones(())}
    alpha = alpha[scale.removesuffix("-detached")]
    alpha = alpha.detach() if scale.endswith("-detached") else alpha
    plain = F.linear(signs, ru.binarize(weight, layer.estimator)) * alpha
    out = layer(x)
    assert out.shape == (*shape[:-1], 4)
    torch.testing.assert_close(out, plain)
    incoming = torch.randn_like(out)
    ours = torch.autograd.grad(out, (x, layer.weight), incoming)
    theirs = torch.autograd.grad(plain, (x, weight), incoming)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_binary_linear_is_a_1x1_binary_convolution() -> None:
    linear, conv = ru.BinaryLinear(6, 5), ru.BinaryConv2d(6, 5, 1)
    conv.weight.data = linear.weight.data.view(5, 6, 1, 1).clone()
    x = torch.randn(4, 6)
    torch.testing.assert_close(linear(x), conv(x.view(4, 6, 1, 1)).flatten(1))
    linear(x).square().sum().backward()
    conv(x.view(4, 6, 1, 1)).square().sum().backward()
    torch.testing.assert_close(linear.weight.grad, conv.weight.grad.view(5, 6))


def test_separate_estimators_for_weights_and_inputs() -> None:
    layer = ru.BinaryConv2d(
        3, 4, 3, estimator=ru.STE(clip=0.02), input_estimator=ru.ApproxSign(), scale="none"
    ).double()
    x = (2 * torch.randn(2, 3, 6, 6, dtype=torch.float64)).requires_grad_()
    layer(x).sum().backward()
    assert (x.grad[x.abs() >= 1] == 0).all()
    assert (x.grad != 0).any()
    assert (layer.weight.grad[layer.weight.abs() > 0.02] == 0).all()
    assert (layer.weight.grad != 0).any()


def test_at_1_32_the_input_gradient_is_that_of_a_plain_convolution() -> None:
    layer = ru.BinaryConv2d(3, 4, 3, binarize_input=False, estimator=ru.EDE()).double()
    assert layer.input_estimator is None
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    out = layer(x)
    incoming = torch.randn_like(out)
    (gradient,) = torch.autograd.grad(out, x, incoming)
    alpha = layer.weight.detach().abs().mean()
    torch.testing.assert_close(gradient, F.grad.conv2d_input(x.shape, alpha * ru.sign(layer.weight.detach()), incoming))


def test_standardised_weights() -> None:
    layer = ru.BinaryConv2d(6, 5, 3, standardize=True).double()
    layer.weight.data = 0.3 * layer.weight.data + 0.2
    z = standardized(layer.weight.detach())
    torch.testing.assert_close(z.mean((1, 2, 3)), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(z.std((1, 2, 3), correction=0), torch.ones(5, dtype=torch.float64))
    assert layer.effective_weight().equal(z)

    weight = layer.weight.detach().requires_grad_()
    own = standardized(weight)
    x = torch.randn(2, 6, 7, 7, dtype=torch.float64)
    plain = F.conv2d(ru.sign(x), ru.binarize(own, layer.estimator)) * own.abs().mean()
    torch.testing.assert_close(layer(x), plain)
    incoming = torch.randn_like(plain)
    (theirs,) = torch.autograd.grad(plain, weight, incoming)
    (ours,) = torch.autograd.grad(layer(x), layer.weight, incoming)
    torch.testing.assert_close(ours, theirs)
    assert ours.sum((1, 2, 3)).abs().max() < 1e-9 * ours.abs().max()  # the mean of a filter is out of reach


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.7])
def test_a_constant_filter_becomes_zero(constant: float) -> None:
    weight = torch.full((2, 5, 3, 3), constant, requires_grad=True)
    out = standardized(weight)
    assert (out == 0).all()
    out.sum().backward()
    assert weight.grad.isfinite().all()


def test_all_zero_weights_give_zeros_and_finite_gradients() -> None:
    layer = ru.BinaryConv2d(3, 4, 3)
    nn.init.zeros_(layer.weight)
    x = torch.randn(2, 3, 6, 6, requires_grad=True)
    out = layer(x)
    out.sum().backward()
    assert (out == 0).all()
    assert x.grad.isfinite().all()
    assert layer.weight.grad.isfinite().all()


def test_nan_in_weights_or_input_is_seen_in_the_output_and_in_the_gradient() -> None:
    for scale in ("layer", "none"):
        layer, x = ru.BinaryConv2d(3, 4, 3, scale=scale), torch.randn(2, 3, 6, 6)
        x[1, 2, 3, 3] = math.nan
        out = layer(x)
        assert out[1].isnan().any()
        assert not out[0].isnan().any()
        layer, x = ru.BinaryConv2d(3, 4, 3, scale=scale), torch.randn(2, 3, 6, 6)
        layer.weight.data[0, 0, 0, 0] = math.nan
        out = layer(x)
        out.sum().backward()
        assert out.isnan().any()
        assert layer.weight.grad.isnan().any()


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (8,), (1, 2, 3, 8, 8)], ids=str)
def test_an_input_without_a_batch_is_refused(shape: tuple, training: bool) -> None:
    with pytest.raises(ValueError, match=r"expected \(N, C, H, W\)"):
        ru.BinaryConv2d(3, 4, 3).train(training)(torch.randn(shape))


@pytest.mark.parametrize("options", [{}, {"scale": "channel"}, {"binarize_input": False}], ids=str)
def test_gradients_of_single_images_under_vmap(options: dict) -> None:
    layer, x = ru.BinaryConv2d(3, 4, 3, **options), torch.randn(5, 3, 6, 6)

    def loss(weight, image):
        return torch.func.functional_call(layer, {"weight": weight}, (image[None],)).square().sum()

    together = torch.vmap(torch.func.grad(loss), (None, 0))(layer.weight.detach(), x)
    for image, gradient in zip(x, together, strict=True):
        (alone,) = torch.autograd.grad(loss(layer.weight, image), layer.weight)
        torch.testing.assert_close(gradient, alone)


@pytest.mark.parametrize("binarize_input", [True, False], ids=["1/1", "1/32"])
def test_an_empty_batch(binarize_input: bool) -> None:
    layer = ru.BinaryConv2d(3, 4, 3, binarize_input=binarize_input)
    out = layer(torch.randn(0, 3, 6, 6, requires_grad=True))
    assert out.shape == (0, 4, 4, 4)
    out.sum().backward()
    assert (layer.weight.grad == 0).all()


def test_memory_format_does_not_matter() -> None:
    layer = ru.BinaryConv2d(8, 8, 3, padding=1)
    x = torch.randn(4, 8, 6, 6)
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        layer.to(memory_format=memory_format).zero_grad()
        given = x.to(memory_format=memory_format).detach().requires_grad_()
        out = layer(given)
        out.square().sum().backward()
        results.append((out.detach(), given.grad, layer.weight.grad.clone()))
    (out, of_input, of_weight), last = results
    assert out.equal(last[0])  # to the last bit
    torch.testing.assert_close(of_input, last[1])
    torch.testing.assert_close(of_weight, last[2])
