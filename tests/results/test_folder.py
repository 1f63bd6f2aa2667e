"""The results folder: complete or untouched, and never poorer than before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from helpers.made_up import diverged, fake_runs

from resteutils.items import table1, table3
from resteutils.recipes import recipe
from resteutils.results.folder import Item, parameters, stamp
from resteutils.runs.records import Runs

FILES = ["picture.png", "provenance.json", "table.csv", "table.html", "table.md", "verdict.json"]


def save(runs: list, results_dir: Path, **kwargs) -> Path:
    table, verdict = table1.table(runs, "short"), table1.judge(runs, "short")
    return Item("table1", "short", results_dir=results_dir).save(table=table, verdict=verdict, runs=runs, **kwargs)


def test_a_folder_holds_table_picture_verdict_and_provenance(results_dir: Path) -> None:
    runs = fake_runs("table1", rows="resnet20-1w1a,resnet20-1w1a-ste")
    folder = save(runs, results_dir, figure=table1.figure(runs))
    assert folder == results_dir / "short" / "table1"
    assert sorted(os.listdir(folder)) == FILES
    assert os.listdir(folder.parent) == ["table1"]
    assert list(pd.read_csv(folder / "table.csv").columns) == table1.COLUMNS
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "verdict.json").read_text())["item"] == "table1"


def test_provenance_names_recipe_commit_versions_machine_and_time(results_dir: Path) -> None:
    runs = fake_runs("table1", rows="resnet20-1w1a", seeds="0,1,2")
    made = json.loads((save(runs, results_dir) / "provenance.json").read_text())
    assert made["wall_time_seconds"] == 60.0
    assert {"commit", "versions", "machine", "created", "caption"} <= set(made)
    assert [run["seed"] for run in made["runs"]] == [0, 1, 2]
    assert {run["recipe"] for run in made["runs"]} == {runs[0].recipe.identity}
    assert made["runs"][0]["machine"]["threads"] == 1


def test_a_plain_frame_and_no_runs_will_do(results_dir: Path) -> None:
    folder = Item("lemma", "demo", results_dir=results_dir).save(table=pd.DataFrame({"o": [1, 2]}))
    assert (folder / "table.csv").read_text() == "o\n1\n2\n"
    assert "Profile demo. No training run." in (folder / "table.md").read_text()


def test_the_picture_carries_its_caption_once(results_dir: Path) -> None:
    runs = fake_runs("table3")
    figure = table3.figure(runs)
    stamp(stamp(figure, runs, "short"), runs, "short")
    captions = [text.get_text() for text in figure.texts if text.get_gid() == "caption"]
    assert len(captions) == 1
    assert captions[0].startswith("Profile short. CIFAR-10")
    figure.draw_without_rendering()
    boxes = [legend.get_window_extent() for legend in figure.legends] + [axes.get_tightbbox() for axes in figure.axes]
    caption = figure.texts[-1].get_window_extent()
    assert not any(caption.overlaps(box) for box in boxes)


def test_drawing_leaves_matplotlibs_settings_alone() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    table1.figure(fake_runs("table1", rows="resnet20-1w1a"))
    assert dict(mpl.rcParams) == before


# --- never poorer ----------------------------------------------------------------------------------------------------


def test_a_table_of_some_rows_does_not_replace_a_fuller_one(results_dir: Path) -> None:
    folder = save(fake_runs("table1"), results_dir)
    before = (folder / "table.csv").read_bytes()
    with pytest.raises(ValueError, match=r"lines that the new table would lose: resnet18-1w1a \(10 epochs, seed 0\)"):
        save(fake_runs("table1", rows="resnet20-1w1a"), results_dir)
    assert (folder / "table.csv").read_bytes() == before


def test_what_would_be_lost_is_said_before_anything_is_trained(results_dir: Path, monkeypatch) -> None:
    from resteutils.runs import store as runs

    save(fake_runs("table1", rows="vgg-small-fp"), results_dir)  # made-up runs: no record of them is on the disk
    monkeypatch.setattr(runs, "run_item", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match="would lose: vgg-small-fp .* Their runs have no readable record here"):
        Item("table1", "short", "resnet20-1w1a", results_dir=results_dir).runs()


def test_a_damaged_table_names_its_file(results_dir: Path) -> None:
    folder = save(fake_runs("table1"), results_dir)
    (folder / "provenance.json").write_text("[")
    with pytest.raises(ValueError, match="provenance.json is damaged .*; take it from the repository again"):
        Item("table1", "short", "resnet20-1w1a", results_dir=results_dir).runs()


@pytest.mark.parametrize("asked", [("table1", "quick"), ("tableX", "demo")])
def test_a_mistyped_item_or_profile_is_named(asked: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"unknown (profile 'quick'|item 'tableX'); known: (smoke, demo|table1)"):
        Item(*asked)


def test_parameters_are_what_a_notebook_gave_plain_values_to() -> None:
    """``-p profil smoke`` would else run as demo; numbers and lists are what papermill makes of ``-p`` and ``-y``."""
    namespace = {"__name__": "__main__", "In": [""], "ru": object(), "profile": "smoke", "seeds": 0, "rows": ["ste"]}
    item = Item("table3", **parameters(namespace))
    assert (item.profile, item.seeds, item.rows) == ("smoke", (0,), ("ste",))
    assert Item("table3", seeds=[0, 1], epochs="3").epochs == 3
    with pytest.raises(ValueError, match=r"unknown parameter 'profil': did you mean profile\?; known: profile, rows"):
        Item("table3", **parameters(namespace | {"profil": "smoke"}))
    with pytest.raises(ValueError, match="epochs = 'two', expected a whole number"):
        Item("table3", epochs="two")
    for epochs in (2.5, True, [1]):  # not 2, 1 and an error of int()
        with pytest.raises(ValueError, match="epochs = .*, expected a whole number"):
            Item("table3", epochs=epochs)


def test_the_first_cell_can_be_run_again_after_the_others() -> None:
    """``runs`` is a list, ``speeds`` a dictionary: not parameters that nobody knows."""
    left = {"item": Item("deploy"), "runs": Runs(), "speeds": {"ms": 1.0}, "profile": "smoke", "seeds": 0}
    assert parameters(left) == {"profile": "smoke", "seeds": 0}


@pytest.mark.parametrize("given", [{"overrides": {"lr": 0.05}}, {"device": 0}, {"data_dir": None}, {"out_dir": 7}])
def test_a_parameter_of_another_kind_is_refused_and_not_left_out(given: dict) -> None:
    """``-y 'overrides: {lr: 0.05}'`` would else run without them."""
    with pytest.raises(ValueError, match=f"{next(iter(given))} = .*, expected text"):
        Item("table3", **parameters({"profile": "smoke", "Out": {}} | given))


def test_seeds_that_are_no_numbers_are_refused_by_their_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"seeds = 0\.5, expected text such as '0,1,2'"):
        Item("table3", profile="smoke", seeds=0.5, results_dir=tmp_path).runs()


@pytest.mark.parametrize("asked", [{"seeds": "0"}, {"epochs": 2}])
def test_nor_do_fewer_seeds_or_other_epochs(results_dir: Path, asked: dict) -> None:
    save(fake_runs("table1"), results_dir)
    with pytest.raises(ValueError, match="would lose"):
        save(fake_runs("table1", **asked), results_dir)


def test_another_recipe_for_the_same_line_does_replace_it(results_dir: Path) -> None:
    save(fake_runs("table1", rows="resnet20-1w1a", seeds="0,1"), results_dir)
    folder = save(fake_runs("table1", rows="resnet20-1w1a", seeds="0", lr=0.05), results_dir)
    assert list(pd.read_csv(folder / "table.csv").n) == [1]


def standing(monkeypatch: pytest.MonkeyPatch, records: list, asked: list) -> None:
    """Let `runs` find ``records`` on the disk and give ``asked`` for a call."""
    from resteutils.results import standing
    from resteutils.runs import store as runs

    monkeypatch.setattr(standing, "ended_runs", lambda runs_dir="", results_dir="": Runs.of(records))
    monkeypatch.setattr(runs, "run_item", lambda *args, **kwargs: Runs(asked))


def test_a_call_for_some_rows_completes_the_standing_table(results_dir: Path, monkeypatch) -> None:
    old = fake_runs("table1", rows="resnet20-1w1a,resnet18-1w1a", seeds="0,1")
    save(old, results_dir)
    new = fake_runs("table1", rows="resnet20-1w1a", seeds="1,2") + fake_runs("table1", rows="vgg-small-fp", epochs=3)
    standing(monkeypatch, old, new)
    runs = Item("table1", "short", results_dir=results_dir).runs()
    frame = pd.read_csv(save(runs, results_dir) / "table.csv").set_index("row")
    assert list(frame.index) == ["resnet18-1w1a", "resnet20-1w1a", "vgg-small-fp"]
    assert list(frame.n) == [2, 3, 3]
    assert list(frame.epochs) == [10, 10, 3]


def test_shared_runs_keep_this_items_names(results_dir: Path, monkeypatch) -> None:
    """A run that another item trained first carries that item's labels in its record."""
    mine = fake_runs("table3", rows="ste,reste")
    Item("table3", "short", results_dir=results_dir).save(table3.table(mine, "short"), runs=mine)
    theirs = fake_runs("figure2", rows="ste,reste")
    for run in theirs:
        object.__setattr__(run.recipe, "row", "another-name")
    standing(monkeypatch, theirs, [])
    found = Item("table3", "short", results_dir=results_dir).runs()
    assert [(run.recipe.item, run.recipe.row) for run in found[::3]] == [("table3", "ste"), ("table3", "reste")]
    assert theirs[0].recipe.row == "another-name"


