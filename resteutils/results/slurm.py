"""A whole reproduction as jobs of a Slurm cluster: the runs of each item, and its notebook behind them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from resteutils.recipes import item_recipes
from resteutils.results.reproduce import reproduce
from resteutils.runs.cluster import follow, job_settings, queue
from resteutils.runs.launch import Worker, check, counted, logs_folder

__all__ = ["Notebook", "submit"]


@dataclass
class Notebook:
    """Reproduces an item. A callable object, so that submitit can send it to another machine."""

    item: str
    options: dict[str, Any]

    def __call__(self) -> str:
        """Execute the notebook; return the item's folder."""
        return str(reproduce(self.item, **self.options))

    def checkpoint(self) -> Any:
        """Called by submitit before a time limit: queue the same notebook again, which reads what is finished."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(
    items: Iterable[str],
    parallel: int,
    minutes: int,
    cluster: dict[str, Any],
    gpus_per_run: int = 0,
    nodes: int = 1,
    *,
    profile: str = "demo",
    rows: str = "",
    seeds: str = "",
    epochs: int = 0,
    overrides: str = "",
    device: str = "auto",
    **folders: str,
) -> None:
    """Submit the items and return at once: a job for each run, at most ``parallel`` at the same time, and for each item
    a job for its notebook that begins when the item's runs have ended. A run that several items share is one job.

    Arguments:
        minutes, cluster, gpus_per_run, nodes: see :func:`resteutils.runs.launch.launch`.
        profile, rows, seeds, epochs, overrides, device: of every item, see
            :func:`resteutils.results.reproduce.reproduce`.
        folders: ``data_dir``, ``runs_dir`` and ``results_dir``.

    Raises what :func:`resteutils.runs.launch.launch` raises.
    """
    check("slurm", parallel, 0, minutes, cluster, gpus_per_run, nodes)
    recipes = {item: item_recipes(item, profile, rows, seeds, epochs, overrides) for item in items}
    runs = {run.run_id: run for each in recipes.values() for run in sorted(each, key=lambda recipe: recipe.seed)}
    settings = {"name": "reste"} | job_settings(device, gpus_per_run, nodes, minutes, cluster)
    logs, options = logs_folder(folders.get("runs_dir", "")), {"device": device, **folders}
    work = [Worker([run], options) for run in runs.values()]
    jobs = dict(zip(runs, queue(work, logs, settings, parallel), strict=True))
    print(f"{counted(len(jobs), 'run')} queued; logs in {logs}", flush=True)
    asked = {"profile": profile, "rows": rows, "seeds": seeds, "epochs": epochs, "overrides": overrides}
    for item, its in recipes.items():
        named = settings | {"name": f"{settings['name']}-{item}-notebook"}
        job = follow(Notebook(item, asked | options), [jobs[run.run_id] for run in its], logs, named)
        print(f"{item}: notebook in job {job.job_id}", flush=True)
