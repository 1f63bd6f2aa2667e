"""Binary layers: arithmetic, estimators on their path, and every way a module is copied, saved, moved or compiled."""

from __future__ import annotations

import copy
import io
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import resteutils as ru
from resteutils import kernels
from resteutils.binarize import SCALES
from resteutils.layers import standardized


def network(**options) -> nn.Sequential:
    """Two binary convolutions and a binary linear layer between float ones, for (N, 3, 8, 8)."""
    linear = {key: value for key, value in options.items() if key not in ("scale_order", "standardize")}
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        ru.BinaryConv2d(8, 8, 3, padding=1, **options),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(8),
        ru.BinaryConv2d(8, 16, 3, stride=2, padding=1, **options),
        nn.BatchNorm2d(16),
        nn.Flatten(),
        ru.BinaryLinear(256, 12, **linear),
        nn.Linear(12, 10),
    )


def gradients(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    model(x).square().mean().backward()
    return [p.grad.clone() for p in model.parameters()]


# --- arithmetic ------------------------------------------------------------------------------------------------------


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


# --- threads: defect 23 ----------------------------------------------------------------------------------------------


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_forward_and_relu_masks_do_not_depend_on_the_number_of_threads(threads) -> None:
    """Outputs of every layer up to the last ReLU, in training mode, are the same bits on one thread and on many."""
    model = ru.create("vgg_small", image_size=16).train()
    x, found = torch.randn(8, 3, 16, 16), []
    for count in (1, 2, 4):
        threads(count)
        outputs: list[torch.Tensor] = []
        watched = (m for m in model.modules() if isinstance(m, ru.BinaryConv2d | nn.ReLU))
        handles = [
            m.register_forward_hook(lambda module, inputs, out, kept=outputs: kept.append(out.clone())) for m in watched
        ]
        with torch.no_grad():
            model(x)
        for handle in handles:
            handle.remove()
        found.append(outputs)
    assert len(found[0]) == 5 + 6
    for other in found[1:]:
        assert all(a.equal(b) for a, b in zip(found[0], other, strict=True))


# --- precision -------------------------------------------------------------------------------------------------------


def test_autocast_bf16() -> None:
    layer = ru.BinaryConv2d(8, 6, 3, padding=1)
    x = torch.randn(4, 8, 6, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    exact = layer(x)
    assert (out - exact).abs().max() <= 2**-7 * exact.abs().max()
    incoming = torch.randn_like(exact)
    reduced = torch.autograd.grad(out, (x, layer.weight), incoming.bfloat16())
    full = torch.autograd.grad(exact, (x, layer.weight), incoming)
    for ours, theirs in zip(reduced, full, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def _skip_without_kernels() -> None:
    if not kernels.ready():
        pytest.skip("the kernels are not compiled; tests/test_kernels.py compiles them")


def test_the_packed_forward_under_autocast_is_the_same() -> None:
    _skip_without_kernels()
    x, found = torch.randn(4, 32, 6, 6), []
    layer = ru.BinaryConv2d(32, 6, 3, padding=1)
    for layer.packed in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(layer(x))
    assert found[1].dtype == torch.bfloat16
    assert found[0].equal(found[1])


def test_backward_inside_autocast_is_the_same() -> None:
    layer, x = ru.BinaryConv2d(4, 6, 3), torch.randn(2, 4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        inside = torch.autograd.grad(layer(x).float().square().sum(), layer.weight)[0]
        loss = layer(x).float().square().sum()
    assert inside.equal(torch.autograd.grad(loss, layer.weight)[0])


def test_linear_under_autocast_bf16() -> None:
    layer, x = ru.BinaryLinear(16, 6), torch.randn(4, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), layer(x), rtol=1e-2, atol=1e-3)
    out.float().sum().backward()
    assert x.grad.dtype == layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_a_model_in_another_dtype_keeps_its_path(dtype: torch.dtype) -> None:
    layer = ru.BinaryConv2d(4, 6, 3)
    ru.anneal(layer, 0.4)
    layer.to(dtype)
    assert layer.coefficients.dtype == dtype
    assert layer.progress == 0.4
    out = layer(torch.randn(2, 4, 6, 6, dtype=dtype))
    assert out.dtype == dtype
    layer.float()
    assert layer.coefficients.tolist() == pytest.approx(
        [*layer.current.coefficients(), *layer.input_current.coefficients()]
    )


def test_double_gives_coefficients_in_double_precision() -> None:
    layer = ru.BinaryConv2d(4, 6, 3, estimator=ru.ReSTE(o=3)).double()
    assert layer.coefficients[2].item() == 0.1 ** (-2 / 3)


# --- the path --------------------------------------------------------------------------------------------------------


def test_a_fresh_layer_stands_at_the_end_of_its_path() -> None:
    layer = ru.BinaryConv2d(3, 4, 3, estimator=ru.ReSTE(o=5), input_estimator=ru.EDE())
    assert layer.progress == 1.0
    assert (layer.current, layer.input_current) == (ru.ReSTE(o=5), ru.EDE())


def test_anneal_moves_every_binary_layer_and_back_again() -> None:
    model = network(estimator=ru.ReSTE(o=3), input_estimator=ru.EDE())
    for progress in (0.0, 0.5, 1.0, 0.25):
        ru.anneal(model, progress)
        for _, layer in ru.binary_layers(model):
            assert layer.progress == progress
            assert layer.current == ru.ReSTE(o=3).at(progress)
            assert layer.input_current == ru.EDE().at(progress)
            assert (layer.estimator, layer.input_estimator) == (ru.ReSTE(o=3), ru.EDE())


def test_anneal_changes_the_gradient_and_not_the_forward() -> None:
    model, x = network().eval(), torch.randn(2, 3, 8, 8)
    before = model(x), gradients(model, x)[0]
    ru.anneal(model, 0.0)
    after = model(x), gradients(model, x)[0]
    assert before[0].equal(after[0])
    assert not torch.allclose(before[1], after[1])


@pytest.mark.parametrize("progress", [-0.01, 1.01, math.nan])
@pytest.mark.parametrize("bits", ["1/1", "32/32"])
def test_anneal_refuses_what_is_no_share(progress: float, bits: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3)) if bits == "32/32" else network()
    with pytest.raises(ValueError, match="share of training"):
        ru.anneal(model, progress)
    for _, layer in ru.binary_layers(model):
        assert layer.progress == 1.0  # untouched


def test_binary_layers_in_order_with_their_names() -> None:
    assert [name for name, _ in ru.binary_layers(network())] == ["2", "5", "8"]
    assert ru.binary_layers(nn.Conv2d(3, 4, 3)) == []


# --- copies, files, devices ------------------------------------------------------------------------------------------


def test_state_dict_restores_weights_and_progress() -> None:
    first, second = network(), network()
    ru.anneal(first, 0.37)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    missing = second.load_state_dict(torch.load(file, weights_only=True))
    assert not missing.missing_keys
    assert not missing.unexpected_keys
    x = torch.randn(2, 3, 8, 8)
    for (_, a), (_, b) in zip(ru.binary_layers(first), ru.binary_layers(second), strict=True):
        assert (a.progress, a.current, a.input_current) == (b.progress, b.current, b.input_current)
        assert a.coefficients.equal(b.coefficients)
    assert all(a.equal(b) for a, b in zip(gradients(first, x), gradients(second, x), strict=True))


def test_state_dict_of_the_float_twin_is_refused() -> None:
    twin = nn.Conv2d(3, 4, 3, bias=False)
    with pytest.raises(RuntimeError, match="_extra_state"):
        ru.BinaryConv2d(3, 4, 3).load_state_dict(twin.state_dict())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_is_equal_and_independent(copied) -> None:
    first = network()
    ru.anneal(first, 0.5)
    second, x = copied(first), torch.randn(2, 3, 8, 8)
    assert all(a.equal(b) for a, b in zip(gradients(first, x), gradients(second, x), strict=True))
    ru.anneal(second, 0.0)
    assert {layer.progress for _, layer in ru.binary_layers(first)} == {0.5}
    assert all(layer.coefficients[0] < 1 for _, layer in ru.binary_layers(first))


def test_the_meta_device_and_back() -> None:
    with torch.device("meta"):
        layer = ru.BinaryConv2d(3, 4, 3)
    assert layer.weight.is_meta
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    assert layer.coefficients.tolist() == pytest.approx([*ru.ReSTE().coefficients()] * 2)
    assert layer(torch.randn(1, 3, 5, 5)).isfinite().all()


def test_anneal_under_inference_mode_leaves_a_layer_that_can_still_be_trained() -> None:
    with torch.inference_mode():
        layer = ru.BinaryConv2d(3, 4, 3)
        ru.anneal(layer, 0.5)
    layer.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
    ru.anneal(layer, 0.25)
    layer(torch.randn(1, 3, 5, 5)).sum().backward()
    assert layer.weight.grad.isfinite().all()


def test_the_device_under_test(device) -> None:
    model = network().to(device)
    ru.anneal(model, 0.5)
    assert all(layer.coefficients.device == layer.weight.device for _, layer in ru.binary_layers(model))
    assert all(g.isfinite().all() for g in gradients(model, torch.randn(2, 3, 8, 8, device=device)))


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"estimator": "reste"}, TypeError, r"estimator = 'reste', expected an estimator such as ru\.ReSTE"),
        ({"estimator": ru.ReSTE}, TypeError, "estimator = <class"),
        ({"input_estimator": 3.0}, TypeError, r"input_estimator = 3\.0"),
        ({"scale": "filter"}, ValueError, "scale = 'filter', expected one of layer, channel"),
        ({"scale_order": "during"}, ValueError, "scale_order = 'during', expected one of after, before"),
        ({"padding": "same"}, ValueError, "padding = 'same'"),
    ],
    ids=str,
)
def test_bad_arguments(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ru.BinaryConv2d(3, 4, 3, **options)


def test_repr_says_what_it_computes() -> None:
    text = repr(network(estimator=ru.ReSTE(o=2), binarize_input=False, scale_order="before"))
    assert "estimator=ReSTE(o=2.0" in text
    assert "binarize_input=False" in text
    assert "scale_order='before'" in text


# --- torch.compile ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"estimator": ru.EDE(), "input_estimator": ru.ReSTE(o=5)}, {"packed": True}],
    ids=["reste", "two", "packed"],
)
def test_compiled_once_for_the_whole_path_and_equal(options: dict) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    if options.get("packed"):
        _skip_without_kernels()
    torch._dynamo.reset()
    layer = ru.BinaryConv2d(4, 5, 3, padding=1, **options)
    counter = CompileCounterWithBackend("inductor")
    fast = torch.compile(layer, backend=counter, fullgraph=True)
    x = torch.randn(2, 4, 6, 6)
    x.view(-1)[:6] = torch.tensor([0.0, -0.0, 0.1, -0.1, 1.5, -1.5])
    for progress in (0.0, 0.3, 0.7, 1.0):
        ru.anneal(fast, progress)
        results = []
        for module in (layer, fast):
            layer.zero_grad()
            given = x.clone().requires_grad_()
            out = module(given)
            (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
            results.append((out.detach(), given.grad, layer.weight.grad.clone()))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert counter.frame_count == 1
