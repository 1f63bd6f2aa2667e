"""A whole reproduction as jobs of a Slurm cluster: the runs of each item, and its notebook behind them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from resteutils.results.reproduce import reproduce
from resteutils.runs.launch import check, launch

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
    overrides: str = "",
    gpus_per_run: int = 0,
    nodes: int = 1,
    **options: Any,
) -> None:
    """Submit every item and return at once: one job for each run, ``parallel`` of an item at a time, and a job for the
    notebook that begins when they have ended. Items that share runs train them once. ``gpus_per_run`` of each of
    ``nodes`` train one run together.

    ``options`` as for :func:`resteutils.results.reproduce.reproduce`. Raises what
    :func:`resteutils.runs.launch.launch` raises.
    """
    check("slurm", parallel, 0, minutes, cluster, gpus_per_run, nodes)
    options["overrides"] = overrides
    for item in items:
        launch(
            item, on="slurm", parallel=parallel, minutes=minutes, gpus_per_run=gpus_per_run, nodes=nodes, wait=False,
            then=Notebook(item, options), **options, **cluster,
        )  # fmt: skip
