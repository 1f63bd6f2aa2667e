"""What all estimators share: registration by name, checked parameters, and paths over training."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

ESTIMATORS: dict[str, type[Estimator]] = {}
Kind = TypeVar("Kind", bound="Estimator")
NEEDED = {  # what a class must say itself, as the clipped identity would
    "name": "name: ClassVar[str] = 'mine'",
    "surrogate": "def surrogate(self, z): return z.clamp(-1, 1)",
    "slope": "@staticmethod def slope(z): return (z.abs() <= 1).to(z.dtype)",
}


def register(cls: type[Kind]) -> type[Kind]:
    """Class decorator: make an estimator known by its ``name`` to :func:`estimator`, recipes, notebooks and sliders.

    Raises ``TypeError`` for a class that lacks what an estimator needs, ``ValueError`` for a name that is taken or odd.
    """
    if not (isinstance(cls, type) and issubclass(cls, Estimator)):
        raise TypeError(f"{cls!r}, expected a class derived from Estimator")
    if cls.name in ESTIMATORS and ESTIMATORS[cls.name].__qualname__ != cls.__qualname__:
        raise ValueError(f"an estimator named {cls.name!r} is registered already: {ESTIMATORS[cls.name]}")
    lacking = [example for part, example in NEEDED.items() if getattr(cls, part) is getattr(Estimator, part)]
    if lacking:
        raise TypeError(f"{cls.__name__} is no estimator yet, it lacks, for instance: {'; '.join(lacking)}")
    check_name("estimator", cls.name)
    ESTIMATORS[cls.name] = cls
    return cls


def check_name(what: str, name: object) -> None:
    """Raise ``ValueError`` where a ``name`` to register cannot be part of a run's folder and of NAME=VALUE."""
    if not (isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name)):
        raise ValueError(f"{what} name {name!r}, expected letters, digits, _ . and -: runs' folders are called by it")


class Unregistered(ValueError):
    """No estimator, model or dataset (``what``) of that ``name`` is registered here; ``said`` begins the message."""

    def __init__(self, what: str, name: str, said: str) -> None:
        super().__init__(f"{said} (RESTEUTILS_IMPORT names the module that registers one of your own)")
        self.what, self.name = what, name


def estimator(name: str, **parameters: float | str) -> Estimator:
    """Build an estimator by name.

    >>> estimator("reste", o=2)
    ReSTE(o=2.0, t=1.5, m=0.1, path='cosine')

    Raises ``ValueError`` for an unknown name, an unknown parameter or a value out of range.
    """
    if name not in list(ESTIMATORS):  # a list: a name that has no hash is none of them either
        said = f"unknown estimator {str(name)!r}; known: {', '.join(ESTIMATORS)}"
        raise Unregistered("estimator", str(name), said)
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
        check_tensor(z)
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

    def _plain_numbers(self) -> None:
        """Store parameters as Python's own numbers, so that ``ReSTE(o=3)`` and ``ReSTE(o=3.0)`` print and hash alike
        and become JSON."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type in ("float", float):
                value = math.inf if value == "inf" else value
                number = isinstance(value, numbers.Real) and not isinstance(value, bool)
                self._require(field.name, number and not math.isnan(value), "a number")
                object.__setattr__(self, field.name, float(value))
            elif field.type in ("int", int):
                whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
                self._require(field.name, whole, "a whole number")
                object.__setattr__(self, field.name, int(value))


def check_tensor(z: Tensor) -> None:
    if not isinstance(z, Tensor) or not z.is_floating_point():
        what = f"a {z.dtype} tensor" if isinstance(z, Tensor) else f"a {type(z).__name__}"
        raise TypeError(f"estimators take floating-point tensors, not {what}; convert with z.float()")


def check_estimator(parameter: str, value: object) -> None:
    if not isinstance(value, Estimator):
        raise TypeError(f"{parameter} = {value!r}, expected an estimator such as ru.ReSTE(o=3) or ru.estimator('ste')")


def _check_progress(progress: float) -> float:
    if not 0.0 <= progress <= 1.0:  # also catches NaN
        raise ValueError(f"progress = {progress!r}, expected a share of training in [0, 1]")
    return progress


def log_spaced(first: float, last: float, progress: float) -> float:
    return first * (last / first) ** progress


def sech2(x: Tensor) -> Tensor:
    """1 - tanh(x)^2 without its cancellation, and 0 rather than NaN at infinity."""
    return 4 * torch.sigmoid(2 * x) * torch.sigmoid(-2 * x)


PATHS: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 1 - math.cos(math.pi / 2 * progress),
    "linear": lambda progress: progress,
}


def power_on_path(o_end: float, path: str, progress: float) -> float:
    """The power o on its way from 1 to ``o_end``: cosine in the authors' code, linear as their text is reported to
    say."""
    return 1 + PATHS[path](progress) * (o_end - 1)
