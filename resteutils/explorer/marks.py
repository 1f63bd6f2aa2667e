"""What can be drawn in a chart, each as SVG text within the plot area: lines, dots, labels, bars, bands, ..."""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Band", "Bars", "Dots", "Labels", "Line", "Note", "Picture", "Place", "Rule"]


@dataclass(frozen=True)
class Place:
    """From data to pixels within the plot area, whose upper left corner is (0, 0)."""

    xlim: tuple[float, float]
    ylim: tuple[float, float]
    width: float
    height: float
    log_y: bool = False

    def x(self, values):
        low, high = self.xlim
        return (np.asarray(values, dtype=float) - low) / (high - low) * self.width

    def y(self, values):
        values, (low, high) = np.asarray(values, dtype=float), self.ylim
        if self.log_y:
            values, low, high = np.log10(np.maximum(values, 1e-300)), np.log10(low), np.log10(high)
        return self.height - (values - low) / (high - low) * self.height

    def pairs(self, x, y) -> list[tuple[float, float]]:
        """Pixels of the finite points; far outside the plot they are cut, which SVG's own clipping need not do."""
        px, py = self.x(x), np.clip(self.y(y), -self.height, 2 * self.height)
        keep = np.isfinite(px) & np.isfinite(py)
        return list(zip(px[keep].tolist(), py[keep].tolist(), strict=True))


@dataclass(frozen=True)
class Line:
    """A curve; ``colour`` is an index into the palette or "q" for quiet grey, ``dash`` an SVG dash pattern."""

    x: np.ndarray
    y: np.ndarray
    label: str = ""
    colour: int | str = 0
    width: float = 2.0
    dash: str = ""
    key: str = ""

    def svg(self, place: Place) -> str:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in place.pairs(self.x, self.y))
        attributes = f'{_keyed(self.key)} stroke-width="{self.width}"{_dashed(self.dash)}'
        return f'<polyline class="s{self.colour}"{attributes} points="{points}"/>'

    def swatch(self, x: float, y: float) -> str:
        return (
            f'<line class="s{self.colour}" stroke-width="{self.width}"{_dashed(self.dash)} '
            f'x1="{x}" x2="{x + 22}" y1="{y}" y2="{y}"/>'
        )


@dataclass(frozen=True)
class Dots:
    """Points."""

    x: Sequence[float]
    y: Sequence[float]
    label: str = ""
    colour: int | str = 0
    radius: float = 4.0
    key: str = ""

    def svg(self, place: Place) -> str:
        return "".join(
            f'<circle class="f{self.colour}"{_keyed(self.key)} cx="{x:.1f}" cy="{y:.1f}" r="{self.radius}"/>'
            for x, y in place.pairs(self.x, self.y)
        )

    def swatch(self, x: float, y: float) -> str:
        return f'<circle class="f{self.colour}" cx="{x + 11}" cy="{y}" r="{self.radius}"/>'


# Where a text may stand beside its point, as (anchor, dx, dy to its baseline), the better places first; from the far
# ones a line leads to the point.
_BESIDE = (
    ("start", 9, 4), ("end", -9, 4), ("end", -7, 16), ("start", 7, -8), ("start", 7, 16), ("end", -7, -8),
    ("middle", 0, -11), ("middle", 0, 21), ("start", 22, -20), ("end", -22, 30), ("start", 22, 30), ("end", -22, -20),
    ("middle", 0, -34), ("middle", 0, 44), ("start", 44, 10), ("end", -44, 10),
)  # fmt: skip
_FAR = 20  # pixels


@dataclass(frozen=True)
class Box:
    """Where a text stands beside its point: its edges, and how SVG is told."""

    left: float
    top: float
    right: float
    bottom: float
    far: bool
    svg: str

    @classmethod
    def beside(cls, point: tuple[float, float], text: str, anchor: str, dx: float, dy: float) -> Box:
        x, y = point[0] + dx, point[1] + dy
        wide = sum(9.0 if letter.isupper() else 6.8 for letter in text)  # about what 12 px of a sans-serif take
        left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
        svg = f'<text class="halo" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'
        far = max(abs(dx), abs(dy - 5)) > _FAR
        if far:
            ends = f'x1="{point[0]:.1f}" y1="{point[1]:.1f}" x2="{x:.1f}" y2="{y if dy < 0 else y - 9:.1f}"'
            svg = f'<line class="axis" {ends}/>{svg}'
        return cls(left, y - 11, left + wide, y, far, svg)

    def meets(self, other: Box) -> bool:
        across = self.left < other.right + 4 and other.left < self.right + 4
        return across and self.top < other.bottom and other.top < self.bottom

    def hidden(self, taken: Sequence[Box], points: np.ndarray, place: Place) -> float:
        """How much would be hidden or lost if a text stood here."""
        x, y = points.T
        near = (x > self.left - 7) & (x < self.right + 7) & (y > self.top - 4) & (y < self.bottom + 5)
        outside = self.left < 2 or self.right > place.width - 2 or self.top < 1 or self.bottom > place.height - 3
        texts = sum(self.meets(other) for other in taken)
        return 20 * texts + np.count_nonzero(near) + 50 * outside + 4 * self.far


