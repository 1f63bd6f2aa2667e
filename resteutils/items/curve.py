"""What Figures 1 and 3 share: the curve without its chord, its error, and how curves are drawn.

Everything here is computed with the estimator objects that training uses. The curve without the chord near zero is the
same object with the chord's end moved to ``NEARLY_ZERO``.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from resteutils.estimators import Estimator, ReSTE
from resteutils.items.style import OKABE_ITO

__all__ = ["SIGN_STYLE", "STE_STYLE", "analytic", "grid", "rms_error", "slope"]

NEARLY_ZERO = 1e-9
STE_STYLE = {"color": OKABE_ITO["vermillion"], "ls": (0, (5, 1.5)), "lw": 2}
SIGN_STYLE = {"color": OKABE_ITO["black"], "lw": 1.2, "ls": ":"}


def analytic(e: ReSTE) -> ReSTE:
    """The same curve without the chord near zero (its end is at 1e-9); the saturation at t stays."""
    return replace(e, m=NEARLY_ZERO)


def rms_error(e: Estimator, limit: float = 1.5, points: int = 3000) -> float:
    """Root mean square of sign(z) - f(z) over 0 < z <= limit, as trained."""
    z = torch.linspace(limit / points, limit, points, dtype=torch.float64)
    return float((1 - e.surrogate(z)).square().mean().sqrt())


def slope(e: Estimator, z: float) -> float:
    """f'(z) of one number, in float64."""
    return float(e.derivative(torch.tensor(z, dtype=torch.float64)))


def grid(limit: float, points: int = 4001, edges: tuple[float, ...] = ()) -> Tensor:
    """A symmetric grid with both sides of every edge, so that jumps are drawn upright."""
    ends = [s * e * (1 + shift) for e in edges for s in (-1, 1) for shift in (-1e-9, 1e-9)]
    z = torch.linspace(-limit, limit, points, dtype=torch.float64)
    return torch.cat([z, torch.tensor(ends, dtype=torch.float64)]).sort().values
