"""The mathematics of the paper and of its rivals: surrogates of sign, and their derivatives.

A binary network computes with sign(z), whose derivative is zero. An *estimator* names a surrogate f of sign and sends
the gradient dL/dz = dL/dsign(z) * f'(z) backward instead. The closer f is to sign, the smaller the estimating error and
the wilder the gradients; the paper's subject is the equilibrium of the two.

Every estimator is a frozen dataclass with

* ``surrogate(z)``: f(z), truncations included, for drawing and for the estimating error;
* ``derivative(z)``: f'(z), truncations included, what the backward pass uses;
* ``at(progress)``: the same family somewhere on its path over training, ``at(1.0) == self``.

Tensors of any shape, float dtype and device go in, tensors of the same shape, dtype and device come out. NaN stays NaN.

To add one: a frozen dataclass with a ``name``, the methods ``coefficients``, ``slope`` and ``surrogate``, and
``@register``.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

__all__ = [
    "DSQ",
    "EDE",
    "ESTIMATORS",
    "FDA",
    "RBNN",
    "STE",
    "ApproxSign",
    "Estimator",
    "GainSTE",
    "ReSTE",
    "SwishSign",
    "estimator",
]

ESTIMATORS: dict[str, type[Estimator]] = {}


def register(cls: type[Estimator]) -> type[Estimator]:
    """Class decorator: make an estimator known by its ``name`` to :func:`estimator`, recipes, notebooks and sliders."""
    if cls.name in ESTIMATORS and ESTIMATORS[cls.name].__qualname__ != cls.__qualname__:
        raise ValueError(f"an estimator named {cls.name!r} is registered already: {ESTIMATORS[cls.name]}")
    ESTIMATORS[cls.name] = cls
    return cls


def estimator(name: str, **parameters: float | str) -> Estimator:
    """Build an estimator by name.

    >>> estimator("reste", o=2)
    ReSTE(o=2.0, t=1.5, m=0.1, path='cosine')

    Raises ``ValueError`` for an unknown name, an unknown parameter or a value out of range.
    """
    if name not in ESTIMATORS:
        raise ValueError(f"unknown estimator {name!r}; known: {', '.join(ESTIMATORS)}")
    cls = ESTIMATORS[name]
    known = [field.name for field in fields(cls)]
    for parameter in parameters:
        if parameter not in known:
            raise ValueError(f"{cls.__name__} has no parameter {parameter!r}; it has: {', '.join(known) or 'none'}")
    return cls(**parameters)


@dataclass(frozen=True)
class Estimator:
    """What all estimators share. Subclasses give ``surrogate``, ``coefficients`` and ``slope``."""

    name: ClassVar[str] = ""
    label: ClassVar[str] = ""
    kind: ClassVar[str] = ""

    def surrogate(self, z: Tensor) -> Tensor:
        """f(z), same shape, dtype and device as ``z``, truncations included."""
        raise NotImplementedError

    def untruncated(self, z: Tensor) -> Tensor:
        """f(z) without the truncations, which is what the authors' code measures the estimating error with."""
        return self.surrogate(z)

    def derivative(self, z: Tensor) -> Tensor:
        """f'(z), same shape, dtype and device as ``z``, truncations included: what the backward pass uses."""
        _check_tensor(z)
        return self.slope(z, *self.coefficients())

    def coefficients(self) -> tuple[float, ...]:
        """The numbers that :meth:`slope` needs, computed once in double precision."""
        return ()

    @staticmethod
    def slope(z: Tensor, *coefficients: float | Tensor) -> Tensor:
        """f'(z) from :meth:`coefficients`, which may be floats or 0-dim tensors. Layers keep them in a tensor, so that
        a compiled network is not compiled again when they change from step to step.
        """
        raise NotImplementedError

    def at(self, progress: float) -> Estimator:
        """The estimator at ``progress`` in [0, 1] of the way through training; ``at(1.0) == self``, exactly.

        Raises ``ValueError`` outside [0, 1].
        """
        return self if _check_progress(progress) == 1.0 else self._on_path(float(progress))

    def _on_path(self, progress: float) -> Estimator:
        return self  # no path: the estimator is the same throughout

    def to_dict(self) -> dict[str, Any]:
        """Name and parameters as plain JSON values (infinity as "inf"); ``estimator(**d)`` builds it again."""
        return {"name": self.name, **{k: "inf" if v == math.inf else v for k, v in asdict(self).items()}}

    def _require(self, parameter: str, accepted: bool, expected: str) -> None:
        if not accepted:
            raise ValueError(f"{type(self).__name__}: {parameter} = {getattr(self, parameter)!r}, expected {expected}")

    def _floats(self) -> None:
        """Store numeric parameters as floats, so that ``ReSTE(o=3)`` and ``ReSTE(o=3.0)`` print and hash alike."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type not in ("float", float):
                continue
            value = math.inf if value == "inf" else value
            number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            self._require(field.name, number and not math.isnan(value), "a number")
            object.__setattr__(self, field.name, float(value))


def _check_tensor(z: Tensor) -> None:
    if not isinstance(z, Tensor) or not z.is_floating_point():
        what = f"a {z.dtype} tensor" if isinstance(z, Tensor) else f"a {type(z).__name__}"
        raise TypeError(f"estimators take floating-point tensors, not {what}; convert with z.float()")


def _check_progress(progress: float) -> float:
    if not 0.0 <= progress <= 1.0:  # also catches NaN
        raise ValueError(f"progress = {progress!r}, expected a share of training in [0, 1]")
    return progress


def _log_spaced(first: float, last: float, progress: float) -> float:
    return first * (last / first) ** progress


def _sech2(x: Tensor) -> Tensor:
    """1 - tanh(x)^2 without its cancellation, and 0 rather than NaN at infinity."""
    return 4 * torch.sigmoid(2 * x) * torch.sigmoid(-2 * x)


PATHS: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 1 - math.cos(math.pi / 2 * progress),
    "linear": lambda progress: progress,
}


def _power_on_path(o_end: float, path: str, progress: float) -> float:
    """The power o on its way from 1 to ``o_end``: cosine in the authors' code, linear as their text is reported to
    say."""
    return 1 + PATHS[path](progress) * (o_end - 1)


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
        t: saturation threshold, t > m.
        m: end of the chord, 0 < m < t.
        path: "cosine", o = 1 + (1 - cos(pi/2 progress)) (o_end - 1), as in the authors' code; or "linear", as their
        text is
            reported to say.

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
        self._floats()
        self._require("o", 1 <= self.o < math.inf, "a finite power o >= 1 (1 is the straight-through estimator)")
        self._require("m", 0 < self.m < self.t, f"0 < m < t (t = {self.t})")
        self._require("path", self.path in PATHS, f"one of {', '.join(PATHS)}")

    def surrogate(self, z: Tensor) -> Tensor:
        _check_tensor(z)
        size, plateau = z.abs(), self.coefficients()[2]
        curve = torch.where(size <= self.m, plateau * size, size.clamp(min=self.m) ** (1 / self.o))
        return torch.sign(z) * torch.where(size > self.t, 1.0, curve)

    def untruncated(self, z: Tensor) -> Tensor:
        _check_tensor(z)
        return torch.sign(z) * z.abs() ** (1 / self.o)

    def coefficients(self) -> tuple[float, ...]:
        exponent = (1 - self.o) / self.o
        return 1 / self.o, exponent, self.m**exponent, self.m, self.t

    @staticmethod
    def slope(z, scale, exponent, plateau, m, t):
        size = z.abs()
        base = size.clamp(m, t)
        if torch.compiler.is_compiling():  # exp2 and log2 vectorise where a power with a tensor exponent does not
            power = torch.exp2(torch.log2(base) * exponent)
        else:
            power = (base**scale).div_(base)  # the same power; at o = 1, base**exponent would turn NaN into 1
        return torch.where(size > t, 0.0, torch.where(size <= m, plateau, scale * power)).to(z.dtype)

    def _on_path(self, progress: float) -> ReSTE:
        return replace(self, o=_power_on_path(self.o, self.path, progress))


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
        self._floats()
        self._require("clip", self.clip > 0, "clip > 0 (inf is the identity)")

    def surrogate(self, z: Tensor) -> Tensor:
        _check_tensor(z)
        return z.clamp(-self.clip, self.clip)

    def untruncated(self, z: Tensor) -> Tensor:
        _check_tensor(z)
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
        self._floats()
        self._require("o", 1 <= self.o < math.inf, "a finite power o >= 1")
        self._require("m", 0 < self.m < self.t, f"0 < m < t (t = {self.t})")

    def surrogate(self, z: Tensor) -> Tensor:
        _check_tensor(z)
        return self.coefficients()[0] * z.clamp(-self.t, self.t)

    def untruncated(self, z: Tensor) -> Tensor:
        _check_tensor(z)
        return self.coefficients()[0] * z

    def coefficients(self) -> tuple[float, ...]:
        return self.m ** ((1 - self.o) / self.o), self.t

    @staticmethod
    def slope(z, gain, t):
        return gain * _box(z, t)

    def _on_path(self, progress: float) -> GainSTE:
        return replace(self, o=_power_on_path(self.o, "cosine", progress))


@register
@dataclass(frozen=True)
class ApproxSign(Estimator):
    """Piecewise quadratic of Bi-Real Net: f(z) = 2z - sign(z) z^2 on [-1, 1], sign beyond; f'(z) = 2 - 2\\|z\\| inside,
    else 0.

    Bi-Real Net uses it on activations only, with a clipped STE on the weights: pass it as ``input_estimator``.

    References: Liu et al., *Bi-Real Net*, ECCV 2018.

    >>> ApproxSign().derivative(torch.tensor([0.0, 0.25, 2.0])).tolist()
    [2.0, 1.5, 0.0]
    """

    name: ClassVar[str] = "approx_sign"
    label: ClassVar[str] = "ApproxSign"
    kind: ClassVar[str] = "polynomial"

    def surrogate(self, z: Tensor) -> Tensor:
        _check_tensor(z)
        inside = z.clamp(-1, 1)
        return inside * (2 - inside.abs())

    @staticmethod
    def slope(z):
        return (2 - 2 * z.abs()).clamp(min=0)


@register
@dataclass(frozen=True)
class DSQ(Estimator):
    """Differentiable soft quantisation at one bit: f(z) = s tanh(k (z - c)) on [l, u], sign of z - c beyond, with
    c = (l + u)/2, s = 1/(1 - alpha), k = ln(2/alpha - 1)/(u - l); f'(z) = k s (1 - tanh^2(k (z - c))), 0 outside [l,
    u].

    Uncertain: no official code was found, and how the paper's authors set alpha, l and u is unknown. In DSQ itself
    alpha is learned (from 0.2) and l, u follow the data; here they are constants and there is no path.

    References: Gong et al., *Differentiable Soft Quantization*, ICCV 2019.

    >>> [round(x, 2) for x in DSQ().derivative(torch.tensor([0.0, 1.0, 1.1])).tolist()]
    [1.37, 0.49, 0.0]
    """

    alpha: float = 0.2
    l: float = -1.0  # noqa: E741 - the symbol of the DSQ paper
    u: float = 1.0

    name: ClassVar[str] = "dsq"
    label: ClassVar[str] = "DSQ"
    kind: ClassVar[str] = "tanh"

    def __post_init__(self) -> None:
        self._floats()
        self._require("alpha", 0 < self.alpha < 1, "0 < alpha < 1")
        self._require("l", -math.inf < self.l < self.u < math.inf, f"a finite l < u (u = {self.u})")

    def surrogate(self, z: Tensor) -> Tensor:
        _check_tensor(z)
        slope, gain, low, high = self.coefficients()
        inside = z.clamp(low, high)  # the ends of the curve are exactly +-1
        return gain * torch.tanh(slope * (inside - (low + high) / 2))

    def untruncated(self, z: Tensor) -> Tensor:
        _check_tensor(z)
        slope, gain, low, high = self.coefficients()
        return gain * torch.tanh(slope * (z - (low + high) / 2))

    def coefficients(self) -> tuple[float, ...]:
        return math.log(2 / self.alpha - 1) / (self.u - self.l), 1 / (1 - self.alpha), self.l, self.u

    @staticmethod
    def slope(z, k, s, low, high):
        inside = k * s * _sech2(k * (z - (low + high) / 2))
        return torch.where((z < low) | (z > high), 0.0, inside).to(z.dtype)


@register
@dataclass(frozen=True)
class EDE(Estimator):
    """Error decay estimator of IR-Net: f(z) = k tanh(t z), f'(z) = k t (1 - tanh^2(t z)), k = max(1/t, 1).

    t grows log-spaced from ``t_min`` to ``t``; 0.001 is IR-Net's start for ResNet-20 at 1/1 (0.1 for its other
    networks). IR-Net evaluates it on standardised weights and without the ReLU of these networks; here only the
    estimator is compared.

    References: Qin et al., *Forward and Backward Information Retention for Accurate Binary Neural Networks*, CVPR 2020.

    >>> [round(x, 3) for x in EDE().derivative(torch.tensor([0.0, 0.1])).tolist()]
    [10.0, 4.2]
    >>> EDE().at(0.0).t
    0.001
    """

    t: float = 10.0
    t_min: float = 1e-3

    name: ClassVar[str] = "ede"
    label: ClassVar[str] = "EDE (IR-Net)"
    kind: ClassVar[str] = "tanh"

    def __post_init__(self) -> None:
        self._floats()
        self._require("t", 0 < self.t < math.inf, "a finite t > 0")
        self._require("t_min", 0 < self.t_min < math.inf, "a finite t_min > 0")

    def surrogate(self, z: Tensor) -> Tensor:
        _check_tensor(z)
        gain, t = self.coefficients()
        return gain * torch.tanh(t * z)

    def coefficients(self) -> tuple[float, ...]:
        return max(1 / self.t, 1.0), self.t

    @staticmethod
    def slope(z, gain, t):
        return gain * t * _sech2(t * z)

    def _on_path(self, progress: float) -> EDE:
        return replace(self, t=_log_spaced(self.t_min, self.t, progress))


@register
@dataclass(frozen=True)
class FDA(Estimator):
    """Frequency-domain approximation: the Fourier series of a square wave, cut after n + 1 terms,
    f(z) = (4/pi) sum_{i=0..n} sin((2i+1) w z)/(2i+1), f'(z) = (4w/pi) sum_{i=0..n} cos((2i+1) w z), 0 for \\|z\\| > 1.

    n grows from ``n_min`` to ``n`` in steps. From n = 15 on, f' turns negative inside \\|z\\| <= 1. The surrogate is
    held constant beyond 1. Uncertain: w, n and the cut follow a third-party re-implementation (BiBench), since the
    official release is evaluation-only; its noise-adaptation module is an auxiliary module and is left out.

    References: Xu et al., *Learning Frequency Domain Approximation for Binary Neural Networks*, NeurIPS 2021.

    >>> [round(x, 2) for x in FDA().derivative(torch.tensor([0.0, 1.0, 1.1])).tolist()]
    [2.42, -0.39, 0.0]
    >>> FDA().at(0.0).n, FDA().at(0.5).n
    (9, 13)
    """

    n: int = 18
    n_min: int = 9
    w: float = 0.1

    name: ClassVar[str] = "fda"
    label: ClassVar[str] = "FDA"
    kind: ClassVar[str] = "Fourier"

    def __post_init__(self) -> None:
        self._floats()
        self._require("n", isinstance(self.n, int) and self.n >= 0, "an integer n >= 0")
        self._require("n_min", isinstance(self.n_min, int) and self.n_min >= 0, "an integer n_min >= 0")
        self._require("w", 0 < self.w < math.pi, "0 < w < pi")

    def surrogate(self, z: Tensor) -> Tensor:
        _check_tensor(z)
        return self.untruncated(z.clamp(-1, 1))

    def untruncated(self, z: Tensor) -> Tensor:
        _check_tensor(z)
        odd = range(1, 2 * self.n + 2, 2)
        return 4 / math.pi * sum(torch.sin(k * self.w * z) / k for k in odd)

    def coefficients(self) -> tuple[float, ...]:
        return float(self.n + 1), self.w

    @staticmethod
    def slope(z, terms, w):
        # sum of the cosines in closed form, sin(2 N x)/(2 sin x) with x = w z, written with sinc to be exact at 0
        x = z.clamp(-1, 1) * (w / math.pi)
        series = 4 / math.pi * w * terms * torch.sinc(2 * terms * x) / torch.sinc(x)
        return torch.where(z.abs() > 1, 0.0, series).to(z.dtype)

    def _on_path(self, progress: float) -> FDA:
        return replace(self, n=self.n_min + math.floor((self.n - self.n_min) * progress))


@register
@dataclass(frozen=True)
class RBNN(Estimator):
    """Training-aware approximation of RBNN: f(z) = k (sqrt(2) t z - sign(z) t^2 z^2/2) for \\|z\\| < sqrt(2)/t, k
    sign(z) beyond; f'(z) = k max(sqrt(2) t - t^2 \\|z\\|, 0), with t log-spaced from ``t_min`` to ``t`` and k =
    max(1/t, 1).

    RBNN's activations use another curve: k = 1 and t held at 1 until the path passes it, that is ``RBNN(floor=1.0)`` as
    ``input_estimator``. RBNN applies both to standardised, rotated values; here only the estimator is compared.

    References: Lin et al., *Rotated Binary Neural Network*, NeurIPS 2020.

    >>> [round(x, 2) for x in RBNN().derivative(torch.tensor([0.0, 0.1, 0.2])).tolist()]
    [14.14, 4.14, 0.0]
    >>> round(float(RBNN(floor=1.0).at(0.0).derivative(torch.tensor(0.0))), 3)
    1.414
    """

    t: float = 10.0
    t_min: float = 1e-2
    floor: float = 0.0

    name: ClassVar[str] = "rbnn"
    label: ClassVar[str] = "RBNN"
    kind: ClassVar[str] = "polynomial"

    def __post_init__(self) -> None:
        self._floats()
        self._require("t", 0 < self.t < math.inf, "a finite t > 0")
        self._require("t_min", 0 < self.t_min < math.inf, "a finite t_min > 0")
        self._require("floor", 0 <= self.floor < math.inf, "a finite floor >= 0")

    def surrogate(self, z: Tensor) -> Tensor:
        _check_tensor(z)
        gain, t = self.coefficients()
        inside = (t * z).clamp(-math.sqrt(2), math.sqrt(2))
        return gain * inside * (math.sqrt(2) - inside.abs() / 2)

    def coefficients(self) -> tuple[float, ...]:
        t = max(self.t, self.floor)
        return max(1 / t, 1.0), t

    @staticmethod
    def slope(z, gain, t):
        return gain * t * (math.sqrt(2) - t * z.abs()).clamp(min=0)

    def _on_path(self, progress: float) -> RBNN:
        return replace(self, t=_log_spaced(self.t_min, self.t, progress))


@register
@dataclass(frozen=True)
class SwishSign(Estimator):
    """SignSwish of BNN+: f(z) = 2 s(bz) (1 + bz (1 - s(bz))) - 1 with the logistic s;
    f'(z) = b (2 - bz tanh(bz/2))/(1 + cosh(bz)). f' is negative beyond \\|z\\| = 2.399/b, where f peaks at 1.2.

    Reported in the paper's list of related estimators, not in its Table 3. b = 5 is the usual default.

    References: Darabi et al., *BNN+: Improved Binary Network Training*, 2018.

    >>> [round(x, 3) for x in SwishSign().derivative(torch.tensor([0.0, 0.4798, 1.0])).tolist()]
    [5.0, 0.0, -0.195]
    """

    beta: float = 5.0

    name: ClassVar[str] = "swish_sign"
    label: ClassVar[str] = "SwishSign (BNN+)"
    kind: ClassVar[str] = "sigmoid"

    def __post_init__(self) -> None:
        self._floats()
        self._require("beta", 0 < self.beta < math.inf, "a finite beta > 0")

    def surrogate(self, z: Tensor) -> Tensor:
        _check_tensor(z)
        x = (self.beta * z).clamp(-60, 60)  # saturated long before; keeps infinity times zero out
        return 2 * torch.sigmoid(x) * (1 + x * torch.sigmoid(-x)) - 1

    def coefficients(self) -> tuple[float, ...]:
        return (self.beta,)

    @staticmethod
    def slope(z, beta):
        x = (beta * z).clamp(-60, 60)
        return beta * (2 - x * torch.tanh(x / 2)) * 2 * torch.sigmoid(x) * torch.sigmoid(-x)