def test_runs_of_a_changed_recipe_are_not_mixed_in(results_dir: Path, monkeypatch) -> None:
    old = fake_runs("table1", rows="resnet20-1w1a", seeds="0,1,2")
    save(old, results_dir)
    new = fake_runs("table1", rows="resnet20-1w1a", seeds="0", lr=0.05)
    standing(monkeypatch, old + new, new)
    assert Item("table1", "short", results_dir=results_dir).runs() == new


def test_overrides_do_not_replace_standing_lines(results_dir: Path, monkeypatch) -> None:
    old = fake_runs("table1", rows="resnet20-1w1a", seeds="0,1")
    save(old, results_dir)
    standing(monkeypatch, old, fake_runs("table1", rows="resnet20-1w1a", seeds="0", lr=0.05))
    with pytest.raises(ValueError, match="holds resnet20-1w1a at 10 epochs by another recipe.*RESULTS_DIR"):
        Item("table1", "short", "resnet20-1w1a", results_dir=results_dir, overrides="lr=0.05").runs()
    other = fake_runs("table1", rows="vgg-small-1w1a", seeds="0", lr=0.05)
    standing(monkeypatch, old, other)  # a line of its own, beside them
    runs = Item("table1", "short", "vgg-small-1w1a", results_dir=results_dir, overrides="lr=0.05").runs()
    assert runs == old + other
    said = (save(runs, results_dir) / "table.md").read_text()
    assert "Rows vgg-small-1w1a with lr = 0.05." in said
    runs = Item("table1", "short", "vgg-small-1w1a", results_dir=results_dir, overrides="lr=0.05").runs()
    assert runs == old + other  # the same overrides again are no replacement


