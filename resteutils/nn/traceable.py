"""Binary operations for tracers that look through an autograd function: torch.export and torch.fx.

``torch.compile`` and torch.jit.trace keep an autograd function's own backward pass. torch.export records the forward
pass and differentiates that, which for a sign is zero or NaN. Here the estimator is part of the forward pass, in
operations whose ordinary derivative is ``f'(z)``: the same values, and eager's gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resteutils.estimators import Estimator

__all__ = ["binarize_traceable", "convolve_traceable", "as_fx_leaf", "tracing"]


def tracing() -> bool:
    """Whether torch.export is recording."""
    return torch.compiler.is_exporting()


def binarize_traceable(z: Tensor, estimator: type[Estimator], coefficients: Sequence[float | Tensor]) -> Tensor:
    """sign(z) exactly, with ``grad * f'(z)`` as its ordinary derivative; under ``torch.no_grad`` the sign alone."""
    signs = torch.where(z < 0, -1.0, torch.where(z >= 0, 1.0, z)).detach()
    if not torch.is_grad_enabled():
        return signs
    slope = estimator.slope(z, *coefficients).detach()
    moved = torch.where(z.isfinite(), z, 0.0) * slope
    return signs + (moved - moved.detach())  # exactly 0, with a derivative


def convolve_traceable(
    x: Tensor, weight: Tensor, alpha: Tensor | None, spec: Any, coefficients: Sequence[float | Tensor]
) -> Tensor:
    """A binary convolution composed of :func:`binarize_traceable` and torch's own operations; arguments as those of
    :func:`resteutils.nn.binarize.binary_conv2d`, ``alpha`` the scale of ``weight`` with its derivative.
    """
    own = spec.weight_coefficients
    if spec.input_estimator is not None:
        x = binarize_traceable(x, spec.input_estimator, coefficients[own:])
    kernel = binarize_traceable(weight, spec.estimator, coefficients[:own])
    if alpha is not None and spec.scale.endswith("-detached"):
        alpha = alpha.detach()
    if alpha is not None and spec.scale_order == "before":
        kernel, alpha = kernel * alpha, None
    convolve = F.conv2d if weight.dim() == 4 else F.conv1d
    out = convolve(x, kernel, None, spec.stride, spec.padding, spec.dilation, spec.groups)
    return out if alpha is None else out * alpha.flatten().view(1, -1, *(1 for _ in spec.stride)).to(out.dtype)


def as_fx_leaf(layer: torch.nn.Module, x: Any) -> Any:
    """Record ``layer`` as one node, as torch.fx does with torch's own layers. Raises ``TypeError`` where ``x`` is
    neither a tensor nor a value that torch.fx traces with.
    """
    if not isinstance(x, torch.fx.Proxy):
        raise TypeError(f"{type(layer).__name__} takes a floating-point tensor, not a {type(x).__name__}")
    return x.tracer.create_proxy("call_module", x.tracer.path_of_module(layer), (x,), {})
