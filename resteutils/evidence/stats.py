"""Small-sample statistics: a variance pooled within groups, differences of means with intervals, what n could show.

With one to five seeds a group, the spread of a single group says little; the spread pooled over groups (each around its
own mean) is the best estimate of the noise that a change of seed makes. Groups that scatter many times as far as the
others do not belong into that pool: :mod:`resteutils.evidence.comparison` says which, and compares those by their own
spread (Welch). Intervals are two-sided, 95 %, and not adjusted for the number of comparisons; :func:`holm` adjusts p.
Values that are not finite are no measurements and enter nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "LEVEL",
    "POWER",
    "Difference",
    "Pooled",
    "contrast",
    "difference",
    "equivalent",
    "finite",
    "geometric",
    "groups",
    "holm",
    "mean",
    "pool",
    "seed_effect",
    "smallest_detectable",
    "std",
]

LEVEL = 0.95  # of the intervals
POWER = 0.80  # of the smallest detectable difference

Values = Mapping[int, float]  # seed -> value


def finite(values: Values) -> dict[int, float]:
    """The values that are numbers: a NaN of one seed must not take the others' measurements away."""
    return {seed: float(value) for seed, value in values.items() if math.isfinite(value)}


def mean(values: Values) -> float:
    """Mean over seeds; NaN for none."""
    values = finite(values)
    return sum(values.values()) / len(values) if values else math.nan


def std(values: Values) -> float:
    """Standard deviation over seeds with n - 1 in the denominator; NaN below two seeds."""
    values = finite(values)
    if len(values) < 2:
        return math.nan
    return math.sqrt(_squares(values) / (len(values) - 1))


def _squares(values: Values) -> float:
    """Sum of squares around the mean; exactly 0 for equal values, whose mean may be rounded."""
    centre = mean(values)
    return sum((v - centre) ** 2 for v in values.values()) if len({*values.values()}) > 1 else 0.0


def geometric(values: Iterable[float]) -> tuple[float, float]:
    """Geometric mean of the positive values, and the factor that one standard deviation of their logarithms is: what
    belongs on a logarithmic axis. NaN for none, a factor of NaN below two.

    >>> round(geometric([1.0, 100.0])[0], 6)
    10.0
    """
    logs = {number: math.log(value) for number, value in enumerate(values) if value > 0}
    return math.exp(mean(logs)), math.exp(std(logs))


def groups(keys: Iterable[Any], seeds: Iterable[int], values: Iterable[float]) -> dict[Any, dict[int, float]]:
    """{key: {seed: value}}, keys in ascending order, from three columns of a table with one line per run.

    >>> groups(["b", "a", "b"], [0, 0, 1], [1.0, 2.0, 3.0])
    {'a': {0: 2.0}, 'b': {0: 1.0, 1: 3.0}}
    """
    found: dict[Any, dict[int, float]] = {}
    for key, seed, value in zip(keys, seeds, values, strict=True):
        found.setdefault(key, {})[seed] = float(value)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Pooled:
    """The standard deviation within groups and its degrees of freedom (0 and NaN where no group has two seeds)."""

    std: float
    dof: int


def pool(groups: Mapping[Any, Values]) -> Pooled:
    """Pool the variance within groups: sum of squares around each group's own mean over sum of (n - 1).

    >>> pool({"a": {0: 1.0, 1: 3.0}, "b": {0: 10.0, 1: 10.0}, "c": {0: 5.0}})
    Pooled(std=1.0, dof=2)
    """
    known = [values for values in map(finite, groups.values()) if values]
    dof = sum(len(values) - 1 for values in known)
    squares = sum(map(_squares, known))
    return Pooled(math.sqrt(squares / dof) if dof else math.nan, dof)


def seed_effect(groups: Mapping[Any, Values]) -> float:
    """p of no effect that a seed has on all groups alike: F of seeds over residuals in a two-way table without
    interaction, over the seeds that all groups have. NaN below two groups or two common seeds, or without residuals.
    """
    known = [values for values in map(finite, groups.values()) if len(values) > 1]
    seeds = sorted(set.intersection(*map(set, known))) if len(known) > 1 else []
    if len(seeds) < 2:
        return math.nan
    rows = [{seed: values[seed] for seed in seeds} for values in known]
    apart = [{seed: row[seed] - mean(row) for seed in seeds} for row in rows]
    common = {seed: sum(row[seed] for row in apart) / len(rows) for seed in seeds}
    between = len(rows) * sum(value**2 for value in common.values()) / (len(seeds) - 1)
    dof = (len(rows) - 1) * (len(seeds) - 1)
    within = sum((row[seed] - common[seed]) ** 2 for row in apart for seed in seeds) / dof
    if not within > 0:
        return math.nan
    from scipy.stats import f

    return float(f.sf(between / within, len(seeds) - 1, dof))


