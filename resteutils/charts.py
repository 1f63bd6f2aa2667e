"""The pictures that stand beside the tables: one row of dots per line, the published figure on the same axis.

Matplotlib is imported when a picture is drawn. Every function returns a Figure that belongs to no global state;
``results.save_item`` prints profile, dataset, epochs and n below it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec

from resteutils import comparison, measured, paper, stats
from resteutils.records import Runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

__all__ = ["COLOURS", "STYLE", "blank", "differences", "measured_beside_published", "styled"]

# Okabe and Ito's palette: told apart with any colour vision, and in grey.
COLOURS = {"ReSTE": "#0072b2", "STE": "#d55e00", "FP": "#444444", "other": "#009e73", "published": "#111111"}

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorator: draw in the house style, and leave matplotlib's settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        import matplotlib as mpl

        with mpl.rc_context({**mpl.rcParamsDefault, "backend": mpl.rcParams["backend"], **STYLE}):
            return draw(*args, **kwargs)

    return wrapper


def blank(width: float, height: float, **subplots: Any) -> tuple[Figure, Any]:
    """A figure and its axes, sizes in inches, outside pyplot's global list; for functions that are :func:`styled`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**subplots)


@styled
def measured_beside_published(item: str, runs: Iterable[Any], title: str = "") -> Figure:
    """Dots: every seed; bar: their mean; open diamond: the row's published figure; thin ticks: competitors."""
    runs = Runs.of(runs)
    values = measured.lines(runs)
    about = {(r.row, r.epochs): r for r in (run.recipe for run in [*runs, *runs.diverged])}
    values |= {key: {} for key in about if key not in values}  # every run of theirs diverged
    names = _names(values)
    figure, axes = blank(7.2, 1.2 + 0.3 * max(len(values), 3))
    for y, (key, seeds) in enumerate(values.items()):
        recipe = about[key]
        _dots(axes, y, seeds, COLOURS.get(measured.method(recipe), COLOURS["other"]))
        cell = paper.find(item, recipe.row)
        if cell is not None and cell.value is not None:
            axes.plot(cell.value, y, "D", mfc="none", mec=COLOURS["published"], ms=7, zorder=4)
            sourced = _sourced(item, measured.BACKBONES.get(recipe.model, recipe.model), recipe.bits)
            axes.plot(sourced, [y] * len(sourced), "|", color="#8a939c", ms=9, zorder=2)
    _rows(axes, names)
    axes.set_xlabel("top-1 accuracy (%)")
    elsewhere = any(map(measured.elsewhere, runs))
    axes.set_title((title or "Measured beside published") + " (measured on other data)" * elsewhere)
    published = "published (the paper's data)" if elsewhere else "published"
    _legend(axes, {measured.method(about[key]) for key in values}, published)
    return figure


@styled
def differences(runs: Iterable[Any], title: str = "") -> Figure:
    """Table 3: each estimator's difference to STE with its 95 % interval; open diamonds: the published differences."""
    runs = Runs.of(runs)
    lines = {key: v for key, v in measured.lines(runs).items() if key[0] != comparison.REFERENCE}
    lines |= {key: {} for key in measured.diverged(runs) if key not in lines}
    names = _names(lines)
    figure, axes = blank(7.2, 1.4 + 0.3 * max(len(lines), 3))
    base, known = paper.find("table3", "ste-identity"), False
    for y, ((row, epochs), values) in enumerate(lines.items()):
        groups = measured.by_seed(runs, epochs)
        found = stats.difference(values, groups.get(comparison.REFERENCE, {}), stats.pool(groups))
        colour = COLOURS["ReSTE"] if row == "reste" else COLOURS["other"]
        if found.low == found.low:
            axes.plot([found.low, found.high], [y, y], "-", color=colour, lw=2, solid_capstyle="butt")
        if not values:
            _instead(axes, y, "diverged")
        elif found.n:
            axes.plot(found.estimate, y, "o", color=colour, ms=6)
        else:
            _instead(axes, y, "no seed in common with STE")
        known = known or found.low == found.low
        cell = paper.find("table3", row)
        if cell is not None and cell.value is not None and row != "ste-identity":
            axes.plot(cell.value - base.value, y, "D", mfc="none", mec=COLOURS["published"], ms=7)
    axes.axvline(0, color="#888888", lw=1)
    _rows(axes, names)
    axes.set_xlabel("difference to STE in top-1 (points)")
    elsewhere = any(map(measured.elsewhere, runs))
    axes.set_title((title or "Estimators under one recipe") + " (measured on other data)" * elsewhere)
    handles = [
        _handle(axes, "o", COLOURS["other"], "measured, 95 % interval" if known else "measured, one seed each"),
        _handle(axes, "D", COLOURS["published"], "published (to the paper's STE)", hollow=True),
    ]
    _place(axes, handles)
    return figure


def _sourced(item: str, backbone: str, bits: str) -> list[float]:
    """Competitors' published figures, without those only recalled and those that are not of this table."""
    return [
        cell.value
        for cell in paper.competitors(item)
        if (cell.backbone, cell.bits) == (backbone, bits)
        and cell.status in ("sourced", "quoted")
        and cell.value is not None
        and cell.in_table
    ]


def _names(lines: Iterable[tuple[str, int]]) -> list[str]:
    """Rows as they are called on the axis; with their epochs where a row stands at several."""
    keys = list(lines)
    several = len(keys) > len({row for row, _ in keys})
    return [f"{row}, {epochs} epochs" if several else row for row, epochs in keys]


def _dots(axes: Axes, y: int, seeds: stats.Values, colour: str) -> None:
    if not seeds:
        _instead(axes, y, "diverged")
        return
    axes.plot(list(seeds.values()), [y] * len(seeds), "o", color=colour, ms=5, alpha=0.55, mew=0, zorder=3)
    axes.plot([stats.mean(seeds)], [y], "|", color=colour, ms=13, mew=2.2, zorder=3)


def _instead(axes: Axes, y: int, text: str) -> None:
    """A word in the place of a dot."""
    across = axes.get_yaxis_transform()
    axes.text(0.5, y, text, transform=across, ha="center", va="center", fontsize=8, color=COLOURS["published"])


def _rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.06)


def _handle(axes: Axes, marker: str, colour: str, label: str, hollow: bool = False) -> Any:
    face = "none" if hollow else colour
    return axes.plot([], [], marker, mfc=face, mec=colour, color=colour, ms=6, label=label)[0]


def _legend(axes: Axes, methods: set[str], published: str) -> None:
    handles = [_handle(axes, "o", COLOURS.get(m, COLOURS["other"]), f"{m}, each seed") for m in sorted(methods)]
    handles.append(_handle(axes, "D", COLOURS["published"], published, hollow=True))
    handles.append(_handle(axes, "|", "#8a939c", "competitors, published"))
    _place(axes, handles)


def _place(axes: Axes, handles: list[Any]) -> None:
    """Below the axis, where no point can lie under it."""
    axes.figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))
