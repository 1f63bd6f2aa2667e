"""README's picture: accuracy over the power, and every estimator on the plane of error and instability."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from resteutils.evidence import stats
from resteutils.evidence.comparison import Rows
from resteutils.evidence.names import method
from resteutils.items.figure4.numbers import best_power
from resteutils.items.figure4.picture import draw_plane
from resteutils.items.style import COLOURS, SOFT, blank, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CONTROL", "figure", "png"]

CONTROL, BASE = "ste-gain-clip", "ste"
WIDTH, HEIGHT, DPI = 12.0, 6.0, 100


@styled
def figure(powers: dict[float, stats.Values], rows: Rows, plane: pd.DataFrame, caption: str) -> Figure:
    """Draw 1200 x 600 pixels: left the seeds of every power and their means, STE and the control as lines; right the
    plane of :mod:`resteutils.items.figure4.plane`."""
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 11, "axes.titlesize": 13, "legend.fontsize": 10.5}):
        made, (left, right) = blank(WIDTH, HEIGHT, ncols=2, width_ratios=[1, 1.25])
        _hump(left, powers, rows)
        draw_plane(right, plane, size=9.0)
        right.set_title("o trades error for instability, up to o = 5")
        made.supxlabel(caption, x=0.01, ha="left", fontsize=9.5, color="#5b6570")
    return made


def _hump(axes: Axes, powers: dict[float, stats.Values], rows: Rows) -> None:
    o = sorted(powers)
    means = [stats.mean(powers[power]) for power in o]
    for power in o:
        seeds = list(powers[power].values())
        axes.plot([power] * len(seeds), seeds, "o", color=COLOURS["ReSTE"], alpha=0.45, ms=7, mew=0)
    axes.plot(o, means, "-", color=COLOURS["ReSTE"], lw=2.5, label="ReSTE: seeds and their mean")
    for row, colour, dash in ((CONTROL, COLOURS["other"], "--"), (BASE, COLOURS["STE"], ":")):
        if rows.values.get(row):
            name = method(row) + " (control)" * (row == CONTROL)
            axes.axhline(stats.mean(rows.values[row]), color=colour, ls=dash, lw=2, label=name)
    axes.axvline(best_power("resnet20"), color=SOFT, lw=1.2, ls=(0, (2, 2)), zorder=0, label="the paper's power")
    axes.set(xscale="log", xlabel="power o at the end of training", ylabel="top-1 (%)")
    axes.set_xticks(o, [f"{power:g}" for power in o])
    axes.minorticks_off()
    best = sorted(o, key=lambda power: -stats.mean(powers[power]))[:2]
    axes.set_title(f"Accuracy peaks in the middle, at o = {' and '.join(f'{power:g}' for power in sorted(best))}")
    axes.legend(loc="lower left")


def png(made: Figure) -> bytes:
    """The figure as a PNG whose bytes depend on nothing but what is drawn."""
    image = io.BytesIO()
    made.savefig(image, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return image.getvalue()
