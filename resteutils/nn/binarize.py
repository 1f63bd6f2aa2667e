"""Sign forward, estimator backward.

:func:`binarize` is the textbook form, for any tensor. :func:`binary_conv2d` is the same mathematics for a whole binary
convolution in one autograd function with a closed-form backward pass (section 1.6 of our notes on the paper): it keeps
only the latent weights, their scale and the real-valued input for the backward pass, where the composed form would also
keep both signs and the unscaled output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from resteutils import kernels
from resteutils.estimators import Estimator, ReSTE
from resteutils.estimators.base import check_estimator, check_tensor
from resteutils.nn.exact import convolve, convolve_signs
from resteutils.nn.traceable import binarize_traceable, convolve_traceable, tracing

__all__ = ["SCALES", "SCALE_ORDERS", "ConvSpec", "binarize", "binary_conv2d", "check_scale_order", "scale_of", "sign"]

SCALES = ("layer", "channel", "layer-detached", "channel-detached", "none")
SCALE_ORDERS = ("after", "before")


def check_scale_order(order: str) -> None:
    """Raise ``ValueError`` unless it is one of ``SCALE_ORDERS``."""
    if order not in SCALE_ORDERS:
        raise ValueError(f"scale_order = {order!r}, expected one of {', '.join(SCALE_ORDERS)}")


def sign(z: Tensor) -> Tensor:
    """Sign with sign(0) = +1, so that the result fits in bits; same shape and dtype as ``z``, of integers floats.
    NaN stays NaN.

    DEVIATION(D1): the authors' ``torch.sign`` gives a third value, 0, at zero.
    """
    # torch.sign would turn NaN into 0. Two forms of the same: a compiler fuses the first, and would drop the + 0.0 of
    # the second, which makes -0.0 positive; without one, each new tensor costs more than the arithmetic.
    if torch.compiler.is_compiling():
        return torch.where(z == 0, 1.0, z).mul(math.inf).clamp(-1, 1)
    positive_zero = z + 0.0
    return positive_zero.clamp(1, 1).copysign_(positive_zero)


def _sign_again(z: Tensor) -> Tensor:
    """sign(z) in the backward pass. A compiler keeps the forward pass's until it is needed here, beside z, if both are
    written alike. GPUs have the memory, and it saves a kernel a layer: they keep it. On CPUs it is written otherwise:
    a compiled ResNet-20 keeps 142 instead of 237 MB this way.
    """
    if torch.compiler.is_compiling() and not z.is_cuda:
        return torch.where(z < 0, -1.0, torch.where(z >= 0, 1.0, z))
    return sign(z)


def times_slope(grad: Tensor, z: Tensor, estimator: type[Estimator], coefficients: Sequence[float | Tensor]) -> Tensor:
    """``grad * f'(z)``: ReSTE in one pass where the compiled kernel is at hand, else plain torch, which compilers
    fuse."""
    plain = torch.compiler.is_compiling() or not (z.is_cpu and z.dtype == grad.dtype == torch.float32)
    if estimator is ReSTE and not plain and z.shape == grad.shape and kernels.ready():
        return kernels.reste_backward(grad, z, *coefficients)
    return grad * estimator.slope(z, *coefficients)


def _keep(ctx, tensors: tuple[Tensor, ...], coefficients: Sequence[float | Tensor]) -> None:
    """Keep these for the backward pass; coefficients are all floats or, in compiled networks, all tensors."""
    ctx.floats = [c for c in coefficients if not isinstance(c, Tensor)]
    ctx.count = len(tensors)
    ctx.save_for_backward(*tensors, *(c for c in coefficients if isinstance(c, Tensor)))


def _kept(ctx) -> tuple[Sequence[Tensor], Sequence[float | Tensor]]:
    """What :func:`_keep` was given."""
    saved = ctx.saved_tensors
    return saved[: ctx.count], saved[ctx.count :] or ctx.floats


class _Once(torch.autograd.Function):
    """The identity, where nothing may differentiate any further."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grad):
        return grad.view_as(grad)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError("cannot differentiate twice: the second derivative of a surrogate gradient is not defined")


