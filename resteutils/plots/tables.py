"""The pictures that stand beside the tables: one row of dots per line, the published figure on the same axis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from resteutils import comparison, measured, paper, stats
from resteutils.plots.style import COLOURS, INK, SOFT, blank, diamond, dots, instead, styled
from resteutils.records import Runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["differences", "measured_beside_published"]


@styled
def measured_beside_published(item: str, runs: Iterable[Any], title: str = "") -> Figure:
    """Dots: every seed; bar: their mean; open diamond: the row's published figure; thin ticks: competitors."""
    runs = Runs.of(runs)
    values = measured.lines(runs)
    about = {(r.row, r.epochs): r for r in (run.recipe for run in runs.every)}
    values |= {key: {} for key in about if key not in values}  # every run of theirs diverged
    names = _names(values)
    figure, axes = blank(7.2, 1.2 + 0.3 * max(len(values), 3))
    for y, (key, seeds) in enumerate(values.items()):
        recipe = about[key]
        _line(axes, y, seeds, COLOURS.get(measured.method(recipe), COLOURS["other"]))
        cell = paper.find(item, recipe.row)
        if cell is not None and cell.value is not None:
            diamond(axes, cell.value, y)
            sourced = _sourced(item, measured.BACKBONES.get(recipe.model, recipe.model), recipe.bits)
            axes.plot(sourced, [y] * len(sourced), "|", color=SOFT, ms=9, zorder=2)
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
            instead(axes, y, "diverged")
        elif found.n:
            axes.plot(found.estimate, y, "o", color=colour, ms=6)
        else:
            instead(axes, y, "no seed in common with STE")
        known = known or found.low == found.low
        cell = paper.find("table3", row)
        if cell is not None and cell.value is not None and row != "ste-identity":
            diamond(axes, cell.value - base.value, y)
    axes.axvline(0, color="#888888", lw=1)
    _rows(axes, names)
    axes.set_xlabel("difference to STE in top-1 (points)")
    elsewhere = any(map(measured.elsewhere, runs))
    axes.set_title((title or "Estimators under one recipe") + " (measured on other data)" * elsewhere)
    handles = [
        _handle(axes, "o", COLOURS["other"], "measured, 95 % interval" if known else "measured, one seed each"),
        _handle(axes, "D", INK, "published (to the paper's STE)", hollow=True),
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


def _line(axes: Axes, y: int, seeds: stats.Values, colour: str) -> None:
    dots(axes, y, list(seeds.values()), colour)
    if seeds:
        axes.plot([stats.mean(seeds)], [y], "|", color=colour, ms=13, mew=2.2, zorder=3)


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
    handles.append(_handle(axes, "D", INK, published, hollow=True))
    handles.append(_handle(axes, "|", SOFT, "competitors, published"))
    _place(axes, handles)


def _place(axes: Axes, handles: list[Any]) -> None:
    """Below the axis, where no point can lie under it."""
    axes.figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))
