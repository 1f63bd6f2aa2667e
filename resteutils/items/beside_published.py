"""What this project measured beside what was published: what Tables 1 and 2 share, and their picture.

A line is a row at a number of epochs: mean ± std over its seeds, of the last epoch and of the best epoch on the test
set, which is what was published. The picture has one row of dots per line, the published figure on the same axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resteutils.evidence import paper, stats, summary, verdict
from resteutils.evidence.checks import ordering_check
from resteutils.evidence.comparison import Rows
from resteutils.evidence.names import method
from resteutils.evidence.table import Table, every_run
from resteutils.items.style import COLOURS, INK, SOFT, blank, diamond, dots, styled
from resteutils.runs.records import Runs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLUMNS", "Line", "figure", "frame_line", "lines", "orderings", "published_rows", "table"]

COLUMNS = ("row backbone method bits published source measured_mean measured_std n profile epochs").split()


@dataclass(frozen=True)
class Line:
    row: str
    backbone: str
    method: str
    bits: str
    epochs: int
    top1: dict[int, float]
    top5: dict[int, float]
    best: dict[int, float]


def lines(runs: Runs) -> list[Line]:
    top1, top5 = summary.lines(runs, "top1"), summary.lines(runs, "top5")
    best = summary.lines(runs, "best_top1")
    recipes = {(r.row, r.epochs): r for r in (run.recipe for run in runs.every)}
    return [
        Line(
            row,
            summary.BACKBONES.get(r.model, r.model),
            summary.method(r),
            r.bits,
            epochs,
            *(values.get((row, epochs), {}) for values in (top1, top5, best)),
        )
        for (row, epochs), r in recipes.items()
    ]


def frame_line(item: str, line: Line, profile: str) -> dict[str, Any]:
    cell = paper.find(item, line.row)
    return {
        "row": line.row,
        "backbone": line.backbone,
        "method": line.method,
        "bits": line.bits,
        "published": cell.value if cell else None,
        "source": cell.mark if cell else "not in the paper",
        "measured_mean": stats.mean(line.top1),
        "measured_std": stats.std(line.top1),
        "n": len(line.top1),
        "profile": profile,
        "epochs": line.epochs,
    }


def table(item: str, runs: Runs, profile: str, frame: pd.DataFrame, metrics: dict[str, str]) -> Table:
    sections = {
        "Measured beside published (top-1, %)" if len(metrics) == 1 else "Measured beside published (%)": _reading(
            item, runs, metrics
        ),
        "Every run": every_run(runs, metrics),
        "Published competitors (%)": _competitors(item, metrics),
    }
    notes = (
        "Measured: accuracy after the last epoch, mean ± standard deviation over the seeds. The published figures are "
        "the best epoch on the test set; ours of that kind stands beside it.",
    )
    if any(map(summary.elsewhere, runs)):
        notes += ("These runs do not use the paper's data: their figures are not comparable with the published ones.",)
    notes += (*summary.diverged_words(runs), *summary.shared_words(runs))
    return Table(frame, sections, summary.caption(runs, profile), notes)


def _reading(item: str, runs: Runs, metrics: dict[str, str]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for line in lines(runs):
        shown: dict[str, Any] = {"Row": line.row}
        for metric, label in metrics.items():
            published, values = paper.value(item, line.row, metric), getattr(line, metric)
            shown["Published" if len(metrics) == 1 else f"{label} published"] = (
                "" if published is None else f"{published:.2f}"
            )
            shown["Last epoch" if len(metrics) == 1 else f"{label}, last epoch"] = (
                summary.spread(values) if values else "diverged"
            )
        cell = paper.find(item, line.row)
        shown["Best on test"] = summary.spread(line.best)
        shown |= {"n": len(line.top1), "Epochs": line.epochs}
        shown |= {"Backbone": line.backbone, "Method": line.method, "W/A": line.bits}
        shown["Source"] = cell.mark if cell else "ours, not in the paper"
        rows.append(shown)
    return pd.DataFrame(rows)


def _competitors(item: str, metrics: dict[str, str]) -> pd.DataFrame:
    import pandas as pd

    if len(metrics) == 1:
        rows = [(c, {"Top-1": c.value}) for c in paper.competitors(item)]
    else:  # top-1 and top-5 cells of a method follow one another in paper.csv
        pairs = zip(paper.competitors(item, "top1"), paper.competitors(item, "top5"), strict=True)
        rows = [(a, {"Top-1": a.value, "Top-5": b.value}) for a, b in pairs]
    return pd.DataFrame(
        [
            {"Backbone": c.backbone, "Method": c.method, "W/A": c.bits}
            | {name: f"{value:.2f}" if value is not None else "" for name, value in values.items()}
            | {"Standing": c.mark, "Note": c.note}
            for c, values in rows
        ]
    )


# --- for verdicts ---


def published_rows(item: str) -> list[str]:
    """The rows that stand in the paper's table with a figure."""
    return [c.row for c in paper.cells(item, metric="top1") if c.row and c.in_table and c.value is not None]


