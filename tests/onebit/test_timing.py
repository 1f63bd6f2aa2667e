"""Variants take turns, and ratios are formed turn by turn. Only calls that take no time are timed."""

from __future__ import annotations

import gc
import time

import pytest
import torch

from resteutils.onebit.timing import Samples, interleaved, quartiles, race


def test_variants_take_turns_and_nobody_is_always_first() -> None:
    calls = []
    samples = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warmup=1)
    assert "".join(calls) == "ab" + "abbaab"
    assert all(len(found.seconds) == 3 for found in samples.values())


def test_a_budget_ends_early_but_not_before_three_turns() -> None:
    samples = interleaved({"a": lambda: time.sleep(0.001)}, repeats=50, budget=1e-9)
    assert len(samples["a"].seconds) == 3


def test_garbage_is_not_collected_meanwhile() -> None:
    states = []
    interleaved({"a": lambda: states.append(gc.isenabled())}, repeats=2, warmup=1)
    assert states == [True, False, False]
    assert gc.isenabled()


def test_quartiles_lie_within_the_values() -> None:
    assert quartiles([3.0, 1.0, 2.0, 5.0, 4.0]) == (2.0, 3.0, 4.0)
    assert quartiles([1.0, 2.0]) == (1.25, 1.5, 1.75)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)


def test_ratios_need_turns_in_common() -> None:
    assert Samples((1.0, 10.0)).over(Samples((2.0, 20.0))) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="zip"):
        Samples((1.0, 2.0)).over(Samples((1.0,)))


def test_a_race_counts_the_better_float_and_differentiates_nothing() -> None:
    modes = []

    def slow() -> None:
        modes.append(torch.is_inference_mode_enabled())
        time.sleep(0.02)

    found = race(lambda: None, (slow, lambda: time.sleep(0.001)), repeats=3)
    assert 1 <= found["float_ms"] < 20
    assert found["turns"] == 3
    assert 1 < found["low"] <= found["times_faster"] <= found["high"]
    assert all(modes)
