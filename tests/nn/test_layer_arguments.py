"""Groups, dilation, bias, one dimension, devices and dtypes against the composed form, forward and backward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import resteutils as ru
from resteutils import kernels
from resteutils.nn.binarize import SCALE_ORDERS, SCALES

ARGUMENTS = [{"groups": 2}, {"groups": 4}, {"dilation": 2}, {"bias": True}, {"groups": 4, "dilation": 2, "bias": True}]


def composed(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    weight = layer.weight
    x = ru.binarize(x, layer.input_estimator) if layer.binarize_input else x
    kernel = ru.binarize(weight, layer.estimator)
    sizes = weight.abs().mean(tuple(range(1, weight.dim())), keepdim=True)
    alpha = {"layer": sizes.mean(0, keepdim=True), "channel": sizes, "none": torch.ones_like(sizes)}[
        layer.scale.removesuffix("-detached")
    ]
    alpha = alpha.detach() if layer.scale.endswith("-detached") else alpha
    convolve = F.conv2d if weight.dim() == 4 else F.conv1d
    numbers = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return convolve(x, kernel * alpha, layer.bias, *numbers)


@pytest.mark.parametrize("order", SCALE_ORDERS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
@pytest.mark.parametrize("kind", [ru.BinaryConv1d, ru.BinaryConv2d])
@pytest.mark.parametrize("binarize_input", [True, False], ids=["1/1", "1/32"])
def test_against_the_composed_form(kind: type, arguments: dict, scale: str, order: str, binarize_input: bool) -> None:
    layer = kind(
        4, 8, 3, stride=2, padding=1, scale=scale, scale_order=order, binarize_input=binarize_input,
        dtype=torch.float64, **arguments,
    )  # fmt: skip
    x = torch.randn((2, 4, 9, 8)[: layer.weight.dim()], dtype=torch.float64, requires_grad=True)
    ours, theirs = layer(x), composed(layer, x)
    torch.testing.assert_close(ours, theirs)
    incoming, leaves = torch.randn_like(ours), (x, *layer.parameters())
    for mine, other in zip(
        torch.autograd.grad(ours, leaves, incoming), torch.autograd.grad(theirs, leaves, incoming), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


@pytest.mark.skipif(not kernels.available(), reason=kernels.why_not() or "-")
@pytest.mark.parametrize("channels", [3, 8], ids="{} channels a group".format)
@pytest.mark.parametrize(
    "arguments", [{"groups": 4}, {"groups": 4, "dilation": (2, 1), "bias": True}, {"dilation": 3}], ids=str
)
@pytest.mark.parametrize("training", [True, False])
def test_packed_bits_give_the_same_integers(training: bool, arguments: dict, channels: int) -> None:
    """Also where tables of gradients are asked for: torch's take their place."""
    layers = [ru.BinaryConv2d(4 * channels, 4 * channels, 3, 2, 2, packed=packed, table_gradients=packed, **arguments)
              for packed in (True, False)]  # fmt: skip
    layers[1].load_state_dict(layers[0].state_dict())
    x = torch.randn(2, 4 * channels, 9, 8, requires_grad=True)
    found = [layer.train(training)(x) for layer in layers]
    assert torch.equal(*found)
    slopes = [
        torch.autograd.grad(out.square().sum(), (x, *layer.parameters()))
        for out, layer in zip(found, layers, strict=True)
    ]
    assert all(map(torch.equal, *slopes))


def test_only_depthwise_layers_are_left_to_torch_by_the_packed_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(kernels, "binary_conv2d", lambda x, weight, *_, groups, **__: seen.append(groups) or x.clone())
    for groups in (1, 2, 4, 16):
        ru.BinaryConv2d(16, 16, 3, padding=1, packed=True, groups=groups, scale="none")(torch.randn(1, 16, 5, 5))
    assert seen == [1, 2]


def test_standardised_weights_in_one_dimension() -> None:
    weight = ru.BinaryConv1d(4, 8, 3, standardize=True).effective_weight()
    torch.testing.assert_close(weight.mean((1, 2)), torch.zeros(8), atol=1e-6, rtol=0)


def test_a_linear_layer_with_a_bias() -> None:
    layer, x = ru.BinaryLinear(6, 4, bias=True), torch.randn(3, 6)
    with_bias = layer(x)
    torch.nn.init.zeros_(layer.bias.detach())
    assert not layer(x).equal(with_bias)
    with_bias.sum().backward()
    assert layer.bias.grad.tolist() == [3.0] * 4


@pytest.mark.parametrize("make", [lambda **k: ru.BinaryConv2d(3, 4, 3, **k), lambda **k: ru.BinaryConv1d(3, 4, 3, **k),
                                  lambda **k: ru.BinaryLinear(3, 4, **k)])  # fmt: skip
def test_device_and_dtype(make) -> None:
    layer = make(device="meta", dtype=torch.bfloat16)
    assert (layer.weight.device.type, layer.weight.dtype) == ("meta", torch.bfloat16)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("packed", [None, False])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.bfloat16], ids=str)
def test_an_input_of_another_dtype_is_refused_in_every_mode(training: bool, packed, dtype: torch.dtype) -> None:
    for layer, shape in (
        (ru.BinaryConv2d(3, 4, 3, packed=packed), (1, 3, 5, 5)),
        (ru.BinaryConv2d(3, 4, 3, binarize_input=False), (1, 3, 5, 5)),
        (ru.BinaryLinear(3, 4), (1, 3)),
    ):
        with pytest.raises(TypeError, match=str(dtype)):
            layer.train(training)(torch.ones(shape, dtype=dtype))


@pytest.mark.parametrize("build", [lambda: ru.BinaryLinear(0, 3), lambda: ru.BinaryLinear(3, 0)])
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_layer_without_weights_has_no_scale_and_is_refused(build) -> None:
    with pytest.raises(ValueError, match="weights of the shape .* expected at least one feature"):
        build()
