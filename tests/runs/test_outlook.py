"""What a cell will cost is said before it trains, and how far it is after each run."""

from __future__ import annotations

import pytest

from resteutils.recipes import item_recipes
from resteutils.runs import outlook
from resteutils.runs.outlook import Outlook, seconds
from resteutils.system.durations import about


@pytest.mark.parametrize("item", ["table1", "table3", "figure4", "figure6", "why", "deploy"])
def test_every_demo_has_a_measured_pace(item: str) -> None:
    assert all(seconds(r, cores=2) for r in item_recipes(item, "demo"))


def test_seconds_grow_with_images_and_epochs_and_fall_with_cores(monkeypatch) -> None:
    monkeypatch.setitem(outlook.MILLISECONDS, ("resnet20", "digits"), (10.0, 2.0))
    (r,) = item_recipes("table3", "demo", "ste", "0")
    whole = seconds(r, 1)
    assert whole == pytest.approx(0.010 * outlook.IMAGES["digits"] * r.epochs)
    assert seconds(r, 2) == whole / 2
    (third,) = item_recipes("table3", "demo", "ste", "0", overrides="train_size=479")
    assert seconds(third, 1) == pytest.approx(whole / 3)


def test_the_bar_counts_work_not_runs_and_says_what_is_left(monkeypatch) -> None:
    monkeypatch.setitem(outlook.MILLISECONDS, ("resnet20", "digits"), (10.0, 2.0))
    first, second, read = item_recipes("table3", "demo", "ste,dsq,reste", "0")
    found = Outlook([first, second, read], [read.run_id], cores=2)
    assert found.before().startswith("2 runs to train, 1 to read: about 2 minutes on 2 cores. To stop: ")
    assert found.after(first, 300.0) == f"[{'#' * 10}{'.' * 10}] 50 %, about 5 minutes left"
    assert found.after(read, 0.1) == f"[{'#' * 10}{'.' * 10}] 50 %, about 5 minutes left"
    assert found.after(second, 290.0) == f"[{'#' * 20}] 100 %"


def test_the_first_tenth_says_no_pace_and_the_end_says_no_rest() -> None:
    """Whatever the order, in which the weights' sum may differ in the last bit."""
    found = Outlook(item_recipes("table1", "demo"), cores=2)
    said = [found.after(recipe, 10.0) for recipe in found.shortest_first()]
    assert said[0] == f"[{'.' * 20}] 1 %"
    assert said[len(said) // 2].endswith(" left")
    assert said[-1] == f"[{'#' * 20}] 100 %"


def test_what_is_not_known_is_not_said() -> None:
    recipes = item_recipes("table3", "demo", "ste,dsq", "0")
    assert "about" not in Outlook(recipes, cores=0).before()
    assert "about" not in Outlook(item_recipes("table2", "demo"), cores=2).before()
    assert Outlook(recipes, [r.run_id for r in recipes], 2).after(recipes[0], 1.0) == ""
    assert about(5400) == "about 1.5 hours"


def test_rows_that_overrides_make_alike_are_one_run() -> None:
    recipes = item_recipes("table3", "demo", "ste,ede,reste", "0", overrides="estimator=ste")
    found = Outlook(recipes, cores=2)
    assert found.before().startswith("1 run to train: ")
    assert [found.after(recipe, 10.0) for recipe in recipes] == [f"[{'#' * 20}] 100 %"] * 3
