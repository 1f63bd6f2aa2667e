"""Verdicts: the figures decide, the profile limits what they may decide."""

from __future__ import annotations

import math

import pytest

from resteutils.evidence import verdict
from resteutils.evidence.stats import Difference
from resteutils.evidence.verdict import fact, judge, number, ordering

UP = ordering("up", Difference(1, 0.5, 1.5, 3, 4))
DOWN = ordering("down", Difference(-1, -1.5, -0.5, 3, 4))
OPEN = ordering("open", Difference(0.1, -1, 1.2, 3, 4))


def test_the_interval_decides_an_ordering() -> None:
    assert (UP.status, DOWN.status, OPEN.status) == ("supported", "contradicted", "undecided")
    assert UP.shown == "+1.00 points, 95 % interval +0.50 to +1.50; n = 3, 4 degrees of freedom"
    wide = ordering("beside", Difference(1, 0.5, 1.5, 3, 4, (-0.25, 2.25)))
    assert wide.status == "supported"  # the pooled interval decides
    assert "+0.50 to +1.50 (by these rows alone -0.25 to +2.25); n = 3" in wide.shown
    single = ordering("one seed", Difference(3.0, math.nan, math.nan, 1, 0), "decades", "a note")
    assert (single.status, single.shown) == ("undecided", "+3.00 decades, no interval: one seed each; n = 1; a note")
    apart = ordering("seeds 0 and seed 1", Difference(math.nan, math.nan, math.nan, 0, 4))
    assert (apart.status, apart.shown) == ("undecided", "not measured: a row has no value")


def test_the_tolerance_decides_a_number_and_is_printed() -> None:
    assert number("n", 86.5, 86.9, 0.5).status == "supported"
    assert number("n", 86.5, 87.1, 0.5).status == "contradicted"
    assert number("n", 86.5, 87.1, 0.5).tolerance == "within 0.5 points"
    assert number("n", math.nan, 87.1, 0.5).status == number("n", 1.0, None, 0.5).status == "undecided"


@pytest.mark.parametrize("profile", ["smoke", "demo"])
def test_small_profiles_claim_nothing_about_the_paper(profile: str) -> None:
    ran = fact("ran", True, "3 of 3", "pipeline")
    for check in (UP, DOWN, number("n", 1, 90, 0.5)):
        found = judge(profile, [ran, check])
        assert found.status == "not claimed"
        assert found.checks[1].status == "not claimed"
        assert found.checks[1].shown == check.shown  # the figures stay visible
    assert "nothing about accuracy" in judge(profile, [ran, UP]).text


def test_short_claims_orderings_and_no_numbers() -> None:
    found = judge("short", [UP, number("n", 1, 90, 0.5)])
    assert found.status == "supported"
    assert found.checks[1].status == "not claimed"
    assert judge("paper", [UP, number("n", 1, 90, 0.5)]).status == "contradicted"


def test_the_worst_of_the_papers_claims_decides() -> None:
    assert judge("short", [UP, OPEN]).status == "undecided"
    assert judge("short", [UP, OPEN, DOWN]).status == "contradicted"
    assert judge("short", []).status == "not claimed"


def test_controls_explain_and_decide_nothing() -> None:
    control = ordering("control", Difference(-1, -2, -0.5, 3, 4), kind="control")
    found = judge("short", [UP, control])
    assert (found.status, found.checks[1].status) == ("supported", "contradicted")
    assert "The paper's claims: 1 supported. Controls, which decide nothing: 1 contradicted." in found.text
    assert "contradicted (control): control:" in str(found)
    assert "control:</span> control" in found._repr_html_()


def test_a_claim_of_which_rows_were_not_run_stays_open() -> None:
    found = judge("short", [UP], not_run=["dsq", "fda"])
    assert found.status == "undecided"
    assert "Not run, and so the claim as a whole is open: dsq, fda." in found.text
    assert judge("short", [DOWN], not_run=["dsq"]).status == "contradicted"  # one counterexample is enough
    assert judge("demo", [UP], not_run=["dsq"]).status == "not claimed"
    assert "r7 and 12 more." in judge("short", [UP], not_run=[f"r{i}" for i in range(20)]).text


def test_a_formula_holds_in_every_profile_but_does_not_carry_an_experiment() -> None:
    true, false = fact("f", True, "on a grid"), fact("f", False, "on a grid")
    assert judge("smoke", [true]).status == "supported"
    assert judge("demo", [true, UP]).status == "not claimed"
    assert judge("demo", [false, UP]).status == "contradicted"
    assert judge("demo", [fact("ran", False, "2 of 3", "pipeline")]).status == "contradicted"


def test_a_verdict_can_be_read_and_stored() -> None:
    found = judge("short", [UP, OPEN], "A note.")
    assert str(found).startswith("UNDECIDED (profile short). The paper's claims: 1 supported, 1 undecided. A note.")
    assert found.to_dict()["checks"][0]["claim"] == "up"
    assert "badge undecided" in found._repr_html_()


def test_wrong_words_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown profile 'full': use smoke, demo"):
        judge("full", [])
    with pytest.raises(ValueError, match="unknown kind of check 'guess'"):
        fact("x", True, "", "guess")
    assert set(verdict.CLAIMS["smoke"]) < set(verdict.CLAIMS["demo"]) < set(verdict.CLAIMS["short"])
