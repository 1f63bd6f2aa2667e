"""The two sides of the equilibrium: estimating error e and gradient instability s, each in two readings.

``reading="code"`` is what the authors' code computes; ``reading="definition"`` is what the paper defines. They differ
in more than rounding, so every number says which one it is. Both look at a model as it stands: latent weights, and the
gradients of the last backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resteutils.estimators import Estimator, GainSTE, ReSTE
from resteutils.nn.binarize import sign

__all__ = [
    "READINGS",
    "error_ceilings",
    "estimating_error",
    "gradient_instability",
    "gradient_spread",
    "value_shares",
    "zone_ends",
    "zone_shares",
]

READINGS = ("code", "definition")


def estimating_error(model: nn.Module, reading: str = "definition") -> float:
    """Distance between sign and surrogate over the weights of the binary layers (latent, or standardised where a layer
    does so), a float; NaN without binary layers.

    * "definition": the L2 norm of sign(w) - f(w) over all binary weights together, f the estimator as it is now,
      truncations included (paper: e = D(sign(z), f(z))).
    * "code": the sum over layers of L2 norms, f without truncations and at the end of its path, whatever the epoch.

    Raises ``ValueError`` for an unknown reading.
    """
    _check(reading)
    norms = []
    for layer in _binary_layers(model):
        weight = layer.effective_weight().detach()
        f = layer.estimator.untruncated if reading == "code" else layer.current.surrogate
        norms.append(torch.linalg.vector_norm((f(weight) - sign(weight)).double()))
    if not norms:
        return math.nan
    stacked = torch.stack(norms)
    return float(stacked.sum() if reading == "code" else torch.linalg.vector_norm(stacked))


def error_ceilings(model: nn.Module) -> dict[str, float]:
    """e of each reading with all binary weights at zero: sqrt(N) as defined, the sum over layers of sqrt(N_l) as in the
    code. Where no surrogate leaves [-1, 1] no weights exceed it.
    """
    counts = [layer.weight.numel() for layer in _binary_layers(model)]
    return {"definition": math.sqrt(sum(counts)), "code": sum(math.sqrt(n) for n in counts)}


def gradient_instability(model: nn.Module, reading: str = "definition") -> float:
    """Variance of the gradients' magnitude after a backward pass, a float.

    * "definition": the variance of \\|g\\| over the gradients of all parameters together (paper: s = var(\\|g\\|)).
    * "code": the sum over binary layers of the variance of \\|g\\| of that layer's weights; NaN without binary layers.

    s grows with the square of any common gain of the gradients; :func:`gradient_spread` does not.
    Raises ``ValueError`` for an unknown reading and ``RuntimeError`` where there are no gradients.
    """
    _check(reading)
    if reading == "code":
        sizes = [_gradient(layer.weight).abs() for layer in _binary_layers(model)]
        return float(torch.stack([size.double().var() for size in sizes]).sum()) if sizes else math.nan
    return float(_mean_and_variance(model)[1])


def gradient_spread(model: nn.Module) -> float:
    """std(\\|g\\|)/mean(\\|g\\|) over the gradients of all parameters: the scale-free companion of the instability."""
    mean, variance = _mean_and_variance(model)
    return float(variance.sqrt() / mean)


def zone_ends(estimator: Estimator | None) -> tuple[float, float]:
    """m and t that divide the axis into ReSTE's zones: the estimator's own, or ReSTE's defaults where it has none."""
    own = estimator if isinstance(estimator, (ReSTE, GainSTE)) else ReSTE()
    return own.m, own.t


def zone_shares(model: nn.Module, m: float = ReSTE.m, t: float = ReSTE.t) -> dict[str, float]:
    """Share of binary weights in ReSTE's zones: plateau \\|w\\| <= m, power m < \\|w\\| <= t, clipped beyond. NaN
    without any."""
    return value_shares([layer.effective_weight().detach() for layer in _binary_layers(model)], m, t)


def value_shares(values: Sequence[Tensor], m: float, t: float) -> dict[str, float]:
    """:func:`zone_shares` of tensors of any shapes, all together."""
    sizes = [z.abs() for z in values]
    count = sum(size.numel() for size in sizes)
    if not count:
        return {"plateau": math.nan, "power": math.nan, "clipped": math.nan}
    plateau = float(sum((size <= m).sum() for size in sizes)) / count
    clipped = float(sum((size > t).sum() for size in sizes)) / count
    return {"plateau": plateau, "power": 1 - plateau - clipped, "clipped": clipped}


def _check(reading: str) -> None:
    if reading not in READINGS:
        raise ValueError(f"reading = {reading!r}, expected one of {', '.join(READINGS)}")


def _binary_layers(model: nn.Module) -> list[nn.Module]:
    """Modules with latent weights and an estimator. Known by these, not by class: layers live on a higher floor."""
    return [module for module in model.modules() if hasattr(module, "current") and hasattr(module, "estimator")]


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        raise RuntimeError("no gradients to measure; call loss.backward() first")
    return parameter.grad.detach()


def _mean_and_variance(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Of |g| over all parameters that have gradients, in float64 on the device."""
    gradients = [p.grad.detach() for p in model.parameters() if p.grad is not None]
    if not gradients:
        raise RuntimeError("no gradients to measure; call loss.backward() first")
    count = sum(g.numel() for g in gradients)
    total = torch.stack([torch.linalg.vector_norm(g, 1, dtype=torch.float64) for g in gradients]).sum()
    square = torch.stack([torch.linalg.vector_norm(g, 2, dtype=torch.float64) for g in gradients]).square().sum()
    mean = total / count
    return mean, ((square - count * mean**2) / (count - 1)).clamp(min=0)  # rounding must not make it negative
