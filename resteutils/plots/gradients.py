"""Figure 2: the distribution of the latent weights' gradients in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from resteutils import measured
from resteutils.gradients import BINS, LOWEST, PER_DECADE, Gradients
from resteutils.kept import missing
from resteutils.plots.style import OKABE_ITO, absent, blank, by_row, longest, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figure2"]

COLOURS = {"ste": OKABE_ITO["vermillion"], "ede": OKABE_ITO["green"], "reste": OKABE_ITO["blue"]}
DASHES = {"ste": "--", "ede": "-.", "reste": "-"}


@styled
def figure2(found: Sequence[Gradients]) -> Figure:
    """Pooled over the binary layers (top), and layer by layer (bottom), on logarithmic scales."""
    figure, axes = blank(7.2, 7.0, nrows=3, height_ratios=[1.0, 1.0, 1.15])
    drawn = longest(found)
    rows = by_row(drawn)
    shown = {row: [g for g in group if g.layers] for row, group in rows.items()}
    shown = {row: group for row, group in shown.items() if group}
    if not shown:
        absent(axes[0], missing([g.run for g in drawn], "The gradients of a batch"))
        for other in axes[1:]:
            other.set_axis_off()
        return figure
    for row, group in shown.items():
        _distribution(axes[0], row, group, free_of_scale=False)
        _distribution(axes[1], row, group, free_of_scale=True)
    for place in axes[:2]:
        place.set(xscale="log", ylabel="weights per decade (%)", ylim=(0, 1.5 * place.get_ylim()[1]))
        place.legend(loc="upper left")
    below = any(g.pooled["histogram"][0] for group in shown.values() for g in group)
    axes[0].set(xlabel="size of a gradient, |g|" + below * " (the leftmost bin holds all smaller ones)")
    axes[1].set(xlabel="size relative to the mean, |g| / mean |g|", xlim=(1e-5, 1e3))
    after = f"All binary layers after {measured.epochs_words(drawn[0].run.recipe.epochs)}"
    axes[0].set_title(f"{after}: as they are")
    axes[1].set_title(f"{after}: free of scale")
    _layers(axes[2], shown)
    lacking = [row for row in rows if row not in shown]
    if lacking:
        axes[0].set_title(f"only records survive of {', '.join(lacking)}", loc="right", fontsize=8, fontweight="normal")
    return figure


def _distribution(axes: Axes, row: str, group: Sequence[Gradients], free_of_scale: bool) -> None:
    """Weights per decade of |g| in percent of all weights; the area under the curve is the share that is not zero."""
    centres = 10.0 ** (LOWEST + (np.arange(BINS) + 0.5) / PER_DECADE)
    for number, g in enumerate(group):
        pooled = g.pooled
        heights = 100 * PER_DECADE * np.array(pooled["histogram"]) / pooled["count"]
        x = centres / pooled["mean"] if free_of_scale and pooled["mean"] else centres
        inside = np.flatnonzero(heights > heights.max() * 2e-3)
        part = slice(max(inside[0] - 1, 0), inside[-1] + 2) if inside.size else slice(0)
        label = _said(row, group, free_of_scale) if number == 0 else None
        axes.plot(x[part], heights[part], DASHES.get(row, "-"), color=COLOURS.get(row), lw=1.7, label=label)


def _said(row: str, group: Sequence[Gradients], free_of_scale: bool) -> str:
    key, name = ("spread", "std / mean") if free_of_scale else ("s", "s = var(|g|)")
    values = [g.pooled[key] for g in group if g.pooled[key] is not None]
    mean = np.mean(values) if values else float("nan")
    digits = ".2f" if free_of_scale else ".1e"
    several = f" ± {np.std(values, ddof=1):{digits}}" if len(values) > 1 else ""
    zeros = 100 * np.mean([g.pooled["zeros"] / g.pooled["count"] for g in group])
    none = f"; {zeros:.1f} % are zero" if zeros >= 0.05 and not free_of_scale else ""
    return f"{measured.method(group[0].run.recipe)}: {name} = {mean:{digits}}{several}{none}"


def _layers(axes: Axes, shown: dict[str, list[Gradients]]) -> None:
    """Per layer the median of |g| (dot), the middle half (thick) and 5 to 95 % (thin), of what is not zero; means over
    the seeds of logs. A cross on the axis: a seed whose gradients are all zero there."""
    count, dead = len(next(iter(shown.values()))[0].layers) - 1, False
    for offset, (row, group) in zip(np.linspace(-0.22, 0.22, max(len(shown), 2)), shown.items(), strict=False):
        x, q, colour = np.arange(1, count + 1) + offset, _quantiles(group, count), COLOURS.get(row)
        known = np.isfinite(q[:, 2])
        axes.vlines(x[known], q[known, 0], q[known, 4], color=colour, lw=1)
        axes.vlines(x[known], q[known, 1], q[known, 3], color=colour, lw=3)
        axes.plot(x[known], q[known, 2], "o", color="white", mec=colour, ms=3.6, label=_name(group))
        silent = x[[any(g.layers[i]["zeros"] == g.layers[i]["count"] for g in group) for i in range(count)]]
        axes.plot(silent, np.full_like(silent, 0.03), "x", color=colour, ms=5, transform=axes.get_xaxis_transform())
        dead = dead or len(silent) > 0
    axes.set(yscale="log", xlabel="binary layer, from input to output", ylabel="size of a gradient, |g|")
    axes.set(xlim=(0.4, count + 0.6), xticks=range(1, count + 1))
    axes.grid(visible=False, axis="x")
    axes.set_title("Layer by layer: median, middle half, 5 to 95 %" + dead * "; crosses: all are zero")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.18)
    axes.legend(loc="upper center", ncols=len(shown))


def _name(group: Sequence[Gradients]) -> Any:
    return measured.method(group[0].run.recipe)


def _quantiles(group: Sequence[Gradients], count: int) -> np.ndarray:
    """(layers, 5) quantiles of the nonzero |g|, geometric means over the seeds; NaN where there are none."""
    values = np.array([[layer["quantiles"] for layer in g.layers[:count]] for g in group])
    return np.exp(np.ma.log(np.ma.masked_less_equal(values, 0)).mean(axis=0)).filled(np.nan)
