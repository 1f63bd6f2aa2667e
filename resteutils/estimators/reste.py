"""The paper's estimator, and the straight-through estimators it is compared with."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from resteutils.estimators.base import PATHS, Estimator, check_tensor, power_on_path, register


@register
@dataclass(frozen=True)
class ReSTE(Estimator):
    r"""Rectified straight-through estimator, the paper's proposal: f(z) = sign(z) |z|^(1/o).

    As trained, with the two truncations of the paper:

    * f'(z) = m^((1-o)/o) for \|z\| <= m: the slope of the chord from 0 to f(m), so that the gradient stays finite;
    * f'(z) = (1/o) \|z\|^((1-o)/o) for m < \|z\| <= t;
    * f'(z) = 0 beyond t, where the drawn surrogate is sign(z).

    The chord is o times steeper than the curve at m, so f' jumps there. o = 1 is a straight-through estimator clipped
    at t, o -> infinity approaches sign.

    Arguments:
        o: the power at the end of training, o >= 1. The path starts at 1.
        t: saturation threshold, t > m; inf is no saturation.
        m: end of the chord, 0 < m < t.
        path: "cosine", o = 1 + (1 - cos(pi/2 progress)) (o_end - 1), as in the authors' code; or "linear", as their
            text is reported to say.

    References:
        Wu, Zheng, Liu, Zheng, *Estimator Meets Equilibrium Perspective*, ICCV 2023, section 3 (equations 6 and 7 in
        arXiv version 2). Closed intervals at m and t follow the authors' code.

    Example:
        >>> e = ReSTE(o=3)
        >>> [round(x, 3) for x in e.derivative(torch.tensor([0.0, 0.1, 0.2, 1.5, 1.6])).tolist()]
        [4.642, 4.642, 0.975, 0.254, 0.0]
        >>> e.at(0.0).o, round(e.at(0.5).o, 3), e.at(1.0) == e
        (1.0, 1.586, True)
    """

    o: float = 3.0
    t: float = 1.5
    m: float = 0.1
    path: str = "cosine"

    name: ClassVar[str] = "reste"
    label: ClassVar[str] = "ReSTE"
    kind: ClassVar[str] = "power"

    def __post_init__(self) -> None:
        self._plain_numbers()
        self._require("o", 1 <= self.o < math.inf, "a finite power o >= 1 (1 is the straight-through estimator)")
        self._require("m", 0 < self.m < self.t, f"0 < m < t (t = {self.t})")
        self._require("path", self.path in PATHS, f"one of {', '.join(PATHS)}")

    def surrogate(self, z: Tensor) -> Tensor:
        check_tensor(z)
        size, plateau = z.abs(), self.coefficients()[2]
        # "size > m", not "size <= m": a NaN takes the chord, where it stays NaN even if o is so large that NaN ** 0 = 1
        curve = torch.where(size > self.m, size.clamp(min=self.m) ** (1 / self.o), plateau * size)
        return torch.sign(z) * torch.where(size > self.t, 1.0, curve)

    def untruncated(self, z: Tensor) -> Tensor:
        check_tensor(z)
        size = z.abs()
        return torch.sign(z) * torch.where(size > 0, size ** (1 / self.o), size)  # NaN stays NaN, as above

    def coefficients(self) -> tuple[float, ...]:
        exponent = (1 - self.o) / self.o
        return 1 / self.o, exponent, self.m**exponent, self.m, self.t

    @staticmethod
    def slope(z, scale, exponent, plateau, m, t):
        size = z.abs()
        largest = torch.finfo(z.dtype).max  # t may be infinite, and infinity / infinity is no number
        if torch.compiler.is_compiling():  # exp2 and log2 vectorise where a power with a tensor exponent does not
            power = torch.exp2(torch.log2(size.clamp(m, t).clamp(max=largest)) * exponent)
        else:
            base = size.clamp(m, min(t, largest))
            power = (base**scale).div_(base)  # the same power; at o = 1, base**exponent would turn NaN into 1
        return torch.where(size > t, 0.0, torch.where(size <= m, plateau, scale * power)).to(z.dtype)

    def _on_path(self, progress: float) -> ReSTE:
        return replace(self, o=power_on_path(self.o, self.path, progress))


@register
@dataclass(frozen=True)
class STE(Estimator):
    """Straight-through estimator: f(z) = z, f'(z) = 1 for \\|z\\| <= clip, 0 beyond (the edge is inside).

    ``clip=1`` is the usual clipped form and the authors' (broken) branch; ``clip=inf`` is the identity, which a
    secondary reading says the paper's Table 3 uses: which of the two it was is uncertain. ReSTE at o = 1 is a third
    one, clipped at 1.5.

    References: Bengio, Leonard, Courville, *Estimating or Propagating Gradients Through Stochastic Neurons*, 2013;
    Hubara et al., *Binarized Neural Networks*, NeurIPS 2016.

    >>> STE().derivative(torch.tensor([-1.0, 0.0, 1.01])).tolist()
    [1.0, 1.0, 0.0]
    """

    clip: float = 1.0

    name: ClassVar[str] = "ste"
    label: ClassVar[str] = "STE"
    kind: ClassVar[str] = "identity"

    def __post_init__(self) -> None:
        self._plain_numbers()
        self._require("clip", self.clip > 0, "clip > 0 (inf is the identity)")

    def surrogate(self, z: Tensor) -> Tensor:
        check_tensor(z)
        return z.clamp(-self.clip, self.clip)

    def untruncated(self, z: Tensor) -> Tensor:
        check_tensor(z)
        return z.clone()

    def coefficients(self) -> tuple[float, ...]:
        return (self.clip,)

    @staticmethod
    def slope(z, clip):
        return _box(z, clip)


def _box(z: Tensor, clip: float | Tensor) -> Tensor:
    """1 for |z| <= clip, 0 beyond, NaN for NaN."""
    size = z.abs()
    return torch.where(size > clip, 0.0, size.clamp(1, 1))  # clamp(1, 1): 1, or NaN


@register
@dataclass(frozen=True)
class GainSTE(Estimator):
    """A control, not in the paper: the clipped straight-through estimator times ReSTE's plateau gain m^((1-o)/o).

    Nearly all latent weights lie within m of zero, where ReSTE's derivative is this constant. If ReSTE on weights does
    no more than multiply their gradients, this estimator does the same.

    >>> round(float(GainSTE(o=3).derivative(torch.tensor(0.5))), 3)
    4.642
    """

    o: float = 3.0
    t: float = 1.5
    m: float = 0.1

    name: ClassVar[str] = "ste_gain"
    label: ClassVar[str] = "STE x plateau gain"
    kind: ClassVar[str] = "identity"

    def __post_init__(self) -> None:
        self._plain_numbers()
        self._require("o", 1 <= self.o < math.inf, "a finite power o >= 1")
        self._require("m", 0 < self.m < self.t, f"0 < m < t (t = {self.t})")

    def surrogate(self, z: Tensor) -> Tensor:
        check_tensor(z)
        return self.coefficients()[0] * z.clamp(-self.t, self.t)

    def untruncated(self, z: Tensor) -> Tensor:
        check_tensor(z)
        return self.coefficients()[0] * z

    def coefficients(self) -> tuple[float, ...]:
        return self.m ** ((1 - self.o) / self.o), self.t

    @staticmethod
    def slope(z, gain, t):
        return gain * _box(z, t)

    def _on_path(self, progress: float) -> GainSTE:
        return replace(self, o=power_on_path(self.o, "cosine", progress))
