"""What can be drawn in a chart, each as SVG text within the plot area: lines, dots, bars, bands, rules and pictures."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Band", "Bars", "Dots", "Line", "Picture", "Place", "Rule"]

LINE_HEIGHT = 14.0


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
    """Points, each with a text on its right or left if ``texts`` are given; texts keep clear of each other."""

    x: Sequence[float]
    y: Sequence[float]
    label: str = ""
    colour: int | str = 0
    radius: float = 4.0
    texts: Sequence[str] = ()
    side: str = "right"
    key: str = ""

    def svg(self, place: Place) -> str:
        pairs = place.pairs(self.x, self.y)
        parts = [
            f'<circle class="f{self.colour}"{_keyed(self.key)} cx="{x:.1f}" cy="{y:.1f}" r="{self.radius}"/>'
            for x, y in pairs
        ]
        anchor, dx = ("start", self.radius + 4) if self.side == "right" else ("end", -self.radius - 4)
        lowest = -LINE_HEIGHT
        for (x, y), text in sorted(zip(pairs, self.texts, strict=False), key=lambda item: item[0][1]):
            lowest = max(y + 4, lowest + LINE_HEIGHT)
            where = f'x="{x + dx:.1f}" y="{lowest:.1f}" text-anchor="{anchor}"'
            parts.append(f'<text class="halo" {where}>{html.escape(text)}</text>')
        return "".join(parts)

    def swatch(self, x: float, y: float) -> str:
        return f'<circle class="f{self.colour}" cx="{x + 11}" cy="{y}" r="{self.radius}"/>'


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
