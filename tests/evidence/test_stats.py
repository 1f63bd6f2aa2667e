"""Small-sample statistics against scipy and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from resteutils.evidence import stats


def groups(rng: np.random.Generator, means: list[float], n: int) -> dict[str, dict[int, float]]:
    return {f"g{i}": dict(enumerate(rng.normal(mean, 1.0, n))) for i, mean in enumerate(means)}


def test_two_groups_are_students_t_test() -> None:
    data = groups(np.random.default_rng(0), [70.0, 70.5], 4)
    found = stats.difference(data["g1"], data["g0"], stats.pool(data))
    expected = scipy_stats.ttest_ind(list(data["g1"].values()), list(data["g0"].values()))
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.n == 4


def test_pooling_goes_around_each_groups_own_mean() -> None:
    data = groups(np.random.default_rng(1), [10.0, 50.0, 90.0], 3)
    expected = math.sqrt(np.mean([np.var(list(v.values()), ddof=1) for v in data.values()]))
    assert stats.pool(data) == stats.Pooled(pytest.approx(expected), 6)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng, hits = np.random.default_rng(2), 0
    for _ in range(2000):
        data = groups(rng, [0.0] * 5, 3)
        found = stats.difference(data["g0"], data["g1"], stats.pool(data))
        hits += found.low <= 0 <= found.high
    assert 0.93 < hits / 2000 < 0.97


def test_intervals_of_sums_of_four_rows_cover_the_truth_as_often_as_they_say() -> None:
    rng, hits, alone = np.random.default_rng(6), 0, 0
    weights = {"g0": 1, "g1": 1, "g2": -1, "g3": -1}
    for _ in range(2000):
        data = groups(rng, [1.0, 2.0, 0.0, 0.0, 9.0], 3)
        found = stats.contrast(weights, data, stats.pool(data))
        hits += found.low <= 3 <= found.high
        alone += found.alone[0] <= 3 <= found.alone[1]
    assert 0.93 < hits / 2000 < 0.97
    assert 0.93 < alone / 2000 < 0.99  # Welch's degrees of freedom err on the safe side


def test_the_smallest_detectable_difference_is_detected_as_often_as_it_says() -> None:
    rng, hits, known = np.random.default_rng(3), 0, stats.Pooled(1.0, 10)
    shift = stats.smallest_detectable(known, 3)
    for _ in range(2000):
        data = groups(rng, [shift] + [0.0] * 4, 3)
        hits += stats.difference(data["g0"], data["g1"], stats.pool(data)).low > 0
    assert 0.75 < hits / 2000 < 0.85


@pytest.mark.parametrize("dof", [1, 2, 6, 28])
def test_the_smallest_detectable_difference_is_exact_for_few_degrees_of_freedom(dof: int) -> None:
    shift = stats.smallest_detectable(stats.Pooled(1.0, dof), 2)  # sqrt(2 / n) is 1
    bound = scipy_stats.t.ppf(0.975, dof)
    assert scipy_stats.nct.sf(bound, dof, shift) == pytest.approx(stats.POWER, abs=1e-6)


@pytest.mark.parametrize("sizes", [(3, 3, 1), (2, 2, 1), (1, 2)])
def test_intervals_hold_what_they_say_where_rows_have_unequal_seeds(sizes: tuple[int, ...]) -> None:
    rng, hits = np.random.default_rng(4), 0
    for _ in range(1500):
        data = {f"g{i}": dict(enumerate(rng.normal(0.0, 1.0, n))) for i, n in enumerate(sizes)}
        found = stats.difference(data["g0"], data[f"g{len(sizes) - 1}"], stats.pool(data))
        hits += found.low <= 0 <= found.high
    assert 0.93 < hits / 1500 < 0.985


def test_two_groups_alone_are_welchs_t_test() -> None:
    rng = np.random.default_rng(5)
    data = {"calm": dict(enumerate(rng.normal(60, 0.5, 4))), "wild": dict(enumerate(rng.normal(35, 10, 4)))}
    found = stats.difference(data["calm"], data["wild"], stats.Pooled(1.0, 10))
    expected = scipy_stats.ttest_ind(list(data["calm"].values()), list(data["wild"].values()), equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found.alone == pytest.approx((interval.low, interval.high))
    assert found.high - found.low < interval.high - interval.low  # the pool said little of the wild one
    still = stats.difference({0: 1.0, 1: 1.0}, {0: 2.0, 1: 2.0}, stats.Pooled(1.0, 2))
    assert math.isnan(still.alone[0])


def test_all_seeds_of_both_rows_are_compared() -> None:
    """DSQ (seed 0 alone) against STE (seeds 0, 1, 2): the difference of the means, not +1.22."""
    pooled = stats.Pooled(1.0, 14)
    found = stats.difference({0: 53.88}, {0: 52.66, 1: 54.40, 2: 54.27}, pooled)
    assert found.estimate == pytest.approx(53.88 - (52.66 + 54.40 + 54.27) / 3)
    assert (found.n, found.counts) == (1, (1, 3))
    half = scipy_stats.t.ppf(0.975, 14) * math.sqrt(1 + 1 / 3)
    assert (found.low, found.high) == pytest.approx((found.estimate - half, found.estimate + half))
    assert stats.difference({0: 1.0}, {1: 0.5}, pooled).estimate == 0.5
    assert stats.difference({0: 1.0}, {}, pooled).n == 0


def test_one_value_that_is_no_number_takes_no_interval_away() -> None:
    data = {"a": {0: 1.0, 1: 2.0, 2: math.nan}, "b": {0: 5.0, 1: 6.0, 2: 7.0}, "c": {0: math.nan}}
    assert stats.pool(data).dof == 3
    found = stats.difference(data["b"], data["a"], stats.pool(data))
    assert (found.estimate, found.counts) == (4.5, (3, 2)) and found.low > 0
    assert math.isnan(stats.difference(data["b"], data["c"], stats.pool(data)).estimate)


def test_equal_seeds_give_no_interval() -> None:
    data = {"a": dict.fromkeys(range(3), 70.1), "b": dict.fromkeys(range(3), 60.1)}
    found = stats.difference(data["a"], data["b"], stats.pool(data))
    assert found.estimate == pytest.approx(10.0) and math.isnan(found.low) and math.isnan(found.p)


def test_holm_against_its_definition() -> None:
    assert stats.holm([0.01, 0.04, 0.03, math.nan, 0.5]) == pytest.approx(
        [0.04, 0.09, 0.09, math.nan, 0.5], nan_ok=True
    )
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0] and stats.holm([]) == []


def test_the_seed_effect_is_the_f_test_of_a_two_way_table() -> None:
    rng = np.random.default_rng(8)
    data = {f"g{i}": {s: 10.0 * i + rng.normal() for s in range(3)} for i in range(4)}
    table = np.array([list(values.values()) for values in data.values()])
    centred = table - table.mean(1, keepdims=True)
    seeds = 4 * (centred.mean(0) ** 2).sum() / 2
    rest = ((centred - centred.mean(0)) ** 2).sum() / 6
    assert stats.seed_effect(data) == pytest.approx(scipy_stats.f.sf(seeds / rest, 2, 6))
    shifted = {row: {s: v + 100 * s for s, v in values.items()} for row, values in data.items()}
    assert stats.seed_effect(shifted) < 1e-6
    assert math.isnan(stats.seed_effect({"a": {0: 1.0}}))


def test_equivalence_is_two_one_sided_tests() -> None:
    rng = np.random.default_rng(9)
    a, b = rng.normal(60, 0.5, 7), rng.normal(60.2, 0.5, 7)
    data = {"a": dict(enumerate(a)), "b": dict(enumerate(b))}
    found = stats.difference(data["a"], data["b"], stats.pool(data))
    for margin in (0.3, 1.0, 2.0):
        low = scipy_stats.ttest_ind(a + margin, b, alternative="greater").pvalue
        high = scipy_stats.ttest_ind(a - margin, b, alternative="less").pvalue
        assert stats.equivalent(found, margin) is bool(max(low, high) < 0.05)
    assert stats.equivalent(stats.difference({0: 1.0}, {0: 1.0}, stats.Pooled(math.nan, 0)), 1.0) is None


def test_one_seed_gives_a_difference_and_no_interval() -> None:
    data = {"a": {0: 3.0}, "b": {0: 1.0}}
    found = stats.difference(data["a"], data["b"], stats.pool(data))
    assert found.estimate == 2.0
    assert math.isnan(found.low)
    assert math.isnan(stats.smallest_detectable(stats.pool(data), 1))
    assert math.isnan(stats.std(data["a"]))
    assert math.isnan(stats.mean({}))
