"""The paper's rivals: estimators of other binary networks, without their auxiliary modules."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from resteutils.estimators.base import Estimator, check_tensor, log_spaced, register, sech2


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
        check_tensor(z)
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
        self._plain_numbers()
        self._require("alpha", 0 < self.alpha < 1, "0 < alpha < 1")
        self._require("l", -math.inf < self.l < self.u < math.inf, f"a finite l < u (u = {self.u})")

    def surrogate(self, z: Tensor) -> Tensor:
        check_tensor(z)
        slope, gain, low, high = self.coefficients()
        inside = z.clamp(low, high)  # the ends of the curve are exactly +-1
        return gain * torch.tanh(slope * (inside - (low + high) / 2))

    def untruncated(self, z: Tensor) -> Tensor:
        check_tensor(z)
        slope, gain, low, high = self.coefficients()
        return gain * torch.tanh(slope * (z - (low + high) / 2))

    def coefficients(self) -> tuple[float, ...]:
        return math.log(2 / self.alpha - 1) / (self.u - self.l), 1 / (1 - self.alpha), self.l, self.u

    @staticmethod
    def slope(z, k, s, low, high):
        inside = k * s * sech2(k * (z - (low + high) / 2))
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
        self._plain_numbers()
        self._require("t", 0 < self.t < math.inf, "a finite t > 0")
        self._require("t_min", 0 < self.t_min < math.inf, "a finite t_min > 0")

    def surrogate(self, z: Tensor) -> Tensor:
        check_tensor(z)
        gain, t = self.coefficients()
        return gain * torch.tanh(t * z)

    def coefficients(self) -> tuple[float, ...]:
        return max(1 / self.t, 1.0), self.t

    @staticmethod
    def slope(z, gain, t):
        return gain * t * sech2(t * z)

    def _on_path(self, progress: float) -> EDE:
        return replace(self, t=log_spaced(self.t_min, self.t, progress))


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
        self._plain_numbers()
        self._require("n", self.n >= 0, "a whole number n >= 0")
        self._require("n_min", self.n_min >= 0, "a whole number n_min >= 0")
        self._require("w", 0 < self.w < math.pi, "0 < w < pi")

    def surrogate(self, z: Tensor) -> Tensor:
        check_tensor(z)
        return self.untruncated(z.clamp(-1, 1))

    def untruncated(self, z: Tensor) -> Tensor:
        check_tensor(z)
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
        self._plain_numbers()
        self._require("t", 0 < self.t < math.inf, "a finite t > 0")
        self._require("t_min", 0 < self.t_min < math.inf, "a finite t_min > 0")
        self._require("floor", 0 <= self.floor < math.inf, "a finite floor >= 0")

    def surrogate(self, z: Tensor) -> Tensor:
        check_tensor(z)
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
        return replace(self, t=log_spaced(self.t_min, self.t, progress))


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
        self._plain_numbers()
        self._require("beta", 0 < self.beta < math.inf, "a finite beta > 0")

    def surrogate(self, z: Tensor) -> Tensor:
        check_tensor(z)
        x = (self.beta * z).clamp(-60, 60)  # saturated long before; keeps infinity times zero out
        return 2 * torch.sigmoid(x) * (1 + x * torch.sigmoid(-x)) - 1

    def coefficients(self) -> tuple[float, ...]:
        return (self.beta,)

    @staticmethod
    def slope(z, beta):
        x = (beta * z).clamp(-60, 60)
        return beta * (2 - x * torch.tanh(x / 2)) * 2 * torch.sigmoid(x) * torch.sigmoid(-x)
