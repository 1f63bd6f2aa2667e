"""Figure 6: the training loss at large powers, with its spikes marked, and the accuracy that remains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from resteutils import measured, paper
from resteutils.divergence import losses, spikes
from resteutils.plots.style import INK, OKABE_ITO, SOFT, diamond, dots, longest, styled
from resteutils.records import Diverged, Runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figure6"]

STYLES = {
    "o3": (OKABE_ITO["blue"], "-"),
    "o10": (OKABE_ITO["orange"], (0, (5, 1.5))),
    "o20": (OKABE_ITO["vermillion"], (0, (1.2, 1.2))),
    "o50": (OKABE_ITO["black"], (0, (5, 1.5, 1, 1.5))),
}


@styled
def figure6(runs: Sequence[Any]) -> Figure:
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
    whole = f"share of training (%), {measured.epochs_words(every[0].recipe.epochs)}"
    axes["loss"].set(xlabel=whole, ylabel="training loss (cross-entropy)", xlim=(0, 100))
    axes["loss"].set_title("Training loss (triangles: spikes)")
    axes["loss"].legend(loc="upper right", ncols=2)
    low, high = axes["loss"].get_ylim()
    axes["loss"].set_ylim(low, high + 0.1 * (high - low) * math.ceil(len(rows) / 2))  # room for the legend
    axes["gain"].set(xlabel="share of training (%)", ylabel="f' at zero", xlim=(0, 100), ylim=(0, 10.5))
    axes["gain"].set_title("Gain of the plateau")
    _accuracies(axes["top1"], list(rows), [run for run in every if not isinstance(run, Diverged)])
    return figure


def _row(axes: Axes, group: Sequence[Any]) -> None:
    colour, dash = STYLES.get(group[0].recipe.row, (SOFT, "-"))
    counts = [len(spikes(losses(run))) for run in group]
    lost = ", x: diverged" * any(isinstance(run, Diverged) for run in group)
    for number, run in enumerate(group):
        values = np.array(losses(run))
        x = 100 * np.arange(1, len(values) + 1) / run.recipe.epochs
        shown = np.isfinite(values)
        label = f"o = {run.recipe.estimator.o:g}: {_counted(counts)}{lost}" if number == 0 else None
        axes.plot(x[shown], values[shown], color=colour, ls=dash, lw=1.6, label=label, alpha=0.9)
        peaks = [s.peak - 1 for s in spikes(values) if np.isfinite(values[s.peak - 1])]
        axes.plot(x[peaks], values[peaks] * 1.04, "v", color=colour, mec="white", mew=0.5, ms=7, zorder=4)
        if isinstance(run, Diverged):
            axes.plot(x[shown][-1:], values[shown][-1:], "X", color=colour, ms=8)


def _counted(counts: list[int]) -> str:
    if len(counts) == 1:
        return "1 spike" if counts == [1] else f"{counts[0]} spikes"
    return f"{', '.join(map(str, counts[:-1]))} and {counts[-1]} spikes"


def _oscillation(axes: Axes) -> None:
    """Where the paper's own curve for o = 10 is said to oscillate."""
    ends = [paper.published("figure6", "o10", f"oscillation_{end}_epoch").value for end in ("first", "last")]
    whole = paper.published_recipe("table1/resnet20-1w1a")["epochs"]
    left, right = (100 * end / whole for end in ends)
    axes.axvspan(left, right, color="#eef1f4", zorder=0)
    note = {"ha": "center", "va": "bottom", "fontsize": 7.5, "color": INK}
    axes.annotate("paper: o = 10 oscillates", ((left + right) / 2, 1), (0, 4), _OVER, "offset points", **note)


_OVER = ("data", "axes fraction")


def _gain(axes: Axes, recipe: Any) -> None:
    import torch

    colour, dash = STYLES.get(recipe.row, (SOFT, "-"))
    progress = np.linspace(0, 1, 101)
    gains = [float(recipe.estimator.at(p).derivative(torch.zeros(1))) for p in progress.tolist()]
    axes.plot(100 * progress, gains, color=colour, ls=dash, lw=1.6)


def _accuracies(axes: Axes, rows: list[str], runs: Sequence[Any]) -> None:
    for y, row in enumerate(rows):
        colour = STYLES.get(row, (SOFT, "-"))[0]
        values = [run.result["top1"] for run in runs if run.recipe.row == row]
        dots(axes, y, values, colour, size=6.0, alpha=0.75)
        cell = paper.find("figure6", row)
        if cell is not None and cell.value is not None:
            diamond(axes, cell.value, y)
    axes.set_yticks(range(len(rows)), [f"o = {row.lstrip('o')}" for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.1)
    axes.set_xlabel("top-1 (%); diamonds: published (CIFAR-10)")
    axes.set_title("Accuracy, last epoch")
