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

from resteutils.estimators.base import ESTIMATORS, Estimator, Unregistered, estimator, register
from resteutils.estimators.reste import STE, GainSTE, ReSTE
from resteutils.estimators.rivals import DSQ, EDE, FDA, RBNN, ApproxSign, SwishSign

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
    "Unregistered",
    "estimator",
    "register",
]
