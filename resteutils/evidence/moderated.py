"""Moderated variances: each group's own variance, shrunk towards the groups' common one by empirical Bayes.

The model is that of limma (Smyth, *Linear models and empirical Bayes methods*, Stat. Appl. Genet. Mol. Biol. 3(1),
2004, sections 3 and 6.2): a group's variance s^2 with d degrees of freedom is sigma^2 chi^2_d / d, and 1 / sigma^2
varies between groups as chi^2_d0 / (d0 s0^2). The moments of log s^2 give d0 and s0^2; the moderated variance is

    (d0 s0^2 + d s^2) / (d0 + d),    with d0 + d degrees of freedom.

A contrast of groups adds their moderated variances; its degrees of freedom are Satterthwaite's, at most the sum of
all d.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from resteutils.evidence import stats

__all__ = ["Prior", "contrast_interval", "moderated", "prior"]

Prior = tuple[float, float]  # d0 (may be infinite) and s0 squared


def prior(groups: Mapping[Any, stats.Values]) -> Prior:
    """d0 and s0^2 from the groups with two seeds or more; NaN where fewer than two of them have a spread."""
    import numpy as np
    from scipy.special import digamma, polygamma

    own = [(stats.std(values) ** 2, len(stats.finite(values)) - 1) for values in groups.values()]
    known = [(variance, dof) for variance, dof in own if dof > 0]
    positive = [variance for variance, _ in known if variance > 0]
    if len(positive) < 2:
        return math.nan, math.nan
    dof = np.array([d for _, d in known], dtype=float)
    variance = np.maximum([v for v, _ in known], 1e-5 * float(np.median(positive)))  # limma's guard against log 0
    logs = np.log(variance) - digamma(dof / 2) + np.log(dof / 2)
    excess = float(np.var(logs, ddof=1) - np.mean(polygamma(1, dof / 2)))
    if excess <= 0:  # no more spread between the variances than chance makes
        return math.inf, float(np.exp(logs.mean()))
    d0 = 2 * _trigamma_inverse(excess)
    return d0, float(np.exp(logs.mean() + digamma(d0 / 2) - np.log(d0 / 2)))


def moderated(values: stats.Values, common: Prior) -> tuple[float, float]:
    """A group's moderated variance and its degrees of freedom; a single seed has the common one."""
    d0, common_variance = common
    dof = max(len(stats.finite(values)) - 1, 0)
    if math.isinf(d0):
        return common_variance, d0
    own = stats.std(values) ** 2 if dof else 0.0
    return (d0 * common_variance + dof * own) / (d0 + dof), d0 + dof


def contrast_interval(
    weights: Mapping[Any, float], groups: Mapping[Any, stats.Values], common: Prior
) -> tuple[float, float]:
    """The 95 % interval of a sum of means by moderated variances; NaN where the prior is not known."""
    if math.isnan(common[0]) or not all(stats.finite(groups.get(key, {})) for key in weights):
        return math.nan, math.nan
    parts = []
    for key, weight in weights.items():
        variance, dof = moderated(groups[key], common)
        parts.append((weight**2 * variance / len(stats.finite(groups[key])), dof))
    total = sum(variance for variance, _ in parts)
    spread = sum(variance**2 / dof for variance, dof in parts)
    most = sum(max(len(stats.finite(values)) - 1, 0) for values in groups.values())
    dof = min(total**2 / spread, most) if spread > 0 else most
    estimate = sum(weight * stats.mean(groups[key]) for key, weight in weights.items())
    return stats.interval(estimate, math.sqrt(total), dof)[:2]


def _trigamma_inverse(value: float) -> float:
    """x with trigamma(x) = value, by Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x
