"""The commands that read what is finished: the list of runs, and the report."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from resteutils.cli.options import Profile, ResultsDir, RunsDir, usage
from resteutils.recipes import ITEMS, PROFILES, item_recipes
from resteutils.system.settings import Places

__all__ = ["list_", "report", "site"]


def list_(
    item: Positional[Annotated[str, arg(metavar="[ITEM]", help_behavior_hint="")]] = "",
    profile: Profile = "demo",
    runs_dir: RunsDir = "",
    results_dir: ResultsDir = "",
) -> None:
    """Items, their notebooks and sizes, and what is finished on this disk.

    Example: resteutils list table1 --profile short

    Args:
        item: lists the rows of this item; empty: all items.
        profile: whose rows and seeds are counted when an item is named.
    """
    with usage():
        recipes = item_recipes(item, profile) if item else []
    if item and not recipes:
        print(f"{item} has no training runs")
        return
    from resteutils.runs.records import ended_runs

    ended = ended_runs(runs_dir, results_dir)
    finished = {run.recipe.run_id: run for run in ended}
    if item:
        diverged = {run.recipe.run_id for run in ended.diverged}
        for r in recipes:
            state = "finished" if r.run_id in finished else "diverged" if r.run_id in diverged else "-"
            top1 = f"{finished[r.run_id].result['top1']:.2f} %" if r.run_id in finished else ""
            print(f"{r.name:<32} {state:<9} {top1:>8} {r.epochs:>5} epochs of {r.dataset}  {r.run_id}")
        return
    print(f"{'item':<8} {'notebook':<26}" + "".join(f"{name:>19}" for name in PROFILES))
    for name, entry in ITEMS.items():
        sizes = [_size(item_recipes(name, each), finished) for each in PROFILES]
        print(f"{name:<8} {entry.notebook:<26}" + "".join(f"{size:>19}" for size in sizes))
    here = f"{len(finished)} finished run{'' if len(finished) == 1 else 's'} on this disk"
    print(f"\nruns finished/all x epochs; {here}. `resteutils list ITEM`: its rows.")


def _size(recipes: list, finished: Container[str]) -> str:
    """``3/24 x 10``: runs finished, runs in all, epochs of each."""
    if not recipes:
        return "no runs"
    epochs = "-".join(str(n) for n in sorted({min(r.epochs for r in recipes), max(r.epochs for r in recipes)}))
    return f"{sum(r.run_id in finished for r in recipes)}/{len(recipes)} x {epochs}"


def report(results_dir: ResultsDir = "") -> None:
    """Write one static HTML site of all results, and the tables of README.md and docs/ from the records.

    Example: resteutils report --results-dir my-results

    The site is results/report/index.html. The tables are those between markers, in a checkout of this project, and only
    from its own results.
    """
    from resteutils.items import findings

    own = _own_places(results_dir)
    said = findings.blocks(own[1]) if own else {}
    written = findings.rewrite(*own, said) if own else []  # first: the site shows them
    print(site(results_dir, said))
    for path in written:
        print(f"{path}: written again from the records")


def site(results_dir: str = "", said: dict[str, str] | None = None) -> Path:
    """Write the report with the explorer's page and, of the checkout's own results, what was found: ``said``, where
    its blocks are made already.
    """
    from resteutils.explorer.page import document
    from resteutils.items import findings
    from resteutils.results.report import build

    own = _own_places(results_dir)
    if said is None:
        said = findings.blocks(own[1]) if own else {}
    front = {name: text for name, text in said.items() if name.startswith("findings")}
    picture = findings.picture(own[1]) if own else b""
    return build(results_dir=results_dir, explorer=document(results_dir), findings=front, picture=picture)


def _own_places(results_dir: str) -> tuple[Path, Places] | None:
    """The checkout and the places of its committed records, where the results are the checkout's own."""
    root = Path(__file__).resolve().parents[2]
    places = Places.of(results_dir=results_dir)
    if (root / "results").resolve() != places.results.resolve() or not (root / "docs").is_dir():
        return None
    return root, Places(places.data, root / "results" / "none", places.results)
