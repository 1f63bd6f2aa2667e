"""Comparisons: failed trainings leave the pool, diverged seeds count, equal seeds and NaN decide nothing."""

from __future__ import annotations

import math

import pytest
from helpers.made_up import diverged, fake_run, fake_runs, record_only

from resteutils.evidence import stats
from resteutils.evidence.comparison import Rows, collapsed
from resteutils.evidence.verdict import judge, ordering
from resteutils.items import table3
from resteutils.recipes import recipe
from resteutils.runs.records import Runs

CALM = {"ste": 53.0, "reste": 60.0, "ste-gain": 57.0}


def runs_of(lost: dict[str, tuple[int, ...]], **levels: float) -> Runs:
    """Three seeds of each row around its level, without those that diverged."""
    levels = levels or CALM
    rows = ",".join(levels)
    every = fake_runs("table3", rows=rows, seeds="0,1,2", score=lambda row, seed: levels[row] + 0.5 * (seed - 1))
    ended = [run for run in every if run.recipe.seed not in lost.get(run.recipe.row, ())]
    return Runs(ended, [diverged(recipe(f"table3/{row}", "short", s), [2.3]) for row, of in lost.items() for s in of])


def check(runs: Runs, claim: str = "ReSTE above ste after 10 epochs"):
    return next(c for c in table3.judge(runs, "short").checks if c.claim == claim)


def test_a_winner_that_diverges_is_not_supported() -> None:
    assert check(runs_of({})).status == "supported"
    for seeds in ((1,), (1, 2)):
        found = check(runs_of({"reste": seeds}))
        assert found.status == "undecided", found
        assert all(f"reste diverged with seed {seed}" in found.shown for seed in seeds)


def test_a_loser_that_diverges_loses_also_with_the_accuracy_of_chance_in_its_place() -> None:
    found = check(runs_of({"ste": (2,)}))
    assert found.status == "supported" and "ste diverged with seed 2" in found.shown
    assert check(runs_of({"ste": (0, 1, 2)})).status == "undecided"


def test_chance_is_that_of_the_classes() -> None:
    assert Rows.of(runs_of({}), 10).worst == 10.0
    assert Rows.of([fake_run(recipe("table3/ste", "short"), 1.0, num_classes=200)], 10).worst == 0.5
    assert math.isnan(Rows.of(runs_of({}), 10, "train_loss").worst)


def test_losing_seeds_never_narrows_the_interval() -> None:
    def width(lost: dict) -> float:
        found = Rows.of(runs_of(lost), 10).difference("reste", "ste")
        return found.high - found.low

    assert width({"reste": (2,)}) > width({})
    assert math.isnan(width({"reste": (1, 2)}))


def test_a_result_that_is_no_number_counts_as_one_that_diverged() -> None:
    runs = runs_of({})
    next(r for r in runs if (r.recipe.row, r.recipe.seed) == ("reste", 1)).record["result"]["top1"] = math.nan
    found = check(runs)
    assert found.status == "undecided" and "reste its top1 is not a number with seed 1" in found.shown
    gain = Rows.of(runs, 10).difference("ste-gain", "ste")
    assert gain.low > 0  # the others keep their intervals


def test_equal_seeds_decide_nothing() -> None:
    runs = fake_runs("table3", rows="ste,reste", seeds="0,1,2", score=lambda row, seed: 60.0 + 5 * (row == "reste"))
    found = check(runs)
    assert found.status == "undecided" and "+5.00 points, no interval: no spread between seeds" in found.shown


def test_a_row_with_a_failed_training_is_outside_the_pool() -> None:
    calm = [record_only(recipe(f"table3/{row}", "short", s), v + 0.4 * s) for row, v in CALM.items() for s in range(3)]
    wild = [record_only(recipe("table3/ede", "short", s), 20.0 + 8 * s, error_definition=9000.0) for s in range(3)]
    alone, both = Rows.of(calm, 10), Rows.of([*calm, *wild], 10)
    assert both.failed == both.untrained == {"ede"} and both.pooled == alone.pooled
    found = both.difference("reste", "ede")
    assert (found.low, found.high) == found.alone and "trainings of ede failed" in found.by
    assert both.difference("reste", "ste").low == alone.difference("reste", "ste").low


def test_a_rival_leaves_the_claims_where_none_of_its_trainings_succeeded() -> None:
    """As many seeds as failed or succeeded: one that trained keeps the claim."""
    calm = [record_only(recipe("table3/reste", "short", s), 60.0 + 0.4 * s) for s in range(3)]
    for good in (0, 1):
        wild = [
            record_only(recipe("table3/ede", "short", s), 20.0 + 8 * s, error_definition=9000.0 if s >= good else 400.0)
            for s in range(3)
        ]
        found = table3.judge([*calm, *wild], "short")
        asked = next(c for c in found.checks if c.claim.startswith("ReSTE above ede"))
        assert asked.kind == ("ordering" if good else "control")
        assert ("To be above ede is no claim" in found.text) is not good


def test_a_loss_that_ends_a_tenth_above_its_lowest_is_a_collapse() -> None:
    run = record_only(recipe("table3/rbnn", "short"), 27.0)
    assert not collapsed(run)
    for last, expected in ((1.09, False), (1.11, True)):
        run.record["history"]["train_loss"] = [2.0, 1.5, 1.2, 1.1, 1.05, *4 * [1.0], last]
        assert collapsed(run) is expected


def test_many_comparisons_need_a_smaller_p() -> None:
    """A p of 0.03 is below 5 % alone, and not as one of three."""
    near = stats.Difference(2.0, 0.2, 3.8, 3, 8, p=0.03, se=0.8)
    clear = stats.Difference(9.0, 8.0, 10.0, 3, 8, p=1e-6, se=0.4)
    alone = judge("short", [ordering("near", near)])
    assert alone.checks[0].status == "supported" and "Holm" not in alone.checks[0].shown
    far = [ordering(name, near) for name in ("one", "other")]
    several = judge("short", [*far, ordering("clear", clear)])
    assert [c.status for c in several.checks] == ["undecided", "undecided", "supported"]
    assert "Holm p = 0.06" in several.checks[0].shown


def test_main_effects_are_means_of_two_differences() -> None:
    levels = {"ste": 50.0, "reste-o1": 53.0, "ste-gain": 54.0, "ste-gain-clip": 59.0}
    from resteutils.items import design

    runs = runs_of({}, **levels)
    rows = Rows.of(runs, 10)
    found = {name: round(d.estimate, 6) for name, d in design.effects(rows).items()}
    assert found == {"clip": 4.0, "gain": 5.0, "interaction": 2.0}
    s = rows.pooled.std
    assert design.effects(rows)["clip"].se == pytest.approx(s / math.sqrt(3))
    assert design.effects(rows)["interaction"].se == pytest.approx(2 * s / math.sqrt(3))
    assert table3.table(runs, "short").notes[0].startswith("The 2x2 design")
    assert "clip +4.00" in table3.judge(runs, "short").text
    assert not design.effects(Rows.of(runs_of({}), 10))