@dataclass(frozen=True)
class Labels:
    """A text beside each point, where it hides least of the other texts, of ``keep_clear`` (x, y) and of the frame."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    texts: tuple[str, ...]
    keep_clear: tuple[tuple[float, ...], tuple[float, ...]]
    label: str = field(default="", init=False)

    def svg(self, place: Place) -> str:
        return "".join(box.svg for box in arranged(self, place))


@functools.lru_cache(maxsize=8)  # a moving slider asks for the same again
def arranged(labels: Labels, place: Place) -> tuple[Box, ...]:
    """One box for each text; the first has the best choice."""
    points = np.array(place.pairs(*labels.keep_clear)).reshape(-1, 2)
    taken: list[Box] = []
    for point, text in zip(place.pairs(labels.x, labels.y), labels.texts, strict=True):
        options = [Box.beside(point, text, *offset) for offset in _BESIDE]
        taken.append(min(options, key=lambda box: box.hidden(taken, points, place)))
    return tuple(taken)


@dataclass(frozen=True)
class Note:
    """A sentence in the middle of a chart that has nothing else to show."""

    text: str
    label: str = field(default="", init=False)

    def svg(self, place: Place) -> str:
        where = f'x="{place.width / 2}" y="{place.height / 2}" text-anchor="middle"'
        return f'<text class="quiet halo" {where}>{html.escape(self.text)}</text>'


@dataclass(frozen=True)
class Bars:
    """A histogram, or bars with a name each under them: ``edges`` has one entry more than ``heights``."""

    edges: np.ndarray
    heights: np.ndarray
    label: str = ""
    colour: int | str = "q"
    opacity: float = 0.35
    gap: float = 0.5  # pixels between bars

    def svg(self, place: Place) -> str:
        x, top, bottom = place.x(self.edges), place.y(self.heights), float(place.y(place.ylim[0]))
        bars = (
            f'<rect x="{left:.1f}" y="{y:.1f}" width="{max(right - left - self.gap, 0.5):.1f}" '
            f'height="{max(bottom - y, 0):.1f}"/>'
            for left, right, y in zip(x[:-1], x[1:], top, strict=True)
        )
        return f'<g class="f{self.colour}" opacity="{self.opacity}">{"".join(bars)}</g>'

    def swatch(self, x: float, y: float) -> str:
        return f'<rect class="f{self.colour}" opacity="{self.opacity}" x="{x + 4}" y="{y - 5}" width="14" height="10"/>'


@dataclass(frozen=True)
class Band:
    """A shaded interval of x."""

    low: float
    high: float
    colour: int | str = "q"
    label: str = field(default="", init=False)

    def svg(self, place: Place) -> str:
        left, right = place.x([max(self.low, place.xlim[0]), min(self.high, place.xlim[1])])
        if right <= left:
            return ""
        return (
            f'<rect class="f{self.colour}" opacity="0.12" x="{left:.1f}" y="0" width="{right - left:.1f}" '
            f'height="{place.height}"/>'
        )


@dataclass(frozen=True)
class Rule:
    """A thin vertical line at x with a name at its foot."""

    x: float
    text: str = ""
    label: str = field(default="", init=False)

    def svg(self, place: Place) -> str:
        if not place.xlim[0] < self.x < place.xlim[1]:
            return ""
        x = float(place.x(self.x))
        line = f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{place.height}"/>'
        foot = f'<text class="quiet halo" x="{x + 3:.1f}" y="{place.height - 5}">{html.escape(self.text)}</text>'
        return line + foot if self.text else line


@dataclass(frozen=True)
class Picture:
    """Pixels filling the plot area, as a data URI; kept sharp when enlarged."""

    uri: str
    label: str = field(default="", init=False)

    def svg(self, place: Place) -> str:
        return (
            f'<image href="{self.uri}" width="{place.width}" height="{place.height}" '
            'preserveAspectRatio="xMidYMin meet" style="image-rendering:pixelated"/>'
        )


def _keyed(key: str) -> str:
    """A name by which a test finds the element on the page."""
    return f' data-key="{html.escape(key)}"' if key else ""


def _dashed(pattern: str) -> str:
    return f' stroke-dasharray="{pattern}"' if pattern else ""
