"""Small charts as SVG text, for pictures that change while a slider moves.

A chart keeps its frame and is given its marks (lines, dots, bars, ...) at each redraw. As text in an
``ipywidgets.HTML`` it redraws within milliseconds, follows the theme through CSS variables, stays sharp at any size and
can be read out; a matplotlib canvas over the websocket takes several times as long. The same text is the static picture
of a notebook that runs without a reader.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resteutils.evidence.colours import OKABE_ITO
from resteutils.explorer.marks import Place

__all__ = ["COLOURS", "DASHES", "STYLE", "Chart", "sheet"]

_ORDER = "blue vermillion green purple orange sky yellow black".split()
_LIGHT = OKABE_ITO | {"yellow": "#8a6d00"}
_DARK = OKABE_ITO | {"blue": OKABE_ITO["sky"], "vermillion": "#ff8a3d", "green": "#2cc79b", "purple": "#e5a3c8"}
_DARK |= {"sky": "#a6daf7", "black": "#ffffff"}
COLOURS = len(_ORDER)
DASHES = ("", "6 3", "2 3", "9 3 2 3")


def _colours(palette: dict[str, str]) -> str:
    return "".join(f"--ru-{index}:{palette[name]};" for index, name in enumerate(_ORDER))


STYLE = (
    f".ru{{{_colours(_LIGHT)}--ru-quiet:#6b6b6b;--ru-grid:#dcdcdc;--ru-back:#fff;--ru-plain:#1f1f1f}}"
    f"[data-jp-theme-light=false] .ru{{{_colours(_DARK)}--ru-quiet:#a8a8a8;--ru-grid:#4a4a4a;"
    "--ru-back:#111;--ru-plain:#e6e6e6}"
    ".ru-chart svg.ru{display:block;width:100%;height:auto}"
    "svg.ru{color:var(--ru-plain);font:12px var(--jp-ui-font-family,system-ui,'Liberation Sans',Arial,sans-serif)}"
    ".ru text{fill:currentColor}.ru .quiet{fill:var(--ru-quiet)}.ru .title{font-weight:600;font-size:13px}"
    ".ru .grid{stroke:var(--ru-grid);stroke-width:1}.ru .axis{stroke:var(--ru-quiet);stroke-width:1;fill:none}"
    ".ru .rule{stroke:var(--ru-quiet);stroke-width:1;stroke-dasharray:3 3}"
    ".ru .halo{paint-order:stroke;stroke:var(--ru-back);stroke-width:3px;stroke-linejoin:round}"
    ".ru polyline{fill:none;stroke-linejoin:round}"
    + "".join(f".ru .s{i}{{stroke:var(--ru-{i})}}.ru .f{i}{{fill:var(--ru-{i})}}" for i in range(COLOURS))
    + ".ru .sq{stroke:var(--ru-quiet)}.ru .fq{fill:var(--ru-quiet)}"
)


@functools.lru_cache(maxsize=256)
def _ticks(low: float, high: float, log: bool, count: int) -> tuple[tuple[float, str], ...]:
    """Positions and texts of the ticks, by matplotlib's rules."""
    from matplotlib.ticker import MaxNLocator

    if log:
        first, last = np.ceil(np.log10(low) - 1e-9), np.floor(np.log10(high) + 1e-9)
        powers = np.arange(first, last + 1, max(1, round((last - first) / count)))
        return tuple((10.0**p, f"10{str(int(p)).translate(_SUPERSCRIPT)}") for p in powers)
    values = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    inside = [v for v in values if low - 1e-9 * (high - low) <= v <= high + 1e-9 * (high - low)]
    return tuple((float(v), f"{v:.6g}".replace("-", "\N{MINUS SIGN}")) for v in inside)


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass
class Chart:
    """A plot with a title, labelled axes and fixed limits; :meth:`svg` draws marks into it.

    ``width`` and ``height`` are in CSS pixels at scale 1. The key to the marks stands outside, see :func:`sheet`.
    """

    title: str
    x_label: str
    y_label: str
    xlim: tuple[float, float] = (0.0, 1.0)
    ylim: tuple[float, float] = (0.0, 1.0)
    log_y: bool = False
    width: int = 460
    height: int = 264
    x_names: Sequence[str] = ()  # names for x = 0, 1, 2, ... instead of numbers
    margin: tuple[int, int, int, int] = (28, 12, 40, 56)  # top, right, bottom, left
    axes: bool = True

    def svg(self, marks: Sequence, standalone: bool = False) -> str:
        """The chart as SVG text. ``standalone`` brings its own style and background, for use as an image."""
        top, right, bottom, left = self.margin
        place = Place(self.xlim, self.ylim, self.width - left - right, self.height - top - bottom, self.log_y)
        labels = ", ".join(mark.label for mark in marks if mark.label)
        axes = f"{self.y_label} against {self.x_label}. " if self.axes else ""
        said = html.escape(f"{self.title}. {axes}{labels}", quote=True)
        body = (
            f'<svg x="{left}" y="{top}" width="{place.width}" height="{place.height}">'
            f"{''.join(mark.svg(place) for mark in marks)}</svg>"
        )
        size = f'viewBox="0 0 {self.width} {self.height}"'
        if standalone:
            size += f' width="{self.width}" height="{self.height}"'
        return (
            f'<svg class="ru" xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{said}">'
            f"{_paper(self.width, self.height) if standalone else ''}"
            f"{self._frame(place)}{body}</svg>"
        )

    def _frame(self, place: Place) -> str:
        top, _, _, left = self.margin
        foot, end = top + place.height, left + place.width
        parts = [f'<text class="title" x="{left}" y="17">{html.escape(self.title)}</text>']
        if not self.axes:
            return parts[0]
        names = tuple((float(i), name) for i, name in enumerate(self.x_names)) or _ticks(*self.xlim, False, 8)
        for value, text in names:
            x = left + float(place.x(value))
            if not self.x_names:
                parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{foot}"/>')
            parts.append(f'<text x="{x:.1f}" y="{foot + 15}" text-anchor="middle">{html.escape(text)}</text>')
        for value, text in _ticks(*self.ylim, self.log_y, 6):
            y = top + float(place.y(value))
            parts.append(f'<line class="grid" x1="{left}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        parts.append(f'<rect class="axis" x="{left}" y="{top}" width="{place.width}" height="{place.height}"/>')
        middle = top + place.height / 2
        parts.append(
            f'<text x="{(left + end) / 2}" y="{foot + 33}" text-anchor="middle">{html.escape(self.x_label)}</text>'
            f'<text transform="rotate(-90 13 {middle})" x="13" y="{middle}" text-anchor="middle">'
            f"{html.escape(self.y_label)}</text>"
        )
        return "".join(parts)


def _paper(width: float, height: float) -> str:
    return f'<style>{STYLE}</style><rect fill="#fff" width="{width}" height="{height}"/>'


def sheet(rows: Sequence[Sequence[tuple[Chart, Sequence] | None]], key: Sequence = ()) -> str:
    """Charts with their marks in rows and columns as one standalone SVG image, at the foot the labels of ``key``.

    ``None`` leaves a cell empty.
    """
    columns = range(max(len(row) for row in rows))
    wide = [max((row[i][0].width for row in rows if i < len(row) and row[i]), default=0) for i in columns]
    high = [max(cell[0].height for cell in row if cell) for row in rows]
    cells = [
        f'<svg x="{sum(wide[:i])}" y="{sum(high[:j])}" width="{cell[0].width}" height="{cell[0].height}">'
        f"{cell[0].svg(cell[1])}</svg>"
        for j, row in enumerate(rows)
        for i, cell in enumerate(row)
        if cell
    ]
    entries, foot = _key(key, sum(wide), sum(high))
    return (
        f'<svg class="ru" xmlns="http://www.w3.org/2000/svg" width="{sum(wide)}" height="{foot}" '
        f'viewBox="0 0 {sum(wide)} {foot}">{_paper(sum(wide), foot)}{"".join(cells)}{entries}</svg>'
    )


def _key(marks: Sequence, width: float, top: float) -> tuple[str, float]:
    """Swatches and labels in as many lines as the width asks for, and where the last line ends."""
    parts, x, y = [], 16.0, top + 12.0
    named = [mark for mark in marks if mark.label]
    for mark in named:
        long = 28 + 7.0 * len(mark.label) + 20
        if x > 16 and x + long > width:
            x, y = 16.0, y + 20
        parts.append(f'{mark.swatch(x, y)}<text x="{x + 28}" y="{y + 4}">{html.escape(mark.label)}</text>')
        x += long
    return "".join(parts), y + 14 if named else top
