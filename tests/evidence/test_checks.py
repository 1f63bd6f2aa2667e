"""The checks that several items share."""

from __future__ import annotations

import math

from helpers.made_up import fake_runs

from resteutils.evidence import checks


def test_a_run_without_a_finite_loss_shows() -> None:
    runs = fake_runs("table1", rows="resnet20-1w1a", seeds="0,1")
    runs[1].record["result"]["train_loss"] = math.nan
    check = checks.pipeline_check(runs)
    assert check.status == "contradicted"
    assert runs[1].recipe.run_id in check.shown
    assert checks.pipeline_check([]).status == "contradicted"


def test_a_changed_recipe_says_nothing_of_a_published_number() -> None:
    usual, changed = (
        fake_runs("table1", "paper", rows="resnet20-1w1a", score=lambda row, seed: 86.75, overrides=text)
        for text in ("", "lr=0.05")
    )
    ((found,), (other,)) = (checks.number_checks("table1", runs) for runs in (usual, changed))
    assert (found.status, other.status) == ("supported", "undecided")
    assert "with lr = 0.05" in other.shown
