"""Figure 6: the spike detector, and what it says of runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.made_up import diverged, records

from resteutils.items import figure6
from resteutils.items.figure6 import spikes
from resteutils.recipes import item_recipes
from resteutils.runs.records import Runs

FALLING = [2.3 * 0.97**i for i in range(100)]


@pytest.mark.parametrize("places", [(), (40,), (20, 60), (10, 35, 70, 95)])
def test_it_counts_the_spikes_that_were_put_in(places: tuple[int, ...]) -> None:
    losses = [x * (1.6 if i in places else 1.0) for i, x in enumerate(FALLING)]
    found = spikes(losses)
    assert [s.peak for s in found] == [i + 1 for i in places]
    assert all(0.4 < s.height <= 0.6 and not s.lasting for s in found)


def test_noise_is_no_spike() -> None:
    rng = np.random.default_rng(0)
    for level in (0.001, 0.01, 0.03):
        for _ in range(20):
            losses = np.array(FALLING) * (1 + level * rng.standard_normal(100))
            assert spikes(losses) == []


def test_flat_noisy_curves_are_rarely_mistaken() -> None:
    """2 % of noise and no trend for 60 epochs, which no real run has: at most one curve in eight gets a spike."""
    rng = np.random.default_rng(1)
    assert sum(len(spikes(1 + 0.02 * rng.standard_normal(60))) for _ in range(50)) <= 6


def test_one_long_rise_is_one_spike_and_one_that_stays_is_lasting() -> None:
    back = [2.0, 1.5, 1.2, 1.0, 1.4, 1.9, 1.5, 0.99, 0.95]
    (found,) = spikes(back)
    assert (found.first, found.peak, found.last, found.lasting) == (5, 6, 7, False)
    assert found.height == pytest.approx(0.9)
    (found,) = spikes([*back[:6], 1.9, 1.9])
    assert found.lasting
    assert found.last == 8


def test_a_loss_that_is_not_a_number_is_a_spike() -> None:
    (found,) = spikes([2.0, 1.5, 1.2, math.nan])
    assert found.height == math.inf
    assert found.lasting


def test_a_loss_that_is_not_finite_in_its_first_epoch_is_a_spike() -> None:
    (found,) = spikes([math.inf])
    assert (found.first, found.last, found.lasting) == (1, 1, True)
    recipe = item_recipes("figure6", "short", rows="o50", seeds="0")[0]
    line = figure6.table(Runs([], [diverged(recipe, train_loss=[])])).iloc[0]
    assert (line["Spikes"], line["Lasting"]) == (1, 1)


def test_losing_seeds_makes_no_verdict_of_figure_6_surer() -> None:
    whole = records("figure6", rows="o3,o10", seeds="0,1,2")
    for run in whole:
        run.record["result"]["top1"] = (70.0 if run.recipe.row == "o3" else 60.0) + 0.5 * run.recipe.seed

    def check(runs):
        return next(c for c in figure6.judge(runs, "short").checks if c.claim == "o10 scores below o3")

    assert check(whole).status == "supported"
    lost = [diverged(run.recipe, [2.3]) for run in whole if run.recipe.row == "o10" and run.recipe.seed]
    found = check(Runs([run for run in whole if run.recipe.run_id not in {r.recipe.run_id for r in lost}], lost))
    assert found.status == "undecided" and "o10 diverged with seed 1; o10 diverged with seed 2" in found.shown


def test_short_and_empty_curves_have_no_spikes() -> None:
    assert spikes([]) == spikes([1.0]) == spikes([2.0, 1.0]) == []


def test_thresholds_are_checked() -> None:
    with pytest.raises(ValueError, match="rise = -1"):
        spikes([1.0], rise=-1)


def test_a_diverged_run_is_counted() -> None:
    whole = records("figure6", rows="o3,o10", seeds="0,1")
    recipe = item_recipes("figure6", "short", rows="o50", seeds="0")[0]
    frame = figure6.table(Runs(whole, [diverged(recipe, train_loss=[2.3, 2.2])]))
    line = frame[frame["Row"] == "o50"].iloc[0]
    assert (line["Spikes"], line["Lasting"], line["Ended"]) == (1, 1, "the loss is not finite")


def test_what_diverged_takes_no_verdict_from_the_others() -> None:
    whole = records("figure6", rows="o3,o10,o20", seeds="0,1,2")
    for run in whole:
        run.record["result"]["top1"] = 60.0 - 0.1 * run.recipe.seed if run.recipe.row != "o3" else 70.0
    lost = [diverged(r, [2.3, 2.2]) for r in item_recipes("figure6", "short", rows="o50", seeds="0,1,2")]
    without = {check.claim: check for check in figure6.judge(whole, "short").checks}
    found = {check.claim: check for check in figure6.judge(Runs(whole, lost), "short").checks}
    for claim in ("o10 scores below o3", "o20 scores below o3"):
        assert found[claim] == without[claim] and found[claim].status == "supported"
    assert found["o50 scores below o3"].status == "undecided" and "diverged" in found["o50 scores below o3"].shown


def test_oscillation_at_a_large_power_supports_the_claim() -> None:
    runs = records("figure6", rows="o3,o10", seeds="0,1,2")
    for run in runs:
        if run.recipe.row == "o10":
            run.record["history"]["train_loss"][5:8] = [2.4, 0.7, 2.4]
        run.record["result"]["top1"] = 60.0 if run.recipe.row == "o10" else 70.0 + 0.1 * run.recipe.seed
    status = {check.claim: check.status for check in figure6.judge(runs, "short").checks}
    assert status["o10 has more spikes than o3"] == "supported"
    assert status["o10 scores below o3"] == "supported"
    assert figure6.judge(runs, "demo").status == "not claimed"


def test_spikes_of_a_row_with_failed_trainings_are_compared_by_its_own_spread() -> None:
    runs = records("figure6", rows="o3,o10,o20", seeds="0,1,2")
    for run in runs:
        if run.recipe.row == "o10":
            run.record["history"]["train_loss"][-1] = 2.3  # it collapses, in every seed
    shown = {check.claim: check.shown for check in figure6.judge(runs, "short").checks}
    assert "since trainings of o10 failed" in shown["o10 has more spikes than o3"]
    assert "4 degrees of freedom" in shown["o20 has more spikes than o3"]
