"""The plane of Figure 4: estimating error against gradient instability, a point for each estimator of one recipe."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from resteutils.estimators import ReSTE
from resteutils.evidence import stats
from resteutils.recipes import ITEMS, Recipe
from resteutils.runs.records import finished_runs
from resteutils.system.settings import Places

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["neighbours", "points"]


def points(runs: Sequence[Any], places: Places) -> pd.DataFrame:
    """One line per estimator: label, o (NaN but for plain ReSTE), e and s as defined, top1, n and the run ids; means
    over seeds, of s geometric ones, since it is drawn and compared in decades.

    All finished runs that differ from the figure's ResNet-20 runs of most epochs in nothing but estimators and seed.
    """
    import pandas as pd

    rows: dict[str, list[dict[str, Any]]] = {}
    for run in neighbours(runs, finished_runs(places.runs, places.results)):
        last = run.history.iloc[-1]
        label, o = _label(run.recipe)
        values = {"o": o, "e": last["error_definition"], "s": last["instability_definition"]}
        rows.setdefault(label, []).append({**values, "top1": run.result["top1"], "run": run.recipe.run_id})
    means = [
        {
            "label": label,
            **pd.DataFrame(lines)[["o", "e", "top1"]].mean(),
            "s": stats.geometric([line["s"] for line in lines])[0],
            "n": len(lines),
            "runs": [line["run"] for line in lines],
        }
        for label, lines in rows.items()
    ]
    return pd.DataFrame(means, columns=["label", "o", "e", "s", "top1", "n", "runs"]).sort_values(["o", "label"])


def neighbours(runs: Sequence[Any], others: Iterable[Any]) -> list[Any]:
    """``others`` that differ from the ResNet-20 ``runs`` of most epochs in estimators and seed only, and these, without
    doubles."""
    mine = [run for run in runs if run.recipe.model == "resnet20"]
    most = max((run.recipe.epochs for run in mine), default=0)
    mine = [run for run in mine if run.recipe.epochs == most]
    same = {_stripped(run.recipe) for run in mine}
    found = {run.recipe.run_id: run for run in others if run.recipe.bits == "1/1" and _stripped(run.recipe) in same}
    return list((found | {run.recipe.run_id: run for run in mine}).values())


def _stripped(r: Recipe) -> str:
    return replace(r, estimator=ReSTE(), input_estimator=None, standardize=False).identity


@functools.cache
def _known() -> dict[tuple, str]:
    """The rows of Table 3 by what makes them: estimators and standardised weights."""
    rows = {}
    for name, fields in ITEMS["table3"].rows.items():
        weights = fields["estimator"]
        rows[weights, fields.get("input_estimator", weights), fields.get("standardize", False)] = name
    return rows


def _label(r: Recipe) -> tuple[str, float]:
    """Name and power: ``o = 3`` for plain ReSTE, the row of Table 3 for what stands there, else the estimator."""
    inputs = r.input_estimator or r.estimator
    plain = isinstance(r.estimator, ReSTE) and inputs == r.estimator and not r.standardize
    if plain and r.estimator == ReSTE(o=r.estimator.o):
        return f"o = {r.estimator.o:g}", r.estimator.o
    return _known().get((r.estimator, inputs, r.standardize), f"{r.estimator} / {inputs}"), math.nan
