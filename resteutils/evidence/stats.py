"""Small-sample statistics: a variance pooled within groups, paired differences with intervals, what n could have shown.

With one to five seeds a group, the spread of a single group says little; the spread pooled over all groups (each around
its own mean) is the best estimate of the noise that a change of seed makes, and it is what every interval here uses.
Where one group scatters many times as far as the others that is not so: a second interval, from the two groups alone
(Welch), stands beside the first. Intervals are two-sided, 95 %, and not adjusted for the number of comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "LEVEL",
    "POWER",
    "Difference",
    "Pooled",
    "contrast",
    "difference",
    "geometric",
    "groups",
    "mean",
    "pool",
    "smallest_detectable",
    "std",
]

LEVEL = 0.95  # of the intervals
POWER = 0.80  # of the smallest detectable difference

Values = Mapping[int, float]  # seed -> value


def mean(values: Values) -> float:
    """Mean over seeds; NaN for none."""
    return sum(values.values()) / len(values) if values else math.nan


def std(values: Values) -> float:
    """Standard deviation over seeds with n - 1 in the denominator; NaN below two seeds."""
    if len(values) < 2:
        return math.nan
    centre = mean(values)
    return math.sqrt(sum((v - centre) ** 2 for v in values.values()) / (len(values) - 1))


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


def pool(groups: Mapping[str, Values]) -> Pooled:
    """Pool the variance within groups: sum of squares around each group's own mean over sum of (n - 1).

    >>> pool({"a": {0: 1.0, 1: 3.0}, "b": {0: 10.0, 1: 10.0}, "c": {0: 5.0}})
    Pooled(std=1.0, dof=2)
    """
    dof = sum(len(values) - 1 for values in groups.values() if values)
    squares = sum((v - mean(values)) ** 2 for values in groups.values() for v in values.values())
    return Pooled(math.sqrt(squares / dof) if dof else math.nan, dof)


@dataclass(frozen=True)
class Difference:
    """``estimate`` over the ``n`` common seeds, with its interval; NaN bounds where no variance is known, where ``dof``
    is 0. ``alone``: the interval by the spread of the rows compared only, NaN below two seeds."""

    estimate: float
    low: float
    high: float
    n: int
    dof: int
    alone: tuple[float, float] = (math.nan, math.nan)


def difference(a: Values, b: Values, pooled: Pooled) -> Difference:
    """Mean difference a - b over the seeds that both have, with the interval that the pooled variance gives."""
    return contrast({"a": 1, "b": -1}, {"a": a, "b": b}, pooled)


def contrast(weights: Mapping[Any, float], groups: Mapping[Any, Values], pooled: Pooled) -> Difference:
    """The sum of the groups' means, each times its weight, over the seeds that all of them have.

    The half width is t * s * sqrt(sum of squared weights / n): the seeds choose which values are compared, and no
    correlation between runs of one seed is assumed (a positive one makes the interval wider than need be).

    >>> contrast({"a": 1, "b": -0.5, "c": -0.5}, {"a": {0: 4.0}, "b": {0: 2.0}, "c": {0: 1.0}}, Pooled(1.0, 9)).estimate
    2.5
    """
    common = sorted(set.intersection(*(set(groups[key]) for key in weights)))
    if not common:
        return Difference(math.nan, math.nan, math.nan, 0, pooled.dof)
    n, squares = len(common), sum(weight**2 for weight in weights.values())
    estimate = sum(weight * groups[key][seed] for key, weight in weights.items() for seed in common) / n
    half = _t(0.5 + LEVEL / 2, pooled.dof) * pooled.std * math.sqrt(squares / n)
    own = _welch([(weight * std({s: groups[key][s] for s in common})) ** 2 / n for key, weight in weights.items()], n)
    return Difference(estimate, estimate - half, estimate + half, n, pooled.dof, (estimate - own, estimate + own))


def _welch(variances: list[float], n: int) -> float:
    """Half of Welch's interval for a sum of means of n values; ``variances`` are the means'. NaN where all are 0."""
    if not sum(variances) > 0:
        return math.nan
    dof = (n - 1) * sum(variances) ** 2 / sum(v**2 for v in variances)
    return _t(0.5 + LEVEL / 2, dof) * math.sqrt(sum(variances))


def smallest_detectable(pooled: Pooled, n: int) -> float:
    """The true difference between two groups of n seeds that would be found with probability ``POWER`` at ``LEVEL``.

    From the noncentral t distribution; the usual sum of two t quantiles is up to a seventh too small for one degree of
    freedom. NaN where no variance is known.
    """
    if n < 1 or pooled.dof < 1:
        return math.nan
    from scipy.special import nctdtrinc

    shift = nctdtrinc(pooled.dof, 1 - POWER, _t(0.5 + LEVEL / 2, pooled.dof))
    return float(shift) * pooled.std * math.sqrt(2 / n)


def _t(quantile: float, dof: float) -> float:
    if dof < 1:
        return math.nan
    from scipy.stats import t  # scikit-learn brings it

    return float(t.ppf(quantile, dof))