def test_what_a_picture_shows_beside_its_own_runs_is_in_the_provenance(results_dir: Path) -> None:
    own = fake_runs("table1", rows="resnet20-1w1a", seeds="0")
    folder = Item("table1", "short", results_dir=results_dir).save(runs=own, beside=["b", own[0].recipe.run_id])
    assert json.loads((folder / "provenance.json").read_text())["beside"] == ["b"]


def test_what_diverged_stays_with_the_table(results_dir: Path, monkeypatch) -> None:
    lost = diverged(recipe("table3/ste-identity", "short"), [2.3])
    runs = Runs(fake_runs("table3", rows="ste,reste"), [lost])
    save_table3 = Item("table3", "short", results_dir=results_dir).save
    folder = save_table3(table3.table(runs, "short"), runs=runs)
    (entry,) = json.loads((folder / "provenance.json").read_text())["diverged"]
    assert (entry["row"], entry["reason"]) == ("ste-identity", "the loss is not finite")
    with pytest.raises(ValueError, match=r"would lose: ste-identity \(10 epochs, seed 0\)"):
        save_table3(table3.table(list(runs), "short"), runs=list(runs))
    standing(monkeypatch, runs, [])
    assert Item("table3", "short", results_dir=results_dir).runs().diverged == [lost]
