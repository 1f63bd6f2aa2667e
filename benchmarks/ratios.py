"""The rows of every benchmark: what a variant costs, as a ratio to another one that took turns with it."""

from __future__ import annotations

from dataclasses import dataclass

from resteutils.onebit.timing import Samples

__all__ = ["Row", "row", "steady"]


@dataclass(frozen=True)
class Row:
    """One ratio: how many times longer ``variant`` takes than ``against``, or needs more of ``unit``.

    ``ratio`` is the median of the ratios turn by turn, ``low`` and ``high`` their quartiles.
    ``target`` is what the ratio should be at most; None where there is none.
    """

    group: str
    case: str
    variant: str
    against: str
    ratio: float
    low: float
    high: float
    value: float  # median of the variant, in `unit`
    reference: float
    unit: str
    repeats: int
    target: float | None = None
    note: str = ""
    axis: str = ""  # what is varied, in rows that are points of a curve,
    at: float | None = None  # and its value

    @property
    def reached(self) -> bool | None:
        return None if self.target is None else self.ratio <= self.target

    def __str__(self) -> str:
        verdict = (
            "" if self.target is None else f", target {self.target:.3g}: {'reached' if self.reached else 'MISSED'}"
        )
        return (
            f"{self.case}: {self.variant} {self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.against} "
            f"({self.value:.4g} against {self.reference:.4g} {self.unit}, n = {self.repeats}{verdict})"
        )


def row(
    group: str,
    case: str,
    samples: dict[str, Samples],
    variant: str,
    against: str,
    target: float | None = None,
    note: str = "",
    unit: str = "ms",
    scale: float = 1e3,
) -> Row:
    """The ratio of two variants that took turns."""
    ours, theirs = samples[variant], samples[against]
    low, middle, high = ours.over(theirs)
    return Row(
        group, case, variant, against, middle, low, high,
        scale * ours.median, scale * theirs.median, unit, len(ours.seconds), target, note,
    )  # fmt: skip


def steady(group: str, case: str, variant: str, against: str, values: tuple[float, float], unit: str, **rest) -> Row:
    """A ratio of two numbers that do not vary, such as bytes."""
    ratio = values[0] / values[1]
    return Row(group, case, variant, against, ratio, ratio, ratio, *values, unit, 1, **rest)
