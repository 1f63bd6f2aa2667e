"""Figure 4: estimating error e, gradient instability s and accuracy against the power at the end of training.

Both readings of e and s are those of the last epoch. e is also shown as a share of its ceiling, the value it has when
all binary weights are zero, so that readings and networks of different sizes share an axis. Beside them stand both of
frozen weights (:mod:`resteutils.items.figure4.frozen`): only what the trained points do differently
comes from training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torch import nn

from resteutils.evidence import paper, stats, summary, verdict
from resteutils.evidence.checks import pipeline_check
from resteutils.evidence.comparison import Rows, failed_words
from resteutils.nn.indicators import READINGS
from resteutils.recipes import ITEMS, Recipe
from resteutils.recipes.build import build_model
from resteutils.runs.records import Runs

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "NETWORKS",
    "POWERS",
    "best_power",
    "first_of_each",
    "judge",
    "network",
    "points",
    "table",
]

NETWORKS = ("resnet20", "resnet18", "vgg_small")
POWERS = tuple(sorted({fields["estimator"].o for fields in ITEMS["figure4"].rows.values()}))
VALUES = ("error_definition", "error_code", "instability_definition", "instability_code", "spread", "top1")


def best_power(model: str) -> float:
    """The power that the paper recommends for a network."""
    return paper.published("figure4", model.replace("_", "-"), "best_o").value


def points(runs: Iterable[Any]) -> pd.DataFrame:
    """One line per run: model, o, seed, epochs, the ``VALUES`` of the last epoch, and e as a share of its ceiling."""
    import pandas as pd

    runs = list(runs)
    tops = summary.ceilings(runs)
    return pd.DataFrame([_point(run, tops[run.recipe.model]) for run in runs])


def first_of_each(runs: Sequence[Any]) -> list[Any]:
    """The first run of every network."""
    return list({run.recipe.model: run for run in reversed(runs)}.values())


def network(recipe: Recipe) -> nn.Module:
    """The recipe's network with its initial weights."""
    return build_model(recipe, recipe.num_classes or 10)


def _point(run: Any, top: dict[str, float]) -> dict[str, Any]:
    r, last = run.recipe, run.history.iloc[-1]
    values = {name: last[name] for name in VALUES if name != "top1"} | {"top1": run.result["top1"]}
    shares = {f"share_{reading}": values[f"error_{reading}"] / top[reading] for reading in top}
    return {"model": r.model, "o": r.estimator.o, "seed": r.seed, "epochs": r.epochs, **values, **shares}


# --- numbers ---------------------------------------------------------------------------------------------------------


def table(found: pd.DataFrame, still: pd.DataFrame) -> pd.DataFrame:
    """One line per network, epochs and power: means over seeds (± std), and e and s of the frozen weights."""
    import pandas as pd

    rows = []
    for (model, epochs, o), lines in found.groupby(["model", "epochs", "o"], sort=False):
        cells = {
            said: _decades(lines[name]) if name.startswith("instability") else _spread(lines[name])
            for name, said in _SAID.items()
        }
        rows.append({"Network": summary.BACKBONES[model], "o": o, "Epochs": epochs, "n": len(lines), **cells})
        here = still[(still["model"] == model) & (still["o"] == o)].set_index("weights")
        for weights in ("initial", "trained"):
            rows[-1][f"e as defined, {weights} weights frozen"] = _at(here, weights, "error_definition")
        for reading in READINGS:
            name = f"instability_{reading}"
            rows[-1][f"{_SAID[name].split(' (')[0]}, trained weights frozen"] = _at(here, "trained", name)
    return pd.DataFrame(rows)


def _at(here: pd.DataFrame, weights: str, column: str) -> float:
    return float(here.loc[weights, column]) if weights in here.index else math.nan


_SAID = {
    "error_definition": "e as defined",
    "error_code": "e as in the code",
    "instability_definition": "s as defined (geometric mean)",
    "instability_code": "s as in the code (geometric mean)",
    "spread": "Spread of |g|",
    "top1": "Top-1 (%)",
}


def _decades(values: pd.Series) -> str:
    middle, factor = stats.geometric(values)
    return f"{middle:.3g}" + (f" ×÷ {factor:.2g}" if len(values) > 1 else "")


def _spread(values: pd.Series) -> str:
    return f"{values.mean():.4g}" + (f" ± {values.std():.2g}" if len(values) > 1 else "")


# --- verdict ---------------------------------------------------------------------------------------------------------


def judge(runs: Sequence[Any], found: pd.DataFrame, still: pd.DataFrame, profile: str) -> verdict.Verdict:
    """Per network: e falls and s rises from the smallest to the largest power (both readings), accuracy is higher at
    the published best power than at both ends. As controls the scale-free spread, and what training adds to e."""
    checks = [pipeline_check(runs)]
    said = summary.noted("Trends compare the smallest with the largest power that has an accuracy.", runs)
    lost = {f"{row} (seed {', '.join(map(str, sorted(of)))})" for (row, _), of in summary.diverged(runs).items()}
    said += f" Diverged, and so in none of them: {', '.join(sorted(lost))}." if lost else ""
    if found.empty:
        return verdict.judge(profile, checks, said)
    for (model, epochs), lines in found.groupby(["model", "epochs"], sort=False):
        if lines["o"].nunique() > 1:
            label = f"{summary.BACKBONES[model]}, {epochs} epochs"
            initial = still[(still["model"] == model) & (still["weights"] == "initial")]
            trained = still[(still["model"] == model) & (still["weights"] == "trained")]
            rows = _by_power(runs, model, epochs)
            said += "".join(f" {words}" for words in failed_words(rows, epochs))
            checks += [*_trends(label, lines, rows), *_fixed(label, trained), *_added(label, lines, initial, rows)]
            checks += _peak(label, model, lines, rows)
    return verdict.judge(profile, checks, said, summary.not_run(ITEMS["figure4"].rows, runs))


