"""Sign, binarize and the fused binary convolution, against compositions of plain torch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import resteutils as ru
from resteutils.nn.binarize import SCALE_ORDERS, SCALES, ConvSpec, binary_conv2d, scale_of

numbers = st.floats(-4.0, 4.0)
HALF_AND_MORE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


# --- sign and binarize -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", HALF_AND_MORE, ids=str)
def test_sign_has_two_values_and_keeps_nan(dtype: torch.dtype, device) -> None:
    tiny = torch.finfo(dtype).tiny / 2
    z = torch.tensor([0.0, -0.0, tiny, -tiny, 3, -3, math.inf, -math.inf], dtype=dtype, device=device)
    assert ru.sign(z).tolist() == [1, 1, 1, -1, 1, -1, 1, -1]
    assert ru.sign(z).dtype == dtype
    assert ru.sign(torch.tensor([2, 0, -3])).tolist() == [1, 1, -1]
    assert ru.sign(torch.full((2,), math.nan, dtype=dtype, device=device)).isnan().all()


@given(z=st.lists(numbers, max_size=20), o=st.floats(1, 20), gradient=numbers, factor=st.floats(-3, 3))
def test_backward_is_the_derivative_and_linear_in_the_incoming_gradient(z, o, gradient, factor) -> None:
    e = ru.ReSTE(o=o)
    z = torch.tensor(z, dtype=torch.float64, requires_grad=True)

    def backward(size: float) -> torch.Tensor:
        return torch.autograd.grad(ru.binarize(z, e), z, torch.full_like(z, size))[0]

    torch.testing.assert_close(backward(gradient), gradient * e.derivative(z.detach()))
    torch.testing.assert_close(backward(factor * gradient), factor * backward(gradient))


@given(z=st.lists(numbers, min_size=1, max_size=20), o=st.floats(1, 20))
def test_forward_is_plus_or_minus_one_and_odd_except_at_zero(z: list[float], o: float) -> None:
    z = torch.tensor(z, dtype=torch.float64)
    forward = ru.binarize(z, ru.ReSTE(o=o))
    assert set(forward.tolist()) <= {-1.0, 1.0}
    other = z != 0
    assert ru.binarize(-z, ru.ReSTE(o=o))[other].equal(-forward[other])
    assert (forward[~other] == 1).all()


@pytest.mark.parametrize("e", [ru.FDA(), ru.SwishSign()], ids=repr)
def test_a_negative_slope_turns_the_gradient(e) -> None:
    z = torch.tensor([0.1, 0.95], dtype=torch.float64, requires_grad=True)
    ru.binarize(z, e).sum().backward()
    assert z.grad[0] > 0 > z.grad[1]


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("dtype", HALF_AND_MORE, ids=str)
def test_shapes_and_dtypes_forward_and_backward(shape: tuple, dtype: torch.dtype, device) -> None:
    z = torch.randn(shape, device=device).to(dtype).requires_grad_()
    out = ru.binarize(z, ru.ReSTE())
    out.sum().backward()
    assert out.shape == z.grad.shape == z.shape
    assert out.dtype == z.grad.dtype == dtype
    torch.testing.assert_close(z.grad, ru.ReSTE().derivative(z.detach()))  # not equal: the kernel rounds differently


def test_strides_do_not_matter() -> None:
    whole = torch.randn(2, 6, 5, 4, requires_grad=True)
    for view in (whole.to(memory_format=torch.channels_last), whole.transpose(1, 3), whole[:, ::2]):
        (gradient,) = torch.autograd.grad(ru.binarize(view, ru.ReSTE()).sum(), view)
        torch.testing.assert_close(gradient, ru.ReSTE().derivative(view.detach()))


def test_nan_reaches_the_gradient_so_that_it_is_seen() -> None:
    for o in (1, 3):
        z = torch.tensor([math.nan, 0.5], requires_grad=True)
        out = ru.binarize(z, ru.ReSTE(o=o))
        out.sum().backward()
        assert out.isnan().tolist() == z.grad.isnan().tolist() == [True, False]


def test_other_inputs_are_refused() -> None:
    for z, what in ((torch.tensor([1, -1]), "a torch.int64 tensor"), (0.5, "a float")):
        with pytest.raises(TypeError, match=rf"floating-point tensors, not {what}.*z\.float\(\)"):
            ru.binarize(z, ru.ReSTE())
    for estimator in ("reste", ru.ReSTE, None):
        with pytest.raises(TypeError, match=r"estimator = .*, expected an estimator such as ru\.ReSTE\(o=3\)"):
            ru.binarize(torch.randn(3), estimator)


def test_differentiating_twice_is_refused() -> None:
    z = torch.randn(5, requires_grad=True)
    (gradient,) = torch.autograd.grad(ru.binarize(z, ru.ReSTE()).square().sum() + z.sum(), z, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()
    x, weight = torch.randn(2, 3, 5, 5, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    out = binary_conv2d(x, weight, spec(), *both(ru.ReSTE(), ru.ReSTE()))
    gradients = torch.autograd.grad(out.square().sum(), (x, weight), create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        sum(g.sum() for g in gradients).backward()


def test_vmap_and_per_example_gradients() -> None:
    z, e = torch.randn(4, 6), ru.ReSTE()
    assert torch.vmap(lambda row: ru.binarize(row, e))(z).equal(ru.sign(z))
    per_row = torch.vmap(torch.func.grad(lambda row: (2 * ru.binarize(row, e)).sum()))(z)
    torch.testing.assert_close(per_row, 2 * e.derivative(z))


# --- the scale -------------------------------------------------------------------------------------------------------


def test_scale_is_the_mean_of_the_magnitudes() -> None:
    weight = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(scale_of(weight, "layer"), weight.abs().mean().reshape(1, 1, 1, 1))
    torch.testing.assert_close(scale_of(weight, "channel"), weight.abs().mean((1, 2, 3)).reshape(4, 1, 1, 1))
    assert scale_of(weight, "layer-detached").equal(scale_of(weight, "layer"))
    assert scale_of(weight, "channel-detached").equal(scale_of(weight, "channel"))
    assert scale_of(weight, "none") is None
    matrix = torch.randn(5, 7, dtype=torch.float64)
    torch.testing.assert_close(scale_of(matrix, "layer"), matrix.abs().mean().reshape(1, 1))


@pytest.mark.parametrize("shape", [(128, 128, 3, 3), (256, 256, 3, 3), (512, 256, 3, 3)], ids=str)
@pytest.mark.parametrize("scale", ["layer", "channel"])
def test_scale_does_not_depend_on_threads_and_memory_format(shape: tuple, scale: str, threads) -> None:
    weight = torch.randn(shape)
    found = []
    for count in (1, 2, 3, 4, 7):
        threads(count)
        found += [scale_of(weight, scale), scale_of(weight.to(memory_format=torch.channels_last), scale)]
    assert all(alpha.equal(found[0]) for alpha in found)


# --- the fused convolution -------------------------------------------------------------------------------------------


def spec(**changes) -> ConvSpec:
    fields = {"stride": (1, 1), "padding": (1, 1), "estimator": ru.ReSTE, "input_estimator": ru.ReSTE}
    fields |= {"weight_coefficients": len(fields["estimator"]().coefficients())}
    return ConvSpec(**(fields | changes))


def both(weights, inputs=None) -> tuple[float, ...]:
    return weights.coefficients() + (inputs.coefficients() if inputs else ())


def composed(x, weight, e, input_e, stride, padding, scale, order):
    """The same mathematics from binarize, conv2d and mean, differentiated by autograd."""
    if input_e is not None:
        x = ru.binarize(x, input_e)
    dims = {"layer": (0, 1, 2, 3), "channel": (1, 2, 3), "none": None}[scale.removesuffix("-detached")]
    alpha = torch.ones(1, 1, 1, 1, dtype=weight.dtype) if dims is None else weight.abs().mean(dims, keepdim=True)
    alpha = alpha.detach() if scale.endswith("-detached") else alpha
    kernel = ru.binarize(weight, e)
    if order == "before":
        return F.conv2d(x, kernel * alpha, None, stride, padding)
    return F.conv2d(x, kernel, None, stride, padding) * alpha.view(1, -1, 1, 1)


PAIRS = [
    (ru.ReSTE(), ru.ReSTE()),
    (ru.ReSTE(), None),
    (ru.STE(), ru.ApproxSign()),
    (ru.ApproxSign(), ru.EDE()),
    (ru.RBNN(), ru.RBNN(floor=1.0).at(0.5)),
    (ru.FDA(), None),
]


def leaves() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    weight = 0.3 * torch.randn(4, 3, 3, 3, dtype=torch.float64)
    x.view(-1)[:2], weight.view(-1)[:2] = 0.0, 0.0  # zeros are where signs differ
    return x.requires_grad_(), weight.requires_grad_()


@pytest.mark.parametrize("order", SCALE_ORDERS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("e", "input_e"), PAIRS, ids=str)
def test_gradient_against_the_composed_form(e, input_e, scale: str, order: str) -> None:
    for stride, padding in (((1, 1), (1, 1)), ((2, 2), (1, 1)), ((2, 1), (0, 2))):
        x, weight = leaves()
        chosen = spec(
            stride=stride, padding=padding, estimator=type(e), input_estimator=type(input_e) if input_e else None,
            weight_coefficients=len(e.coefficients()), scale=scale, scale_order=order,
        )  # fmt: skip
        fused = binary_conv2d(x, weight, chosen, *both(e, input_e))
        plain = composed(x, weight, e, input_e, stride, padding, scale, order)
        torch.testing.assert_close(fused, plain)
        incoming = torch.randn_like(fused)
        for ours, theirs in zip(
            torch.autograd.grad(fused, (x, weight), incoming),
            torch.autograd.grad(plain, (x, weight), incoming),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("order", SCALE_ORDERS)
def test_weight_gradient_against_the_closed_form(order: str) -> None:
    """dL/dw = alpha G d(w) + sign(w) sum(G sign(w)) / N, with G = dL/d(scaled binary weight)."""
    x, weight = leaves()
    e = ru.ReSTE(o=2.3)
    incoming = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    out = binary_conv2d(x, weight, spec(scale_order=order), *both(e, e))
    (gradient,) = torch.autograd.grad(out, weight, incoming)

    alpha = weight.detach().abs().mean()
    scaled = (alpha * ru.sign(weight.detach())).requires_grad_()
    (big_g,) = torch.autograd.grad(F.conv2d(ru.sign(x.detach()), scaled, None, 1, 1), scaled, incoming)
    through_alpha = (big_g * ru.sign(weight.detach())).sum() / weight.numel() * torch.sign(weight.detach())
    torch.testing.assert_close(gradient, alpha * big_g * e.derivative(weight.detach()) + through_alpha)
    assert through_alpha.norm() > 0.01 * gradient.norm()  # the second term is really there


def test_weights_beyond_t_still_feel_the_gradient_through_the_scale() -> None:
    x, weight = leaves()
    with torch.no_grad():
        weight[0, 0, 0, 0] = 2.0
    for scale, moves in (("layer", True), ("channel", True), ("layer-detached", False), ("none", False)):
        out = binary_conv2d(x, weight, spec(scale=scale), *both(ru.ReSTE(), ru.ReSTE()))
        (gradient,) = torch.autograd.grad((out * torch.randn_like(out)).sum(), weight)
        assert (gradient[0, 0, 0, 0] != 0) == moves, scale


def test_only_the_gradients_that_are_needed() -> None:
    x, weight = leaves()
    coefficients = both(ru.ReSTE(), ru.ReSTE())
    full = torch.autograd.grad(binary_conv2d(x, weight, spec(), *coefficients).square().sum(), (x, weight))
    alone = torch.autograd.grad(binary_conv2d(x.detach(), weight, spec(), *coefficients).square().sum(), weight)
    torch.testing.assert_close(alone[0], full[1])
    alone = torch.autograd.grad(binary_conv2d(x, weight.detach(), spec(), *coefficients).square().sum(), x)
    torch.testing.assert_close(alone[0], full[0])


@pytest.mark.parametrize("scale", ["layer", "channel", "none"])
def test_binary_convolution_is_integers_times_the_scale(scale: str) -> None:
    x, weight = torch.randn(3, 32, 9, 9), torch.randn(16, 32, 3, 3)
    out = binary_conv2d(x, weight, spec(scale=scale), *both(ru.ReSTE(), ru.ReSTE()))
    integers = F.conv2d(ru.sign(x).double(), ru.sign(weight).double(), padding=1)
    assert integers.equal(integers.round())
    assert integers.abs().max() > 20
    alpha = scale_of(weight, scale)
    expected = integers.float() if alpha is None else integers.float() * alpha.view(1, -1, 1, 1)
    assert out.equal(expected)  # to the last bit
    assert ((out == 0) == (integers == 0)).all()
    assert (integers == 0).any()


def test_padding_is_zero_at_the_border() -> None:
    x = torch.ones(1, 1, 3, 3)
    out = binary_conv2d(x, torch.ones(1, 1, 3, 3), spec(scale="none"), *both(ru.ReSTE(), ru.ReSTE()))
    assert out[0, 0].tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]


def test_the_authors_order_turns_zeros_into_rounding_noise() -> None:
    """Defect 23: why the scale comes after the convolution."""
    x, weight = torch.randn(8, 64, 8, 8), 0.05 * torch.randn(64, 64, 3, 3)
    coefficients = both(ru.ReSTE(), ru.ReSTE())
    after = binary_conv2d(x, weight, spec(), *coefficients)
    before = binary_conv2d(x, weight, spec(scale_order="before"), *coefficients)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    zeros = after == 0
    assert 0.005 < zeros.float().mean() < 0.1
    assert (before[zeros] > 0).float().mean() > 0.1  # ReLU would let these through


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_small_sums_are_exact_in_half_precision_too(dtype: torch.dtype) -> None:
    x, weight = torch.randn(2, 8, 6, 6).to(dtype), torch.randn(4, 8, 3, 3).to(dtype)  # |sums| <= 72
    out = binary_conv2d(x, weight, spec(scale="none"), *both(ru.ReSTE(), ru.ReSTE()))
    assert out.dtype == dtype
    assert out.float().equal(F.conv2d(ru.sign(x).float(), ru.sign(weight).float(), padding=1))


def test_an_input_without_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 8, 8\), expected \(N, C, H, W\)"):
        binary_conv2d(torch.randn(3, 8, 8), torch.randn(4, 3, 3, 3), spec(), *both(ru.ReSTE(), ru.ReSTE()))
