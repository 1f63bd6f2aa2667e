"""Figure 6: the training loss at large powers, and a detector that counts its spikes.

A spike is a stretch of epochs in which the training loss stands above the lowest loss of all earlier epochs by more
than ``RISE`` of it and, in curves of at least ``ENOUGH`` epochs, by more than ``NOISE`` times the curve's own relative
roughness. A loss that never comes back is one spike, marked as lasting; a loss that is not a number counts as
infinitely high.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from resteutils.evidence import paper, stats, summary, verdict
from resteutils.evidence.checks import number_checks, pipeline_check
from resteutils.evidence.comparison import Rows
from resteutils.items.style import INK, OKABE_ITO, SOFT, diamond, dots, longest, styled
from resteutils.recipes import ITEMS
from resteutils.runs.records import Diverged, Runs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Spike", "figure", "judge", "roughness", "spikes", "table"]

RISE = 0.10
NOISE = 6.0
ENOUGH = 20
BASE = "o3"  # the row that the others are compared with


@dataclass(frozen=True)
class Spike:
    """Epochs ``first`` to ``last`` (from 1), the highest at ``peak``; ``height`` is the loss there over the earlier
    minimum, minus 1. ``lasting``: the loss had not come back when training ended."""

    first: int
    peak: int
    last: int
    height: float
    lasting: bool


def roughness(losses: Sequence[float]) -> float:
    """A robust relative standard deviation of the loss from epoch to epoch, trend removed; 0 below ``ENOUGH`` epochs,
    which cannot tell noise from the bends of the curve itself.

    From the second differences of log(loss), whose variance is six times that of independent noise. Their lower
    quartile is used, which is 0.3186 standard deviations of a normal: spikes may touch up to three quarters of them.
    """
    logs = [math.log(x) for x in losses if 0 < x < math.inf]
    bends = sorted(abs(a - 2 * b + c) for a, b, c in zip(logs, logs[1:], logs[2:], strict=False))
    return bends[len(bends) // 4] / 0.3186 / math.sqrt(6) if len(logs) >= ENOUGH else 0.0


def spikes(losses: Iterable[float], rise: float = RISE, noise: float = NOISE) -> list[Spike]:
    """The spikes of a training loss, one value per epoch.

    >>> [(s.first, s.peak, s.last) for s in spikes([2.0, 1.5, 1.2, 1.0, 1.6, 1.9, 1.0, 0.9, 0.8])]
    [(5, 6, 6)]

    Raises ValueError for a negative threshold.
    """
    if rise < 0 or noise < 0:
        raise ValueError(f"rise = {rise}, noise = {noise}, expected thresholds of at least 0")
    values = [float(x) if math.isfinite(x) else math.inf for x in losses]
    allowed, lowest, found, run = max(rise, noise * roughness(values)), math.inf, [], []
    for epoch, value in enumerate(values, 1):
        if math.isinf(value) or value > (1 + allowed) * lowest:
            run.append((epoch, value / lowest - 1 if 0 < lowest < math.inf else math.inf))
        elif run:
            found.append(_spike(run, lasting=False))
            run = []
        lowest = min(lowest, value)
    return [*found, _spike(run, lasting=True)] if run else found


def _spike(run: list[tuple[int, float]], lasting: bool) -> Spike:
    peak, height = max(run, key=lambda pair: pair[1])
    return Spike(run[0][0], peak, run[-1][0], height, lasting)


# --- numbers ---------------------------------------------------------------------------------------------------------


def losses(run: Any) -> list[float]:
    """The training loss per epoch; a run that diverged ends with infinity."""
    values = [float(x) for x in run.history["train_loss"]]
    return [*values, math.inf] if isinstance(run, Diverged) else values


def table(runs: Iterable[Any]) -> pd.DataFrame:
    """One line per run: spikes, the power during the first and the height of the highest of them, final loss and
    accuracy, and what the paper prints.
    """
    import pandas as pd

    runs, rows = Runs.of(runs), []
    for run in runs.every:
        r, found, cell = run.recipe, spikes(losses(run)), paper.find("figure6", run.recipe.row)
        ended = not isinstance(run, Diverged)
        rows.append(
            {
                "Row": r.row,
                "o at the end": r.estimator.o,
                "Seed": r.seed,
                "Epochs": r.epochs,
                "Spikes": len(found),
                "o at the first": _power_at(run, found[0].first) if found else "",
                "Lasting": sum(s.lasting for s in found),
                "Highest (% above the minimum)": 100 * max((s.height for s in found), default=0.0),
                "Training loss, end": run.result["train_loss"] if ended else math.nan,
                "Top-1, end (%)": run.result["top1"] if ended else math.nan,
                "Published top-1 (%)": cell.value if cell else math.nan,
                "Ended": "as planned" if ended else run.reason,
            }
        )
    return pd.DataFrame(rows)


def _power_at(run: Any, epoch: int) -> str:
    """The power during an epoch: at the end of the one before, and at its own end."""
    powers = [1.0, *run.history.get("o", [])]  # a run that diverges in its first epoch has none
    return f"{powers[epoch - 1]:.2f} to {powers[epoch]:.2f}" if epoch < len(powers) else f"from {powers[-1]:.2f} on"


def judge(runs: Sequence[Any], profile: str) -> verdict.Verdict:
    """More spikes and a lower accuracy at every larger power than at the paper's; the published accuracies."""
    frame, checks = table(runs), [pipeline_check(runs)] if runs else []
    for epochs, lines in frame.groupby("Epochs"):
        top1 = Rows.of(runs, epochs)
        spikes = Rows(stats.groups(lines["Row"], lines["Seed"], lines["Spikes"]), broken=top1.broken)
        for row in spikes.values if BASE in spikes.values else ():
            if row != BASE:
                more, less = _more_spikes(row, spikes), top1.difference(BASE, row)
                for claim, d, unit in (("has more spikes than", more, "spikes"), ("scores below", less, "points")):
                    checks.append(verdict.ordering(f"{row} {claim} {BASE}", d, unit, f"{epochs} epochs"))
    checks += number_checks("figure6", runs)
    note = summary.noted("One loss per epoch: what happens within an epoch is averaged away.", runs)
    return verdict.judge(profile, checks, note, summary.not_run(ITEMS["figure6"].rows, runs))