def _by_power(runs: Sequence[Any], model: str, epochs: int) -> Rows:
    """The accuracies of one network, by power instead of by row."""
    every = Runs.of(runs)
    own = Runs(*([run for run in group if run.recipe.model == model] for group in (every, every.diverged)))
    power, found = {run.recipe.row: run.recipe.estimator.o for run in own.every}, Rows.of(own, epochs)
    values, lost, broken = (
        {power[row]: of for row, of in each.items()} for each in (found.values, found.lost, found.broken)
    )
    return Rows(dict(sorted(values.items())), lost, broken, found.worst)


def _trends(label: str, lines: pd.DataFrame, rows: Rows) -> list[verdict.Check]:
    low, high = lines["o"].min(), lines["o"].max()
    asked = [(f"share_{reading}", -1, f"e ({reading}) falls", CEILING, "ordering") for reading in READINGS]
    asked += [(f"instability_{reading}", 1, f"s ({reading}) rises", "decades", "ordering") for reading in READINGS]
    asked += [("spread", 1, "the scale-free spread rises", "decades", "control")]
    checks = []
    for column, direction, said, unit, kind in asked:
        groups = _groups(lines, column, math.log10 if unit == "decades" else _percent)
        larger, smaller = (high, low) if direction > 0 else (low, high)
        d = rows.by(groups).difference(larger, smaller)
        steps = [direction * (stats.mean(b) - stats.mean(a)) > 0 for a, b in pairwise(groups.values())]
        note = f"{sum(steps)} of {len(steps)} steps from power to power go that way"
        claim = f"{label}: {said} from o = {low:g} to {high:g}"
        checks.append(verdict.ordering(claim, d, unit, note, kind))
    return checks


CEILING = "% of the ceiling"


def _percent(share: float) -> float:
    return 100 * share


def _fixed(label: str, trained: pd.DataFrame) -> list[verdict.Check]:
    """s of one network's gradients when nothing but the power changes: what training at each power does is left out."""
    checks, trained = [], trained.dropna(subset=["instability_code"])
    for reading in READINGS if len(trained) > 1 else ():
        values = trained.sort_values("o")[f"instability_{reading}"].tolist()
        steps = [b > a for a, b in pairwise(values)]
        shown = f"{values[0]:.2g} to {values[-1]:.2g}; {sum(steps)} of {len(steps)} steps from power to power rise"
        claim = f"{label}: with the trained weights frozen, s ({reading}) rises from the smallest to the largest power"
        checks.append(verdict.fact(claim, values[-1] > values[0], shown, "control"))
    return checks


def _added(label: str, lines: pd.DataFrame, initial: pd.DataFrame, rows: Rows) -> list[verdict.Check]:
    """Is e of the trained weights below that of the initial ones at the same power? The lemma does not say.

    e of the initial weights is one number without a spread, so each run's distance to it is what has one.
    """
    groups = _groups(lines, "share_definition", _percent)
    fixed = dict(zip(initial["o"], 100 * initial["share_definition"], strict=True))
    below = {o: {seed: fixed[o] - e for seed, e in of.items()} for o, of in groups.items() if o in fixed}
    checks, rows = [], rows.by(below)
    for o in below:
        claim = f"{label}: at o = {o:g} training lowers e (definition) below that of the initial weights"
        checks.append(verdict.ordering(claim, rows.contrast({o: 1}), CEILING, kind="control"))
    return checks


def _groups(lines: pd.DataFrame, column: str, scale: Callable[[float], float] = float) -> dict[float, dict[int, float]]:
    """{o: {seed: value}}, powers in ascending order."""
    return stats.groups(lines["o"], lines["seed"], lines[column].map(scale))


def _peak(label: str, model: str, lines: pd.DataFrame, rows: Rows) -> list[verdict.Check]:
    published, groups, checks = best_power(model), rows.values, []
    if published not in groups:
        return []
    for end in (min(groups), max(groups)):
        if end != published:
            claim = f"{label}: o = {published:g} scores above o = {end:g}"
            checks.append(verdict.ordering(claim, rows.difference(published, end)))
    checks += _apart(label, published, lines)
    best = max(groups, key=lambda o: stats.mean(groups[o]))
    shown = f"o = {best:g} with {stats.mean(groups[best]):.2f} %, of {', '.join(f'{o:g}' for o in groups)}"
    claim = f"{label}: the best power is the published one, {published:g}"
    return [*checks, verdict.fact(claim, best == published, shown, "number")]


def _apart(label: str, published: float, lines: pd.DataFrame) -> list[verdict.Check]:
    """Do all runs up to the published power end above all runs beyond it? Nothing is assumed about spread: p is the
    share of the ways to choose as many powers that would come out so. Powers are the units, since seeds repeat them.
    """
    low, high = lines[lines["o"] <= published], lines[lines["o"] > published]
    if low.empty or high.empty:
        return []
    least, most = low["top1"].min(), high["top1"].max()
    shown = f"the lowest of {len(low)} runs has {least:.2f} %, the highest of {len(high)} has {most:.2f} %"
    if least > most:
        chance = 1 / math.comb(lines["o"].nunique(), low["o"].nunique())
        shown += f"; by chance alone p = {chance:.2g}, powers as units"
    claim = f"{label}: every run with o up to {published:g} scores above every run with a larger one"
    return [verdict.fact(claim, bool(least > most), shown + " (a question asked after the runs were seen)", "control")]
