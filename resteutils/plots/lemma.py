"""Lemma 3.1: the error falls with the power; what the truncations leave of it; where it says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from resteutils import lemma as statement
from resteutils.binarize import sign
from resteutils.estimators import STE, ReSTE
from resteutils.plots.style import INK, OKABE_ITO, blank, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["lemma"]

COLOURS = [OKABE_ITO[name] for name in ("blue", "green", "vermillion", "black")]


@styled
def lemma(found: statement.Distances) -> Figure:
    """Left: D over o for four vectors, with and without truncations. Right: coordinate by coordinate."""
    figure, axes = blank(7.2, 3.9, ncols=2)
    _norms(axes[0], found)
    _coordinates(axes[1])
    return figure


def _norms(axes: Axes, found: statement.Distances) -> None:
    for name, colour in zip(statement.samples(), COLOURS, strict=True):
        axes.plot(statement.POWERS, found[name, False], "-o", color=colour, ms=3.5, label=name)
        axes.plot(statement.POWERS, found[name, True], "--", color=colour, lw=1.3)
    axes.plot([], [], "--", color=INK, lw=1.3, label="the same, as trained")
    axes.set(xscale="log", xlabel="power o (log scale)", ylabel="D(sign(z), f(z, o)) / √n", ylim=(0, 1.75))
    axes.set_xticks([1, 3, 10, 100, 1000], ["1", "3", "10", "100", "1000"])
    axes.minorticks_off()
    axes.set_title("The norm never rises with o")
    axes.legend(loc="upper right", fontsize=7.5)


def _coordinates(axes: Axes) -> None:
    z = torch.cat([torch.linspace(0, 2, 2001), torch.tensor([1.5 + 1e-6])]).double().sort().values
    styles = ((1, OKABE_ITO["sky"]), (3, OKABE_ITO["blue"]), (10, "#04263f"))
    for o, colour in styles:
        axes.plot(z, (sign(z) - ReSTE(o=o).surrogate(z)).abs(), color=colour, label=f"ReSTE, o = {o}, as trained")
    ste = {"color": OKABE_ITO["vermillion"], "ls": (0, (4, 2)), "label": "STE, clip = 1"}
    axes.plot(z, (sign(z) - STE().surrogate(z)).abs(), **ste)
    low, high = statement.above_clipped_ste()
    axes.axvspan(low, high, color="#eef1f4", zorder=0)
    note = {"fontsize": 8, "color": INK}
    axes.text((low + high) / 2, 0.56, "above the\nclipped STE", ha="center", va="bottom", **note)
    axes.plot(0, 1, "o", color=INK, ms=5, clip_on=False, zorder=5)
    axes.annotate("z = 0: 1 at every o", (0, 1), (10, 6), textcoords="offset points", va="bottom", **note)
    axes.set(xlabel="|z|", ylabel="error of one coordinate, |sign(z) - f(z)|", xlim=(0, 2), ylim=(0, 1.75))
    axes.set_title("Coordinate by coordinate")
    axes.legend(loc="upper right", fontsize=7.5)
