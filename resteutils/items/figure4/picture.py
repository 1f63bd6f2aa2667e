"""Figure 4: error, instability and accuracy against the power, and the trade-off as one plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from resteutils.evidence import stats, summary
from resteutils.evidence.names import method
from resteutils.items.figure4.numbers import NETWORKS, POWERS, best_power
from resteutils.items.style import INK, OKABE_ITO, SOFT, absent, label_points, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_plane", "figure"]

DEFINED = {"color": OKABE_ITO["blue"], "marker": "o", "ls": "-", "ms": 4.5, "lw": 1.6}
CODE = {"color": OKABE_ITO["vermillion"], "marker": "s", "ls": "--", "ms": 4, "lw": 1.4}
DASHED = "dashed: as in the code"
FROZEN = {
    "initial": {"color": SOFT, "ls": ":", "lw": 1.6, "label": "initial weights frozen"},
    "trained": {"color": OKABE_ITO["green"], "ls": "-.", "lw": 1.5, "label": f"trained weights frozen ({DASHED})"},
}


@styled
def figure(found: pd.DataFrame, still: pd.DataFrame, plane: pd.DataFrame) -> Figure:
    """e, s, scale-free spread and accuracy against the power: of one network four panels, of several a column each.
    Below: every estimator on the plane of e and s."""
    from matplotlib.figure import Figure

    models = [model for model in NETWORKS if model in set(found["model"])]
    drawn = found[found["epochs"] == found.groupby("model")["epochs"].transform("max")]
    alone = len(models) < 2
    figure = Figure(figsize=(7.2, 8.6 if alone else 12.4), layout="constrained")
    heights = [1, 1, 1.9] if alone else [1, 1, 1, 1, 2.6]
    grid = figure.add_gridspec(len(heights), 2 if alone else len(models), height_ratios=heights)
    places = np.ndindex(2, 2) if alone else np.ndindex(4, len(models))
    axes = np.array([figure.add_subplot(grid[place]) for place in places]).reshape(4, -1)
    for column, model in enumerate(models):
        mine = drawn[drawn["model"] == model]
        _network(axes[:, column], mine, still[still["model"] == model])
        _mark_best(axes[:, column], model)
        axes[3, column].set_xlabel("power at the end, o (log)")
        if alone:
            axes[2, column].set_xlabel("power at the end, o (log)")
            for place, said in zip(axes[:, column], _said(mine, summary.BACKBONES[model]), strict=True):
                place.set_title(said)
        else:
            axes[0, column].set_title(f"{summary.BACKBONES[model]}, {summary.epochs_words(mine['epochs'].iloc[0])}")
    for place, said in zip(axes[:, 0], ("e / ceiling", "s, var(|g|)", "spread, std/mean", "top-1 (%)"), strict=True):
        place.set_ylabel(said)
    figure.align_ylabels(axes[:, 0])
    draw_plane(figure.add_subplot(grid[-1, :]), plane)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _said(lines: pd.DataFrame, network: str) -> list[str]:
    """What each panel shows: how the ends of its series differ, and where accuracy is highest."""
    means = lines.groupby("o")[["share_definition", "instability_definition", "spread", "top1"]].mean()
    rises = {name: means[name].iloc[-1] > means[name].iloc[0] for name in means}
    ends = f"from o = {means.index[0]:g} to {means.index[-1]:g}"
    return [
        f"{network}: error {'rises' if rises['share_definition'] else 'falls'} with o",
        f"Instability {'rises' if rises['instability_definition'] else 'falls'} {ends}",
        f"Scale-free spread {'rises' if rises['spread'] else 'does not rise'}",
        f"Accuracy is highest at o = {means['top1'].idxmax():g}" if means["top1"].notna().any() else "Accuracy",
    ]


def _network(axes: np.ndarray, lines: pd.DataFrame, still: pd.DataFrame) -> None:
    _series(axes[0], lines, "share_definition", label="as defined", **DEFINED)
    _series(axes[0], lines, "share_code", label="as in the authors' code", **CODE)
    _series(axes[1], lines, "instability_definition", **DEFINED)
    _series(axes[1], lines, "instability_code", **CODE)
    _series(axes[2], lines, "spread", **DEFINED)
    _series(axes[3], lines, "top1", **DEFINED | {"color": OKABE_ITO["black"], "marker": "D"})
    for weights, style in FROZEN.items():
        here = still[still["weights"] == weights]
        lacking = {"label": f"{weights} weights frozen: not drawn, only records survive"} if here.empty else {}
        axes[0].plot(here["o"], here["share_definition"], zorder=1, **style | lacking)
        if here["instability_code"].notna().any():
            axes[1].plot(here["o"], here["instability_definition"], zorder=1, **style | {"label": None})
            axes[1].plot(here["o"], here["instability_code"], zorder=1, **style | {"label": None, "ls": "--"})
    axes[1].set_yscale("log")
    axes[0].set_ylim(0, 1.03)
    for place in axes:
        place.set_xscale("log")
        place.set_xlim(POWERS[0] / 1.12, POWERS[-1] * 1.12)
        place.set_xticks(POWERS, [f"{o:g}" if o in (1, 2, 3, 5, 10, 20) else "" for o in POWERS])
        place.minorticks_off() if place is not axes[1] else place.xaxis.minorticks_off()
        place.tick_params(labelsize=8)


def _series(axes: Axes, lines: pd.DataFrame, column: str, **style: object) -> None:
    """Means over the seeds with their standard deviation as error bars, where there are several; of s, which is drawn
    in decades, geometric means with their factor.
    """
    groups = lines.groupby("o")[column]
    if column.startswith("instability"):
        found = [stats.geometric(values) for _, values in groups]
        middle = np.array([mean for mean, _ in found])
        factor = np.array([factor for _, factor in found])
        bars = np.array([middle - middle / factor, middle * factor - middle])
    else:
        middle, bars = groups.mean().to_numpy(), groups.std().to_numpy()
    powers = np.array(list(groups.groups))
    axes.plot(powers, middle, **style)
    several = np.isfinite(bars).reshape(-1, len(powers)).all(0)
    if several.any():
        bars = bars[..., several]
        axes.errorbar(
            powers[several], middle[several], bars, fmt="none", ecolor=style["color"], capsize=2.5, elinewidth=1
        )


def _mark_best(axes: np.ndarray, model: str) -> None:
    for place in axes:
        place.axvline(best_power(model), color=SOFT, lw=0.9, ls=(0, (2, 2)), zorder=0, label="the paper's best power")


def draw_plane(axes: Axes, plane: pd.DataFrame, size: float = 7.5) -> None:
    """Every estimator by its error and its instability, accuracy as colour; ``size``: of the names, in points."""
    if plane.empty:
        absent(axes, "The plane needs runs of ResNet-20; this call had none.")
        return
    powers = plane.dropna(subset=["o"]).sort_values("o")
    axes.plot(powers["e"], powers["s"], color=SOFT, lw=1, zorder=1)
    ends = {"vmin": plane["top1"].min(), "vmax": plane["top1"].max(), "cmap": "cividis", "edgecolors": INK}
    dots = axes.scatter(powers["e"], powers["s"], c=powers["top1"], s=62, marker="o", lw=0.7, zorder=3, **ends)
    others = plane[plane["o"].isna()]
    axes.scatter(others["e"], others["s"], c=others["top1"], s=48, marker="D", lw=0.7, zorder=3, **ends)
    bar = axes.figure.colorbar(dots, ax=axes, pad=0.01, aspect=30)
    bar.set_label("top-1, last epoch (%)")
    bar.outline.set_visible(False)
    axes.set(xlabel="estimating error e, as defined", ylabel="gradient instability s, as defined", yscale="log")
    axes.margins(x=0.13, y=0.12)
    axes.set_title("ReSTE moves along the line; diamonds: other estimators; yellow: accurate")
    most = plane["n"].max()  # the caption counts the figure's own seeds; a point of fewer says so
    counts = ["" if n == most else f" (n = {n})" for n in plane["n"]]
    names = [(r.e, r.s, method(r.label) + count) for r, count in zip(plane.itertuples(), counts, strict=True)]
    label_points(axes, names, size, line=list(zip(powers["e"], powers["s"], strict=True)))