def _more_spikes(row: str, spikes: Rows) -> stats.Difference:
    """How many more spikes than ``BASE``; a row with failed trainings is compared by the two rows' own spread."""
    if spikes.failed & {row, BASE}:
        return spikes.difference(row, BASE)
    pooled = replace(spikes.pooled, std=max(spikes.pooled.std, 0.5))  # no count is known better than to a half
    return stats.difference(spikes.values[row], spikes.values[BASE], pooled)


# --- the picture ---

STYLES = {
    "o3": (OKABE_ITO["blue"], "-"),
    "o10": (OKABE_ITO["orange"], (0, (5, 1.5))),
    "o20": (OKABE_ITO["vermillion"], (0, (1.2, 1.2))),
    "o50": (OKABE_ITO["black"], (0, (5, 1.5, 1, 1.5))),
}


@styled
def figure(runs: Sequence[Any]) -> Figure:
    """Loss over the share of training; the gain of the plateau on the same axis; the last epoch's accuracy by power."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 6.2), layout="constrained")
    axes = figure.subplot_mosaic([["loss", "loss"], ["gain", "top1"]], height_ratios=[1.5, 1])
    every = longest(Runs.of(runs).every, lambda run: run.recipe.epochs)
    rows = dict.fromkeys(sorted((run.recipe.row for run in every), key=lambda row: float(row.lstrip("o"))))
    for row in rows:
        _row(axes["loss"], [run for run in every if run.recipe.row == row])
        _gain(axes["gain"], next(run.recipe for run in every if run.recipe.row == row))
    _oscillation(axes["loss"])
    whole = f"share of training (%), {summary.epochs_words(every[0].recipe.epochs)}"
    axes["loss"].set(xlabel=whole, ylabel="training loss (cross-entropy)", xlim=(0, 100))
    axes["loss"].set_title(_message(every))
    figure.legend(*axes["loss"].get_legend_handles_labels(), loc="outside upper center", ncols=2)  # over no curve
    axes["gain"].set(xlabel="share of training (%)", ylabel="f' at zero", xlim=(0, 100), ylim=(0, 10.5))
    axes["gain"].set_title("The plateau's gain grows with o")
    _accuracies(axes["top1"], list(rows), [run for run in every if not isinstance(run, Diverged)])
    return figure


def _message(runs: Sequence[Any]) -> str:
    """Whose loss turns: the powers in most of whose trainings it has a spike."""
    turned = {
        f"{power:g}": [bool(spikes(losses(run))) for run in runs if run.recipe.estimator.o == power]
        for power in sorted({run.recipe.estimator.o for run in runs})
    }
    names = [power for power, found in turned.items() if 2 * sum(found) > len(found)]
    return f"The loss turns at o = {' and '.join(names)} (triangles: spikes)" if names else "No loss turns"


def _row(axes: Axes, group: Sequence[Any]) -> None:
    colour, dash = STYLES.get(group[0].recipe.row, (SOFT, "-"))
    counts = [len(spikes(losses(run))) for run in group]
    lost = ", x: diverged" * any(isinstance(run, Diverged) for run in group)
    for number, run in enumerate(group):
        values = np.array(losses(run))
        x = 100 * np.arange(1, len(values) + 1) / run.recipe.epochs
        shown = np.isfinite(values)
        label = f"o = {run.recipe.estimator.o:g}: {_how_often(counts)}{lost}" if number == 0 else None
        axes.plot(x[shown], values[shown], color=colour, ls=dash, lw=1.6, label=label, alpha=0.9)
        peaks = [s.peak - 1 for s in spikes(values) if np.isfinite(values[s.peak - 1])]
        axes.plot(x[peaks], values[peaks] * 1.04, "v", color=colour, mec="white", mew=0.5, ms=7, zorder=4)
        if isinstance(run, Diverged):
            axes.plot(x[shown][-1:], values[shown][-1:], "X", color=colour, ms=8)


def _how_often(counts: list[int]) -> str:
    if len(counts) == 1:
        return "1 spike" if counts == [1] else f"{counts[0]} spikes"
    return f"{', '.join(map(str, counts[:-1]))} and {counts[-1]} spikes"


def _oscillation(axes: Axes) -> None:
    """Where the paper's own curve for o = 10 is said to oscillate."""
    ends = [paper.published("figure6", "o10", f"oscillation_{end}_epoch").value for end in ("first", "last")]
    whole = paper.published_recipe("table1/resnet20-1w1a")["epochs"]
    left, right = (100 * end / whole for end in ends)
    axes.axvspan(left, right, color="#eef1f4", zorder=0)
    note = {"ha": "center", "va": "top", "fontsize": 7.5, "color": INK}
    axes.annotate("paper: o = 10 oscillates", ((left + right) / 2, 1), (0, -3), _OVER, "offset points", **note)


_OVER = ("data", "axes fraction")


def _gain(axes: Axes, recipe: Any) -> None:
    colour, dash = STYLES.get(recipe.row, (SOFT, "-"))
    progress = np.linspace(0, 1, 101)
    gains = [float(recipe.estimator.at(p).derivative(torch.zeros(1))) for p in progress.tolist()]
    axes.plot(100 * progress, gains, color=colour, ls=dash, lw=1.6)


def _accuracies(axes: Axes, rows: list[str], runs: Sequence[Any]) -> None:
    for y, row in enumerate(rows):
        colour = STYLES.get(row, (SOFT, "-"))[0]
        values = [run.result["top1"] for run in runs if run.recipe.row == row]
        dots(axes, y, values, colour, size=6.0, alpha=0.75)
        if (published := paper.value("figure6", row)) is not None:
            diamond(axes, published, y)
    axes.set_yticks(range(len(rows)), [f"o = {row.lstrip('o')}" for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.1)
    axes.set_xlabel("top-1 (%); diamonds: published (CIFAR-10)")
    best = max(runs, key=lambda run: run.result["top1"], default=None)
    axes.set_title(f"Accuracy is highest at o = {best.recipe.estimator.o:g}" if best else "Accuracy")
