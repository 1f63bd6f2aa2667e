"""The curve: f(z) over sign and identity, f'(z) beside it, live."""

from __future__ import annotations

import html
import inspect
from dataclasses import replace

import ipywidgets as w
import numpy as np
import torch

from resteutils.estimators import ESTIMATORS, Estimator, ReSTE
from resteutils.explorer.chart import COLOURS, DASHES, Chart, sheet
from resteutils.explorer.controls import Controls
from resteutils.explorer.marks import Line, Rule
from resteutils.explorer.parts import ChartView, Message, legend, panel, row

__all__ = ["CurvePanel", "describe", "forward_chart", "slope_chart"]

LIMIT = 2.0
_Z = torch.linspace(-LIMIT, LIMIT, 401, dtype=torch.float64)
_HEIGHTS = (2.5, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 1000.0)
STATIC_POWERS = (3.0, 1.0, 1.5, 2.0, 5.0)  # the first, the paper's, is drawn thick and on top


def forward_chart() -> Chart:
    return Chart("Forward: the surrogate f(z)", "latent value z", "f(z)", (-LIMIT, LIMIT), (-2.0, 2.0))


def slope_chart() -> Chart:
    title = "Backward: its derivative f\u2032(z), the gradient's gain"
    return Chart(title, "latent value z", "f\u2032(z), gain", (-LIMIT, LIMIT), (-0.5, 5.0))


def describe(e: Estimator) -> str:
    """The estimator with its numbers, short."""
    values = ", ".join(f"{k} = {v:.3g}" for k, v in e.to_dict().items() if isinstance(v, int | float))
    return f"{e.label} ({values})" if values else e.label


def about(e: Estimator) -> str:
    """The first paragraph of what its class says of itself, formula included, as one line of HTML."""
    text = inspect.cleandoc(type(e).__doc__ or e.label).split("\n\n")[0]
    return html.escape(" ".join(text.split()).replace("\\|", "|").replace("``", ""))


def curve_lines(estimators: list[tuple[Estimator, int, str]], derivative: bool) -> list[Line]:
    """One line per (estimator, colour, dash); the first is drawn last, that is on top, and thicker."""
    z = _Z.numpy()
    lines = []
    for index, (e, colour, dash) in enumerate(estimators):
        y = (e.derivative(_Z) if derivative else e.surrogate(_Z)).numpy()
        lines.append(Line(z, y, describe(e), colour, 3.0 if index == 0 else 2.0, dash, key=f"{e.name}-{index}"))
    return lines[::-1]


def backdrop(e: Estimator) -> list:
    """Sign and identity in grey, and where ReSTE's truncations begin."""
    ends = np.array([-LIMIT, LIMIT])
    step = Line(np.array([-LIMIT, 0.0, 0.0, LIMIT]), np.array([-1.0, -1.0, 1.0, 1.0]), "sign(z)", "q", 1.5)
    return [step, Line(ends, ends, "identity", "q", 1.5, "2 3"), *truncations(e)]


def truncations(e: Estimator) -> list[Rule]:
    if not isinstance(e, ReSTE):
        return []
    return [Rule(-e.t), Rule(-e.m), Rule(e.m, "m"), Rule(e.t, "t")]


def fit_height(chart: Chart, lines: list[Line]) -> None:
    """The lowest of a few fixed heights that holds the lines: a scale that slides along would hide the change."""
    highest = max(float(line.y.max()) for line in lines)
    lowest = min(float(line.y.min()) for line in lines)
    top = next((height for height in _HEIGHTS if height >= highest), highest)
    chart.ylim = (-top * (0.1 if lowest > -0.1 * top else 0.5), top * 1.05)


class CurvePanel:
    """f and f' of the estimator that the controls make, and of any others beside it."""

    def __init__(self, controls: Controls) -> None:
        self.controls = controls
        self.forward, self.slope = ChartView(forward_chart()), ChartView(slope_chart())
        self.pinned: list[Estimator] = []
        self.others = {
            name: w.ToggleButton(description=cls.label, tooltip=f"show {cls.label}", layout=w.Layout(width="auto"))
            for name, cls in ESTIMATORS.items()
        }
        self.pin = w.Button(description="Keep this curve", tooltip="leave a copy of the curve as it is now")
        self.clear = w.Button(description="Clear", layout=w.Layout(width="auto"), tooltip="remove all other curves")
        self.state = Message()
        for other in self.others.values():
            other.observe(self.draw, "value")
        self.pin.on_click(self._pin)
        self.clear.on_click(self._clear)
        controls.observe(self.draw)
        self.draw()

    def view(self) -> w.Widget:
        charts = row(self.forward, self.slope, align_items="flex-start")
        compare = row(w.Label("compare with"), *self.others.values())
        return panel(self.controls.view(), charts, self.state, compare, row(self.pin, self.clear))

    def shown(self) -> list[tuple[Estimator, int, str]]:
        """(estimator, colour, dash): the current one, then the chosen others where the training stands now, then the
        kept ones. Each keeps its colour and dash whichever else are shown.
        """
        progress = self.controls.progress.value / 100
        compared = [
            (place, ESTIMATORS[name]().at(progress)) for place, (name, on) in enumerate(self.others.items()) if on.value
        ]
        compared += list(enumerate(self.pinned, len(self.others)))
        cycle = COLOURS - 1
        return [(self.controls.current, 0, "")] + [
            (e, 1 + place % cycle, DASHES[(1 + place // cycle) % len(DASHES)]) for place, e in compared
        ]

    def draw(self, change=None) -> None:
        shown = self.shown()
        current = shown[0][0]
        surrogates = [*backdrop(current), *curve_lines(shown, derivative=False)]
        self.forward.draw(surrogates)
        slopes = curve_lines(shown, derivative=True)
        fit_height(self.slope.chart, slopes)
        self.slope.draw([*truncations(current), *slopes])
        self.state.say(f"{legend(surrogates[::-1])}<br>{self._sentence(current)}")

    def _sentence(self, e: Estimator) -> str:
        at_zero = float(e.derivative(torch.zeros((), dtype=torch.float64)))
        return (
            f"<b>{html.escape(describe(e))}</b> at {self.controls.progress.value} % of training: a latent value near "
            f"zero has its gradient multiplied by <b>{at_zero:.3g}</b>."
            f'<div class="aside">{about(e)}</div>'
        )

    def _pin(self, _) -> None:
        self.pinned.append(self.controls.current)
        self.draw()

    def _clear(self, _) -> None:
        self.pinned.clear()
        for other in self.others.values():
            other.value = False
        self.draw()

    @staticmethod
    def picture() -> str:
        """ReSTE at five powers, both charts: what a notebook without a reader shows."""
        shown = [(ReSTE(o=o), index, "") for index, o in enumerate(STATIC_POWERS)]
        forward, slope = forward_chart(), slope_chart()
        surrogates, slopes = curve_lines(shown, derivative=False), curve_lines(shown, derivative=True)
        fit_height(slope, slopes)
        key = [replace(line, label=f"o = {o:g}") for line, o in zip(surrogates[::-1], STATIC_POWERS, strict=True)]
        drawn = [(forward, [*backdrop(ReSTE()), *surrogates]), (slope, [*truncations(ReSTE()), *slopes])]
        return sheet([drawn], [*sorted(key, key=lambda line: line.label), *backdrop(ReSTE())])
