"""Rational and flexible: the paper's words for what an estimator's error does, checked on a grid.

"Rational" is an estimator whose error is never above STE's, the identity's: (1 - f(z))^2 <= (1 - z)^2 for z > 0. (Above
the error of the STE that is clipped at 1, ReSTE's is, between 1 and its own clip.) It is checked through the estimator
object and along its whole path over training, with the truncations that are trained with. "Flexible" means that the
error can be moved between STE's and none: the error at both ends of the path is shown.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from resteutils.estimators import Estimator

__all__ = ["Rationality", "rationality"]


@dataclass(frozen=True)
class Rationality:
    """What the grid says: ``excess`` is the largest squared error above STE's, found at ``z`` and ``progress``."""

    rational: bool
    excess: float
    z: float
    progress: float
    first: float  # smallest and largest |z| where the error is above STE's, at that progress
    last: float
    error_start: float  # mean squared error against sign on the grid, at both ends of the path
    error_end: float

    def __str__(self) -> str:
        if self.rational:
            return "yes"
        where = f"for |z| in {self.first:.3g} to {self.last:.3g}, at {self.progress:.0%} of training"
        return f"no: above the identity's {where}"


@functools.cache
def rationality(estimator: Estimator, limit: float = 2.0, points: int = 2000, stages: int = 41) -> Rationality:
    """Compare the estimator's squared error with STE's on ``points`` values in (0, limit], at ``stages`` of its path.

    Differences below 1e-9 count as equal: they are rounding.

    >>> from resteutils.estimators import ReSTE
    >>> str(rationality(ReSTE(o=3)))
    'yes'
    """
    z = torch.linspace(limit / points, limit, points, dtype=torch.float64)
    progress = torch.linspace(0, 1, stages, dtype=torch.float64).tolist()
    errors = torch.stack([(1 - estimator.at(p).surrogate(z)) ** 2 for p in progress])  # (stages, points)
    excess = errors - (1 - z) ** 2
    stage, point = divmod(int(excess.argmax()), points)
    above = z[excess[stage] > 1e-9]
    rational = above.numel() == 0
    return Rationality(
        rational,
        float(excess[stage, point]),
        float(z[point]),
        progress[stage],
        float("nan") if rational else float(above.min()),
        float("nan") if rational else float(above.max()),
        float(errors[0].mean()),
        float(errors[-1].mean()),
    )
