"""What the pictures share: the house style and its colours, dots and diamonds, labels that do not overlap, a line for
missing data.

Matplotlib is imported when a picture is drawn.
"""

from __future__ import annotations

import functools
import itertools
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

from resteutils.evidence.colours import OKABE_ITO

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

__all__ = [
    "COLOURS",
    "INK",
    "OKABE_ITO",
    "SOFT",
    "STYLE",
    "absent",
    "blank",
    "by_row",
    "diamond",
    "dots",
    "instead",
    "label_points",
    "longest",
    "ramp",
    "styled",
]

INK, SOFT = "#24303a", "#8a939c"

# By the method's name in the tables.
COLOURS = {"ReSTE": OKABE_ITO["blue"], "STE": OKABE_ITO["vermillion"], "FP": "#444444", "other": OKABE_ITO["green"]}

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


def dots(axes: Axes, y: int, values: Sequence[float], colour: str, size: float = 5.0, alpha: float = 0.55) -> None:
    """The accuracies of a line's seeds; where there are none, every run of it diverged."""
    if values:
        axes.plot(values, [y] * len(values), "o", color=colour, ms=size, alpha=alpha, mew=0, zorder=3)
    else:
        instead(axes, y, "diverged")


def instead(axes: Axes, y: int, text: str) -> None:
    """A word in the place of a dot."""
    axes.text(0.5, y, text, transform=axes.get_yaxis_transform(), ha="center", va="center", fontsize=8, color=INK)


def diamond(axes: Axes, x: float, y: int) -> None:
    """The published figure of a line."""
    axes.plot(x, y, "D", mfc="none", mec=INK, ms=7, zorder=4)


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


_GAP = 7.0  # points from a point to its name
_PLACES = [
    (dx, dy)
    for far in (1.0, 1.7, 2.6, 3.6)
    for dx, dy in ((1, 0), (-1, 0), (0.7, 0.9), (-0.7, 0.9), (0.7, -0.9), (-0.7, -0.9), (0, 1.1), (0, -1.1))
    for dx, dy in [(dx * far, dy * far)]
]


def label_points(
    axes: Axes,
    points: Iterable[tuple[float, float, str]],
    size: float = 7.5,
    line: Sequence[tuple[float, float]] = (),
) -> None:
    """Write a name beside each point, at the nearest place where it covers neither another name nor a point, nor the
    ``line`` through its corners; a thin line leads back to points whose name stands further off. Limits and scales of
    the axes must be final."""
    points = list(points)
    figure = axes.figure
    figure.draw_without_rendering()
    figure_scale = figure.dpi / 72
    dots = [axes.transData.transform((x, y)) for x, y, _ in points]
    taken: list[tuple[float, float, float, float]] = []
    corners = [axes.transData.transform(corner) for corner in line]
    drawn = [
        (ax + k / 40 * (bx - ax), ay + k / 40 * (by - ay))
        for (ax, ay), (bx, by) in itertools.pairwise(corners)
        for k in range(41)
    ]
    inside = axes.get_window_extent()
    for (px, py), (x, y, name) in zip(dots, points, strict=True):
        best = None
        for dx, dy in _PLACES:
            box = _box(px, py, dx * _GAP * figure_scale, dy * _GAP * figure_scale, name, size * figure_scale)
            cost = sum(_overlap(box, other) for other in taken)
            reach = 3.5 * figure_scale
            cost += sum(_overlap(box, (qx - reach, qy - reach, qx + reach, qy + reach)) for qx, qy in dots)
            cost += sum(figure_scale * size for lx, ly in drawn if box[0] < lx < box[2] and box[1] < ly < box[3])
            if box[0] < inside.x0 or box[2] > inside.x1 or box[1] < inside.y0 or box[3] > inside.y1:
                cost += 1e6
            if best is None or cost < best[0] - 1e-9:
                best = (cost, dx, dy, box)
            if cost == 0:
                break
        _, dx, dy, box = best
        taken.append(box)
        far = max(abs(dx), abs(dy)) > 1.2
        back = {"arrowprops": {"arrowstyle": "-", "color": SOFT, "lw": 0.6, "shrinkA": 0, "shrinkB": 2}} if far else {}
        align = {"ha": "left" if dx > 0 else "right" if dx < 0 else "center", "va": "center"}
        place = {"xy": (x, y), "xytext": (dx * _GAP, dy * _GAP), "textcoords": "offset points"}
        axes.annotate(name, fontsize=size, **place, **align, **back)


def _box(px: float, py: float, dx: float, dy: float, name: str, size: float) -> tuple[float, float, float, float]:
    """Where the name would be, in pixels: DejaVu Sans is about 0.6 of its size wide."""
    width, height, x, y = 0.6 * size * len(name), 1.15 * size, px + dx, py + dy
    left = x if dx > 0 else x - width if dx < 0 else x - width / 2
    return left, y - height / 2, left + width, y + height / 2


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
