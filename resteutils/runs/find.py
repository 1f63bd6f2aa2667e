"""The finished run that a name means: on a command line, and for export."""

from __future__ import annotations

import os

from resteutils.recipes import ITEMS, PROFILES, Recipe, recipe
from resteutils.runs.records import Run, ended_runs

__all__ = ["find_run"]


def find_run(name: str, runs_dir: str = "", results_dir: str = "") -> Run:
    """The finished run of this name: its folder, its run id or the beginning of one, or ``item/row``, in whatever
    profile it is finished; items share runs, so that the record may name another item.

    Runs whose weights are on this disk go before those of which only the record survives; of several seeds of one row
    the first counts. Raises ``ValueError`` where none or several fit, and for one that diverged.
    """
    ended = ended_runs(runs_dir, results_dir)
    runs = {run.recipe.run_id: run for run in ended}
    wanted = os.path.basename(os.path.abspath(name)) if os.path.isdir(name) else name
    if wanted in runs:
        return runs[wanted]
    item, _, row = wanted.partition("/")
    rows = ITEMS[item].rows if item in ITEMS else ()
    asked = {recipe(wanted, profile).identity for profile in PROFILES} if row in rows else ()

    def fits(found: Recipe) -> bool:
        return bool(wanted) and found.run_id.startswith(wanted) or found.identity in asked

    fitting = [run for run in runs.values() if fits(run.recipe)]
    fitting = fitting or [run for run in runs.values() if run.recipe.name == wanted]
    fitting = [run for run in fitting if run.model_file] or fitting  # of the others there is nothing to export
    if len({run.recipe.identity for run in fitting}) == 1:
        return min(fitting, key=lambda run: run.recipe.seed)
    if fitting:
        raise ValueError(f"{name} could be any of {', '.join(run.recipe.run_id for run in fitting)}: name one of them")
    for run in ended.diverged:
        if fits(run.recipe):
            raise ValueError(f"{run.recipe.run_id} diverged and left no network: {run.reason}")
    known = f"`resteutils list ITEM --profile PROFILE` names the {len(runs)} that are" if runs else "none is finished"
    raise ValueError(f"no finished run is called {name!r}; {known}. Train one with `resteutils train ITEM/ROW`")
