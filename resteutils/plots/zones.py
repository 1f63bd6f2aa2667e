"""Figure 5, ours: where weights and activations sit on ReSTE's curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from resteutils import measured, zones
from resteutils.indicators import zone_ends
from resteutils.kept import missing
from resteutils.plots.style import OKABE_ITO, absent, blank, by_row, longest, styled
from resteutils.zones import ZONES, Zones

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figure5"]

COLOURS = {"plateau": OKABE_ITO["sky"], "power": OKABE_ITO["blue"], "clipped": OKABE_ITO["orange"]}


@styled
def figure5(found: Sequence[Zones]) -> Figure:
    """One column per row of the item: weights through training, weights per layer, activations per layer."""
    rows = dict(sorted(by_row(longest(found)).items(), key=lambda pair: pair[0] != "reste"))
    figure, axes = blank(7.2, 7.4, nrows=3, ncols=len(rows), squeeze=False, sharey=True)
    for column, (_, group) in enumerate(rows.items()):
        name = measured.method(group[0].run.recipe)
        _through_training(axes[0, column], group)
        axes[0, column].set_title(f"{name}: weights through {measured.epochs_words(group[0].run.recipe.epochs)}")
        there = [z for z in group if z.layers]
        for line, side in ((1, "weights"), (2, "activations")):
            if there:
                _by_layer(axes[line, column], there, side)
                axes[line, column].set_title(f"{name}: {side}, layer by layer")
            else:
                absent(axes[line, column], missing([z.run for z in group], f"The {side} of each layer"), 42)
    for line in axes:
        line[0].set_ylabel("share (%)")
        line[0].set_ylim(0, 100)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _through_training(axes: Axes, group: Sequence[Zones]) -> None:
    """Stacked shares; the mean over the seeds."""
    frames = [z.weights for z in group]
    mean = {zone: 100 * np.mean([f[zone].to_numpy() for f in frames], axis=0) for zone in ZONES}
    x = 100 * frames[0]["progress"].to_numpy()
    m, t = zone_ends(group[0].run.recipe.estimator)
    labels = [f"|z| ≤ {m:g}, ReSTE's plateau", f"{m:g} < |z| ≤ {t:g}, its power", f"|z| > {t:g}, clipped"]
    axes.stackplot(x, *mean.values(), colors=[COLOURS[zone] for zone in ZONES], labels=labels, lw=0)
    axes.set(xlim=(0, 100), xticks=(0, 20, 40, 60, 80), xlabel="share of training (%)")


def _by_layer(axes: Axes, group: Sequence[Zones], side: str) -> None:
    """Bars: all layers at the start and at the end of training, then each layer at the end."""
    start, end = ([z.layers[time] for z in group] for time in ("start", "end"))
    bars = [_pooled(start, side), _pooled(end, side), *_each(end, side)]
    x = [0, 1, *range(3, 1 + len(bars))]
    bottom = np.zeros(len(bars))
    for zone in ZONES:
        heights = 100 * np.array([bar[zone] for bar in bars])
        axes.bar(x, heights, 0.86, bottom=bottom, color=COLOURS[zone])
        bottom += heights
    count = len(bars) - 2
    ticks = {0: "start", 1: "end"} | {2 + i: str(i) for i in range(1, count + 1) if i == 1 or i % 4 == 0}
    axes.set_xticks(list(ticks), list(ticks.values()))
    for label in axes.get_xticklabels()[:2]:
        label.set(rotation=90)
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.7, x[-1] + 0.7)
    axes.set_xlabel("all layers | each binary layer at the end")


def _pooled(layers: list[list[dict]], side: str) -> dict[str, float]:
    found = [zones.shares(each, side) for each in layers]
    return {zone: float(np.mean([f[zone] for f in found])) for zone in ZONES}


def _each(layers: list[list[dict]], side: str) -> list[dict[str, float]]:
    return [
        {zone: float(np.mean([layer[side][zone] for layer in same])) for zone in ZONES}
        for same in zip(*layers, strict=True)
    ]
