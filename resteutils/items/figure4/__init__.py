"""Figure 4: error, instability and accuracy against the power at the end of training.

``numbers`` holds the trained points, the table and the verdict, ``frozen`` both indicators of weights that do not
change, ``plane`` the plane of every estimator, ``picture`` the drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resteutils.evidence.verdict import Verdict
from resteutils.items.figure4 import frozen, numbers, picture, plane
from resteutils.system.settings import Places

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Equilibrium", "figure", "judge", "measure", "table"]


@dataclass(frozen=True)
class Equilibrium:
    """The figure's numbers: a line per trained run, both indicators of frozen weights, and one point per estimator."""

    points: pd.DataFrame
    still: pd.DataFrame
    plane: pd.DataFrame

    @property
    def beside(self) -> pd.Series:
        """The ids of the runs that the plane shows."""
        return self.plane["runs"].explode()


def measure(runs: Sequence[Any], places: Places) -> Equilibrium:
    """Read the indicators of the runs, and measure those of frozen weights."""
    return Equilibrium(numbers.points(runs), frozen.measure(runs, places), plane.points(runs, places))


def table(found: Equilibrium) -> pd.DataFrame:
    """List error, instability and accuracy of every power, and what frozen weights say of it."""
    return numbers.table(found.points, found.still)


def figure(found: Equilibrium) -> Figure:
    """Draw the three quantities against the power, and the plane of estimators."""
    return picture.figure(found.points, found.still, found.plane)


def judge(runs: Sequence[Any], found: Equilibrium, profile: str) -> Verdict:
    """Judge the claims of the figure: the error falls, the instability rises, the best power lies between."""
    return numbers.judge(runs, found.points, found.still, profile)