@dataclass(frozen=True)
class Difference:
    """``estimate`` with its interval; NaN bounds where no variance is known, or where it is zero.

    ``n``: the seeds of each group, the fewest where they differ; ``counts``: of each. ``alone``: Welch's interval, by
    the spread of the compared groups only; NaN where one of them has a single seed. ``p``: two-sided, of no difference;
    ``se``: the standard error, which together with ``dof`` made the interval. ``moderated``: the interval by each
    group's variance shrunk towards the common one. ``lost`` names seeds whose training did not end with a value, and
    ``worst`` is the interval with the worst value in their place. ``by``: whose variance made the interval where it is
    not the pool's.
    """

    estimate: float
    low: float
    high: float
    n: int
    dof: float
    alone: tuple[float, float] = (math.nan, math.nan)
    p: float = math.nan
    se: float = math.nan
    counts: tuple[int, ...] = ()
    moderated: tuple[float, float] = (math.nan, math.nan)
    lost: str = ""
    worst: tuple[float, float] = (math.nan, math.nan)
    by: str = ""


def difference(a: Values, b: Values, pooled: Pooled) -> Difference:
    """Difference of the two means, a - b, over all seeds of both, with the interval that the pooled variance gives.

    >>> difference({0: 53.88}, {0: 52.66, 1: 54.40, 2: 54.27}, Pooled(1.0, 14)).estimate.__round__(2)
    0.1
    """
    return contrast({"a": 1, "b": -1}, {"a": a, "b": b}, pooled)


def contrast(weights: Mapping[Any, float], groups: Mapping[Any, Values], pooled: Pooled) -> Difference:
    """The sum of the groups' means, each times its weight, over all seeds of each.

    The standard error is s * sqrt(sum of weight squared / n): runs that share a seed are not paired.

    >>> contrast({"a": 1, "b": -0.5, "c": -0.5}, {"a": {0: 4.0}, "b": {0: 2.0}, "c": {0: 1.0}}, Pooled(1.0, 9)).estimate
    2.5
    """
    own = {key: finite(groups.get(key, {})) for key in weights}
    counts = tuple(len(values) for values in own.values())
    if not all(counts):
        return Difference(math.nan, math.nan, math.nan, 0, pooled.dof, counts=counts)
    estimate = sum(weight * mean(own[key]) for key, weight in weights.items())
    se = pooled.std * math.sqrt(sum(weight**2 / len(own[key]) for key, weight in weights.items()))
    low, high, p = interval(estimate, se, pooled.dof)
    welch = _welch([weight * std(own[key]) for key, weight in weights.items()], counts)
    alone = interval(estimate, *welch)[:2]
    return Difference(estimate, low, high, min(counts), pooled.dof, alone, p, se, counts)


def interval(estimate: float, se: float, dof: float, level: float = LEVEL) -> tuple[float, float, float]:
    """Bounds of the interval and the two-sided p of zero, from t; NaN where the error is zero or not known."""
    if not se > 0 or not dof > 0:
        return math.nan, math.nan, math.nan
    from scipy.stats import t

    half = float(t.ppf(0.5 + level / 2, dof)) * se
    return estimate - half, estimate + half, 2 * float(t.sf(abs(estimate) / se, dof))


def _welch(weighted: Sequence[float], counts: Sequence[int]) -> tuple[float, float]:
    """Standard error and degrees of freedom (Welch, Satterthwaite) of a sum of means whose groups have the standard
    deviations ``weighted``; NaN where one is not known or all are 0."""
    variances = [std**2 / n for std, n in zip(weighted, counts, strict=True)]
    total = sum(variances)
    if not total > 0:
        return math.nan, math.nan
    dof = total**2 / sum(v**2 / (n - 1) for v, n in zip(variances, counts, strict=True))
    return math.sqrt(total), dof


def by_own_variance(weights: Mapping[Any, float], groups: Mapping[Any, Values]) -> tuple[float, float]:
    """Welch's standard error and degrees of freedom for a contrast."""
    own = {key: finite(groups[key]) for key in weights}
    return _welch([weight * std(own[key]) for key, weight in weights.items()], [len(own[key]) for key in weights])


def equivalent(found: Difference, margin: float) -> bool | None:
    """Whether the difference lies within ``margin`` of zero: two one-sided tests at 5 %, so the 90 % interval decides.

    None where no variance is known.
    """
    low, high, _ = interval(found.estimate, found.se, found.dof, 2 * LEVEL - 1)
    return None if math.isnan(low) else -margin < low and high < margin


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given; NaN stays NaN and is not counted.

    >>> [round(p, 3) for p in holm([0.04, 0.01, 0.03])]
    [0.06, 0.03, 0.06]
    """
    order = sorted((p, place) for place, p in enumerate(ps) if not math.isnan(p))
    adjusted, largest = [math.nan] * len(ps), 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[place] = largest
    return adjusted


def smallest_detectable(pooled: Pooled, n: float, other: float = 0) -> float:
    """The true difference between two groups of n seeds (of ``n`` and ``other`` where they differ) that would be found
    with probability ``POWER`` at ``LEVEL``.

    From the noncentral t distribution; the usual sum of two t quantiles is up to a seventh too small for one degree of
    freedom. NaN where no variance is known.
    """
    if n < 1 or pooled.dof < 1 or not pooled.std > 0:
        return math.nan
    from scipy.special import nctdtrinc
    from scipy.stats import t

    shift = nctdtrinc(pooled.dof, 1 - POWER, float(t.ppf(0.5 + LEVEL / 2, pooled.dof)))
    return float(shift) * pooled.std * math.sqrt(1 / n + 1 / (other or n))
