"""What the pictures share: colours that any eye tells apart, labels that do not overlap, a line for missing data."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["INK", "OKABE_ITO", "SOFT", "absent", "by_row", "label_points", "longest", "ramp"]

OKABE_ITO = {
    "black": "#000000",
    "orange": "#e69f00",
    "sky": "#56b4e9",
    "green": "#009e73",
    "yellow": "#f0e442",
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "purple": "#cc79a7",
}
INK, SOFT = "#24303a", "#8a939c"


def ramp(values: Sequence[float]) -> dict[float, Any]:
    """A colour for each value of an ordered series: from Okabe and Ito's sky through their blue to near black."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("ramp", ["#8fd0f5", OKABE_ITO["blue"], "#04263f"])
    ordered = sorted(set(values))
    return {v: colours(i / max(len(ordered) - 1, 1)) for i, v in enumerate(ordered)}


def absent(axes: Axes, text: str, width: int = 60) -> None:
    """One line in the picture's place, where what it needs is not there."""
    axes.clear()
    axes.set_axis_off()
    lines = "\n".join(textwrap.wrap(text, width))
    axes.text(0.5, 0.5, lines, ha="center", va="center", transform=axes.transAxes, color=INK, fontsize=8.5)


def by_row(found: Iterable[Any]) -> dict[str, list[Any]]:
    """Measurements of runs (``.run``) grouped by the row of their recipe, in order of appearance."""
    rows: dict[str, list[Any]] = {}
    for each in found:
        rows.setdefault(each.run.recipe.row, []).append(each)
    return rows


def longest(found: Sequence[Any], epochs: Callable[[Any], int] = lambda each: each.run.recipe.epochs) -> list[Any]:
    """Those of the most epochs: a picture shows one budget and says which, the table shows all."""
    most = max(map(epochs, found), default=0)
    return [each for each in found if epochs(each) == most]


_PLACES = [
    (dx, dy)
    for far in (1.0, 1.7, 2.6, 3.6)
    for dx, dy in ((1, 0), (-1, 0), (0.7, 0.9), (-0.7, 0.9), (0.7, -0.9), (-0.7, -0.9), (0, 1.1), (0, -1.1))
    for dx, dy in [(dx * far, dy * far)]
]


def label_points(axes: Axes, points: Iterable[tuple[float, float, str]], size: float = 7.5, gap: float = 7.0) -> None:
    """Write a name beside each point, at the nearest place where it covers neither another name nor a point; a thin
    line leads back to points whose name stands further off. Limits and scales of the axes must be final."""
    points = list(points)
    figure = axes.figure
    figure.draw_without_rendering()
    figure_scale = figure.dpi / 72
    dots = [axes.transData.transform((x, y)) for x, y, _ in points]
    taken: list[tuple[float, float, float, float]] = []
    inside = axes.get_window_extent()
    for (px, py), (x, y, name) in zip(dots, points, strict=True):
        best = None
        for dx, dy in _PLACES:
            box = _box(px, py, dx * gap * figure_scale, dy * gap * figure_scale, name, size * figure_scale)
            cost = sum(_overlap(box, other) for other in taken)
            reach = 3.5 * figure_scale
            cost += sum(_overlap(box, (qx - reach, qy - reach, qx + reach, qy + reach)) for qx, qy in dots)
            if box[0] < inside.x0 or box[2] > inside.x1 or box[1] < inside.y0 or box[3] > inside.y1:
                cost += 1e6
            if best is None or cost < best[0] - 1e-9:
                best = (cost, dx, dy, box)
            if cost == 0:
                break
        _, dx, dy, box = best
        taken.append(box)
        far = max(abs(dx), abs(dy)) > 1.2
        line = {"arrowprops": {"arrowstyle": "-", "color": SOFT, "lw": 0.6, "shrinkA": 0, "shrinkB": 2}} if far else {}
        align = {"ha": "left" if dx > 0 else "right" if dx < 0 else "center", "va": "center"}
        axes.annotate(name, (x, y), (dx * gap, dy * gap), textcoords="offset points", fontsize=size, **align, **line)


def _box(px: float, py: float, dx: float, dy: float, name: str, size: float) -> tuple[float, float, float, float]:
    """Where the name would be, in pixels: DejaVu Sans is about 0.6 of its size wide."""
    width, height, x, y = 0.6 * size * len(name), 1.15 * size, px + dx, py + dy
    left = x if dx > 0 else x - width if dx < 0 else x - width / 2
    return left, y - height / 2, left + width, y + height / 2


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
