"""Moderated variances: the prior is found again in simulated groups, and the shrinkage is the formula's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from resteutils.evidence import moderated, stats


def simulated(rng: np.random.Generator, d0: float, s0: float, count: int, n: int) -> dict[int, dict[int, float]]:
    sigma = s0 * np.sqrt(d0 / rng.chisquare(d0, count)) if math.isfinite(d0) else np.full(count, s0)
    return {g: dict(enumerate(rng.normal(0.0, sigma[g], n).tolist())) for g in range(count)}


def test_the_prior_is_found_again() -> None:
    d0, variance = moderated.prior(simulated(np.random.default_rng(0), 6.0, 2.0, 4000, 4))
    assert d0 == pytest.approx(6.0, rel=0.2) and variance == pytest.approx(4.0, rel=0.1)
    d0, variance = moderated.prior(simulated(np.random.default_rng(1), math.inf, 2.0, 4000, 4))
    assert d0 > 100 and variance == pytest.approx(4.0, rel=0.1)


def test_a_variance_is_shrunk_towards_the_common_one_by_the_degrees_of_freedom() -> None:
    values = {0: 1.0, 1: 3.0, 2: 5.0}  # variance 4 with 2 degrees of freedom
    assert moderated.moderated(values, (2.0, 1.0)) == (pytest.approx((2 * 1 + 2 * 4) / 4), 4.0)
    assert moderated.moderated({0: 1.0}, (2.0, 1.0)) == (1.0, 2.0)
    assert moderated.moderated(values, (math.inf, 1.0))[0] == 1.0


def test_intervals_by_moderated_variances_cover_the_truth() -> None:
    rng, hits = np.random.default_rng(2), 0
    for _ in range(1000):
        data = simulated(rng, 4.0, 1.0, 8, 3)
        low, high = moderated.contrast_interval({0: 1, 1: -1}, data, moderated.prior(data))
        hits += low <= 0 <= high
    assert 0.93 < hits / 1000 < 0.985


def test_without_two_spreads_there_is_no_prior() -> None:
    flat = {"a": {0: 1.0, 1: 1.0}, "b": {0: 1.0, 1: 2.0}, "c": {0: 5.0}}
    assert math.isnan(moderated.prior(flat)[0])
    assert math.isnan(moderated.contrast_interval({"a": 1, "b": -1}, flat, moderated.prior(flat))[0])
    assert stats.std(flat["b"]) > 0