def orderings(runs: list[Any], pairs: Iterable[tuple[str, str]]) -> list[verdict.Check]:
    budgets, checks = sorted({run.recipe.epochs for run in runs}), []
    recipes = {(run.recipe.row, run.recipe.epochs): run.recipe for run in Runs.of(runs).every}
    for epochs in budgets:
        rows, at = Rows.of(runs, epochs), f" at {epochs} epochs" if len(budgets) > 1 else ""
        for a, b in pairs:
            if {a, b} <= rows.values.keys() | rows.lost.keys():
                near = _pooled([recipes[row, epochs] for row in dict.fromkeys((a, b, *rows.values))])
                checks.append(ordering_check(a, b, rows.only(near), f"{a} above {b}{at}"))
    return checks


def _pooled(recipes: Sequence[Any]) -> list[str]:
    """The rows whose variance is pooled for a comparison of the first two: those of their backbones, since seeds
    scatter alike within one and not across, and of rows that are one and the same run only one.
    """
    backbones = {summary.BACKBONES.get(r.model, r.model) for r in recipes[:2]}
    near = {r.identity: r.row for r in reversed(recipes) if summary.BACKBONES.get(r.model, r.model) in backbones}
    return list(dict.fromkeys([r.row for r in recipes[:2]] + list(near.values())))


# --- the picture ---


@styled
def figure(item: str, runs: Iterable[Any], title: str) -> Figure:
    """Dots: every seed; bar: their mean; open diamond: the row's published figure; thin ticks: competitors."""
    runs = Runs.of(runs)
    values = summary.lines(runs)
    about = {(r.row, r.epochs): r for r in (run.recipe for run in runs.every)}
    values |= {key: {} for key in about if key not in values}  # every run of theirs diverged
    names = names_of(values)
    figure, axes = blank(7.2, 1.2 + 0.3 * max(len(values), 3))
    for y, (key, seeds) in enumerate(values.items()):
        recipe = about[key]
        draw_line(axes, y, seeds, COLOURS.get(summary.method(recipe), COLOURS["other"]))
        if (published := paper.value(item, recipe.row)) is not None:
            diamond(axes, published, y)
            sourced = _sourced(item, summary.BACKBONES.get(recipe.model, recipe.model), recipe.bits)
            axes.plot(sourced, [y] * len(sourced), "|", color=SOFT, ms=9, zorder=2)
    name_rows(axes, names)
    axes.set_xlabel("top-1 accuracy (%)")
    elsewhere = any(map(summary.elsewhere, runs))
    axes.set_title(title + " (measured on other data)" * elsewhere)
    label = "published (the paper's data)" if elsewhere else "published"
    draw_legend(axes, {summary.method(about[key]) for key in values}, label)
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


def names_of(lines: Iterable[tuple[str, int]]) -> list[str]:
    """Rows as they are called on the axis; with their epochs where a row stands at several."""
    keys = list(lines)
    several = len(keys) > len({row for row, _ in keys})
    return [f"{method(row)}, {epochs} epochs" if several else method(row) for row, epochs in keys]


def draw_line(axes: Axes, y: int, seeds: stats.Values, colour: str) -> None:
    dots(axes, y, list(seeds.values()), colour)
    if seeds:
        axes.plot([stats.mean(seeds)], [y], "|", color=colour, ms=13, mew=2.2, zorder=3)


def name_rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.06)


def handle(axes: Axes, marker: str, colour: str, label: str, hollow: bool = False) -> Any:
    face = "none" if hollow else colour
    return axes.plot([], [], marker, mfc=face, mec=colour, color=colour, ms=6, label=label)[0]


def draw_legend(axes: Axes, methods: set[str], published: str) -> None:
    handles = [handle(axes, "o", COLOURS.get(m, COLOURS["other"]), f"{m}, each seed") for m in sorted(methods)]
    handles.append(handle(axes, "D", INK, published, hollow=True))
    handles.append(handle(axes, "|", SOFT, "competitors, published"))
    place_legend(axes, handles)


def place_legend(axes: Axes, handles: list[Any]) -> None:
    """Below the axis, where no point can lie under it."""
    axes.figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))
