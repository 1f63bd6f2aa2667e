"""The table that stands: what it was made of, and what a new one may not lose.

**A table of some rows never overwrites a fuller one.** ``Item.runs`` gives the runs that were
asked for *and* those that the standing table was made of, read from their records, so that a table only grows: other
rows, other seeds and other numbers of epochs stay as lines of their own. A standing run is dropped only when a call
brings the same row at the same number of epochs from another recipe: those two may not be averaged, and the newer
recipe counts. Where a standing run's record is gone, the new table is refused, with a word on what to do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from resteutils.evidence import summary
from resteutils.recipes import Recipe
from resteutils.runs.records import Runs, ended_runs
from resteutils.system.files import heal
from resteutils.system.settings import Places

__all__ = ["item_folder", "refuse_losses", "refuse_replacing", "standing_runs", "superseded"]


def item_folder(item: str, profile: str, results: Path) -> Path:
    """``<results>/<profile>/<item>``."""
    return results / profile / item


def standing_runs(item: str, profile: str, places: Places) -> Runs:
    """The runs behind the item's standing table whose records are still there; empty where there is no table."""
    folder = item_folder(item, profile, places.results)
    rows = {entry["run_id"]: entry["row"] for entry in _entries(folder)}
    if not rows:
        return Runs()

    def named(runs: Iterable[Any]) -> list[Any]:
        found = {run.recipe.run_id: run for run in runs}
        return [found[i].under(item, row, profile) for i, row in rows.items() if i in found]

    ended = ended_runs(places.runs, places.results)
    return Runs(named(ended), named(ended.diverged))


def _entries(folder: Path) -> list[dict[str, Any]]:
    """What provenance.json of a finished folder says of its runs, diverged ones included."""
    heal(folder)
    path = folder / "provenance.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        entries = said["runs"] + said.get("diverged", [])
        _ = [entry[name] for entry in entries for name in ("run_id", "row", "recipe", "epochs", "seed")]
        return entries
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}: {error}); take it from the repository again (git checkout), "
            f"or move {folder} away to start afresh"
        ) from error


def superseded(run: Any, asked: Iterable[Any]) -> bool:
    """Is the run among those asked for, or of another recipe for one of their lines?"""
    same_line = [r for r in asked if (r.recipe.row, r.recipe.epochs) == (run.recipe.row, run.recipe.epochs)]
    mine = run.recipe
    return any(r.recipe.seed == mine.seed or r.recipe.identity != mine.identity for r in same_line)


def refuse_replacing(target: Path, recipes: Iterable[Any]) -> None:
    """What overrides make may not take the place of a standing line of another recipe."""
    asked = {(recipe.row, recipe.epochs): recipe.identity for recipe in recipes}
    for entry in _entries(target):
        if asked.get((entry["row"], entry["epochs"]), entry["recipe"]) != entry["recipe"]:
            raise ValueError(
                f"{target} holds {entry['row']} at {summary.epochs_words(entry['epochs'])} by another recipe, which "
                "these overrides would replace: name a RESULTS_DIR of their own, or move that folder away"
            )


def refuse_losses(target: Path, recipes: Iterable[Recipe]) -> None:
    """A standing line (row at so many epochs, and its seeds) must be in what replaces it: ``recipes``, those of all
    runs, finished or diverged.
    """
    new: dict[tuple[str, int], set[int]] = {}
    known: dict[tuple[str, int], set[str]] = {}
    for recipe in recipes:
        new.setdefault((recipe.row, recipe.epochs), set()).add(recipe.seed)
        known.setdefault((recipe.row, recipe.epochs), set()).add(recipe.identity)
    lost = []
    for entry in _entries(target):
        line = (entry["row"], entry["epochs"])
        if line not in new or (entry["seed"] not in new[line] and entry["recipe"] in known[line]):
            lost.append(f"{entry['row']} ({entry['epochs']} epochs, seed {entry['seed']})")
    if lost:
        raise ValueError(
            f"{target} has lines that the new table would lose: {', '.join(lost)}. Their runs have no readable record "
            "here: bring it back, or set RESTEUTILS_IMPORT where an estimator, model or dataset is one of your own; or "
            "move that folder away to start afresh, or set RESULTS_DIR elsewhere"
        )