def _once(grad: Tensor | None) -> Tensor | None:
    """Refuse to be differentiated further, as ``once_differentiable`` does, but under torch.func's transforms too."""
    if grad is None or torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return grad
    return _Once.apply(grad)


class _Binarize(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(z, estimator, *coefficients):
        return sign(z)

    @staticmethod
    def setup_context(ctx, inputs, output):
        z, ctx.estimator, *coefficients = inputs
        _keep(ctx, (z,), coefficients)

    @staticmethod
    def backward(ctx, grad):
        (z,), coefficients = _kept(ctx)
        return _once(times_slope(grad, z, ctx.estimator, coefficients)), None, *(None for _ in coefficients)


def binarize(z: Tensor, estimator: Estimator, coefficients: tuple[Tensor, ...] | None = None) -> Tensor:
    """{-1, +1} forward (sign(0) = +1), ``grad * estimator.derivative(z)`` backward. Any shape, float dtype and device.

    ``coefficients`` replaces the estimator's own by 0-dim tensors, for compiled networks. Raises ``TypeError`` for
    other inputs. Differentiating twice raises ``RuntimeError``: the second derivative of a surrogate gradient is not
    defined.
    """
    check_tensor(z)
    check_estimator("estimator", estimator)
    values = estimator.coefficients() if coefficients is None else coefficients
    if tracing():
        return binarize_traceable(z, type(estimator), values)
    return _Binarize.apply(z, type(estimator), *values)


@dataclass(frozen=True)
class ConvSpec:
    """Everything about a binary convolution that is no tensor. ``input_estimator=None`` leaves the input as it is
    (1/32)."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    estimator: type[Estimator]
    input_estimator: type[Estimator] | None
    weight_coefficients: int
    scale: str = "layer"
    scale_order: str = "after"
    packed: bool = False
    table_gradients: bool = False
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1


def scale_of(weight: Tensor, scale: str) -> Tensor | None:
    """alpha = mean\\|w\\|: one number per layer, shape (1, 1, 1, 1), or per output channel, (C_out, 1, 1, 1); ``None``
    for "none"."""
    if scale == "none":
        return None
    # One order of summation, filters first: the mean of everything at once would depend, in its last bit, on the number
    # of threads and on the memory format.
    alpha = weight.flatten(1).abs().mean(dim=1)
    if scale.startswith("layer"):
        alpha = alpha.mean(dim=0, keepdim=True)
    return alpha.view(-1, *(1 for _ in weight.shape[1:]))


def binary_conv2d(x: Tensor, weight: Tensor, spec: ConvSpec, *coefficients: float | Tensor) -> Tensor:
    """Binary convolution with its scale: conv(sign(x), sign(w)) * alpha.

    x: (N, C_in, H, W) or (N, C_in, L); weight: latent weights (C_out, C_in / groups, kH, kW) or (.., k); result
    (N, C_out, H', W') or (N, C_out, L') in the convolution's dtype. ``coefficients`` are those of the weights'
    estimator followed by those of the input's. Zero padding stays 0 at the borders.

    DEVIATION(D2): the scale comes after the convolution, so that the convolution yields exact integers and neither the
    forward pass nor ReLU's mask depends on threads, algorithm or device; ``scale_order="before"`` is the authors'
    order.

    Raises ``ValueError`` for an input without a batch dimension. Differentiating twice raises ``RuntimeError``.
    """
    if x.dim() != weight.dim():
        expected = "(N, C, H, W)" if weight.dim() == 4 else "(N, C, L)"
        raise ValueError(f"input of shape {tuple(x.shape)}, expected {expected}; add the batch with x.unsqueeze(0)")
    if tracing():
        return convolve_traceable(x, weight, scale_of(weight, spec.scale), spec, coefficients)
    return _BinaryConv2d.apply(x, weight, scale_of(weight.detach(), spec.scale), spec, *coefficients)


class _BinaryConv2d(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, weight, alpha, spec, *coefficients):
        if spec.packed:
            out = kernels.binary_conv2d(
                x, weight, spec.stride, spec.padding, dilation=spec.dilation, groups=spec.groups
            )
            if torch.is_autocast_enabled(x.device.type):  # as conv2d would
                out = out.to(torch.get_autocast_dtype(x.device.type))
        else:
            signs = x if spec.input_estimator is None else sign(x)
            kernel = sign(weight)
            if alpha is not None and spec.scale_order == "before":
                kernel, alpha = kernel * alpha, None
            binary = spec.input_estimator is not None and (alpha is not None or spec.scale == "none")
            run = convolve_signs if binary else convolve
            out = run(signs, kernel, spec.stride, spec.padding, spec.dilation, spec.groups)
        return out if alpha is None else out.mul_(alpha.view(1, -1, *alpha.shape[2:]))

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, alpha, ctx.spec, *coefficients = inputs
        _keep(ctx, (x, weight) if alpha is None else (x, weight, alpha), coefficients)

    @staticmethod
    def backward(ctx, grad):
        (x, weight, *scale), coefficients = _kept(ctx)
        spec, alpha = ctx.spec, scale[0] if scale else None
        weight_coefficients = coefficients[: spec.weight_coefficients]
        input_coefficients = coefficients[spec.weight_coefficients :]

        weight_signs = sign(weight)
        if spec.table_gradients and grad.is_cpu and grad.dtype == x.dtype == weight.dtype == torch.float32:
            one = weight.new_ones(1) if alpha is None else alpha
            place = (spec.stride, spec.padding)
            grad_x = kernels.input_gradient(grad, x, weight, one, *place) if ctx.needs_input_grad[0] else None
            grad_kernel = kernels.weight_gradient(grad, x, weight, *place) if ctx.needs_input_grad[1] else None
        else:
            # Signs are made again here: cheaper than keeping them where nothing is compiled, and under autocast the
            # gradient says in which dtype.
            signs = (x if spec.input_estimator is None else _sign_again(x)).to(grad.dtype)
            scaled = weight_signs if alpha is None else weight_signs * alpha
            grad_x, grad_kernel, _ = torch.ops.aten.convolution_backward(
                grad, signs, scaled.to(grad.dtype), None, spec.stride, spec.padding, spec.dilation, False,
                [0] * len(spec.stride), spec.groups, (ctx.needs_input_grad[0], ctx.needs_input_grad[1], False),
            )  # fmt: skip
        if grad_x is not None:
            grad_x = grad_x.to(x.dtype)
            if spec.input_estimator is not None:
                grad_x = times_slope(grad_x, x, spec.input_estimator, input_coefficients)
        grad_weight = None
        if grad_kernel is not None:
            grad_kernel = grad_kernel.to(weight.dtype)
            grad_weight = times_slope(grad_kernel, weight, spec.estimator, weight_coefficients)
            if alpha is not None:
                grad_weight = _with_scale(grad_weight, grad_kernel, weight, weight_signs, alpha, spec.scale)
        return _once(grad_x), _once(grad_weight), None, None, *(None for _ in coefficients)


def _with_scale(grad_weight, grad_kernel, weight, weight_signs, alpha, scale):
    """dL/dw = alpha G f'(w) + sign(w) sum(G sign(w)) / N, G the gradient of the scaled binary weights.

    The second term comes through alpha = mean|w|; it is absent where alpha is detached.
    """
    grad_weight = grad_weight * alpha
    if scale.endswith("-detached"):
        return grad_weight
    dims = tuple(range(weight.dim())) if scale == "layer" else tuple(range(1, weight.dim()))
    count = weight.numel() / alpha.numel()
    return grad_weight + torch.sign(weight) * ((grad_kernel * weight_signs).sum(dim=dims, keepdim=True) / count)
