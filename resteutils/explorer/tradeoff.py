"""The trade-off: estimating error against gradient instability, the current estimator a moving dot."""

from __future__ import annotations

import math

import ipywidgets as w
import numpy as np
import torch

from resteutils.estimators import ESTIMATORS, Estimator, ReSTE
from resteutils.explorer.chart import Chart, sheet
from resteutils.explorer.controls import Controls
from resteutils.explorer.curve import describe, truncations
from resteutils.explorer.marks import Band, Bars, Dots, Labels, Line, Note
from resteutils.explorer.parts import ChartView, Message, guarded, legend, offer, panel, row
from resteutils.explorer.samples import Measured, Sample, fresh_network, normal_values, trained_network
from resteutils.explorer.shelf import Shelf, run_label
from resteutils.nn.indicators import zone_ends

__all__ = ["TradeoffPanel"]

POWERS = (1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
NAMED = (1.0, 3.0, 10.0, 100.0)
NORMAL, FRESH = "normal", "fresh"


def plane_chart() -> Chart:
    title = "The equilibrium: smaller error, wilder gradients"
    return Chart(title, "estimating error e (L2 norm)", "instability s (variance of |g|)", ylim=(1e-6, 1.0), log_y=True)


def weights_chart() -> Chart:
    return Chart("", "latent value z", "f(z); bars: how many values", (-2.0, 2.0), (-2.0, 2.0))


class Landscape:
    """What stays while the sliders move: ReSTE's path over o and the other estimators, measured once a sample."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.powers = [sample.measure(ReSTE(o=o)) for o in POWERS]
        self.others = [(cls.label, sample.measure(cls())) for cls in ESTIMATORS.values() if cls is not ReSTE]
        values = sample.values().double()
        self.values, self.reach = values, min(2.0, 1.2 * float(values.abs().quantile(0.999)))

    def plane(self, chart: Chart, e: Estimator, now: Measured) -> list:
        """Fit the chart and give its marks, the current estimator on top."""
        x, y = [m.error for m in self.powers], [m.instability for m in self.powers]
        # What lies far off would squeeze all others together: rivals are left out, the current one stands at the edge
        # (gradients of one size have s = 0, which no logarithm shows).
        widest, lowest, highest = 1.6 * max(x), min(y) / 100, 100 * max(y)
        rivals = [(label, m) for label, m in self.others if m.error <= widest and lowest <= m.instability <= highest]
        error, size = [m.error for _, m in rivals], [m.instability for _, m in rivals]
        height = float(np.clip(now.instability, lowest, highest))
        errors = [value for value in (*x, *error, now.error) if math.isfinite(value)]
        sizes = [math.log10(value) for value in (*y, *size, height) if math.isfinite(value)]
        room, above = 0.2 * (max(errors) - min(errors)) or 1.0, 0.1 * (max(sizes) - min(sizes)) or 1.0
        chart.xlim = (min(errors) - room, max(errors) + room)
        chart.ylim = (10 ** (min(sizes) - above), 10 ** (max(sizes) + above))
        path = Line(np.array(x), np.array(y), "ReSTE, o = 1 to 100", 0, 2.0)
        named = [i for i, o in enumerate(POWERS) if o in NAMED]
        stops = Dots([x[i] for i in named], [y[i] for i in named])
        others = Dots(error, size, "other estimators, at the end of training", "q")
        texts = (*(f"o = {POWERS[i]:g}" for i in named), *(label for label, _ in rivals))
        # What a text should not hide: the dots above all, and the path, in steps.
        steps = np.linspace(0, len(x) - 1, 40)
        between = np.interp(steps, range(len(x)), x), 10 ** np.interp(steps, range(len(x)), np.log10(y))
        busy = (*error * 3, *stops.x * 3, *between[0]), (*size * 3, *stops.y * 3, *between[1])
        labels = Labels((*stops.x, *error), (*stops.y, *size), texts, busy)
        dot = Dots([now.error], [height], f"now: {describe(e)}", 1, 8.0, key="now")
        return [path, labels, others, stops, dot]

    def histogram(self, chart: Chart, e: Estimator, zoom: bool) -> list:
        """The curve over where the values sit, and their shares in the zones."""
        reach = self.reach if zoom else 2.0
        m, t = zone_ends(e)
        shares = self.sample.shares(m, t)
        chart.xlim = (-reach, reach)
        own = isinstance(e, ReSTE)
        title = ", ".join(f"{name} {100 * v:.{1 if own else 0}f} %" for name, v in shares.items())
        chart.title = title.capitalize() if own else f"ReSTE's {title}"
        counts, edges = np.histogram(self.values.numpy(), bins=61, range=(-reach, reach))
        low, high = chart.ylim
        bars = Bars(edges, low + 0.92 * (high - low) * counts / max(counts.max(), 1))
        z = torch.linspace(-reach, reach, 401, dtype=torch.float64)
        curve = Line(z.numpy(), e.surrogate(z).numpy(), describe(e), 0, 3.0, key="curve")
        return [Band(-m, m, 0), bars, *truncations(ReSTE(t=t, m=m)), curve]


class TradeoffPanel:
    """e, s and the spread of the controls' estimator, live, on a sample that the reader chooses."""

    def __init__(self, controls: Controls, shelf: Shelf, data_dir: str = "") -> None:
        self.controls, self.shelf, self.data_dir = controls, shelf, data_dir
        self.plane, self.weights = ChartView(plane_chart()), ChartView(weights_chart())
        self.numbers, self.message, self.legend = Message(), Message(), Message()
        self.choice = w.Dropdown(
            description="measured on",
            style={"description_width": "initial"},
            layout=w.Layout(flex="1 1 420px", max_width="640px"),
        )
        self.zoom = w.Checkbox(
            value=True, description="zoom to the values", indent=False, layout=w.Layout(width="170px")
        )
        self.landscape: Landscape | None = None
        self.measured = ""  # the choice that the landscape belongs to
        self._on_choice = guarded(self.message)(self._chosen)
        self.choice.observe(self._on_choice, "value")
        self._offer()
        self.zoom.observe(guarded(self.message)(self._draw), "value")
        controls.observe(guarded(self.message)(self._draw))
        shelf.observe(self._offer)

    def view(self) -> w.Widget:
        charts = row(self.plane, self.weights, align_items="flex-start")
        return panel(self.controls.view(), row(self.choice, self.zoom), self.message, self.numbers, charts, self.legend)

    def _offer(self) -> None:
        chosen = self.choice.value
        runs = [(run_label(run), run.path.name) for run in self.shelf.with_models() if run.recipe.estimator is not None]
        options = [("standard normal values", NORMAL), ("a freshly initialised ResNet-20", FRESH), *runs]
        keys = [key for _, key in options]
        offer(self.choice, options, chosen if chosen in keys else NORMAL, self._on_choice)

    def _chosen(self, change=None) -> None:
        key = self.choice.value
        if key == self.measured:
            return
        self._clear()  # what stood there belongs to another sample, should this one fail
        self.message.say("measuring \u2026")
        if key == NORMAL:
            sample = normal_values()
        elif key == FRESH:
            sample = fresh_network()
        else:
            sample = trained_network(self.shelf.run(key), self.data_dir)
        self.landscape, self.measured = Landscape(sample), key
        self.message.say("")
        self._draw()

    def _clear(self) -> None:
        self.landscape, self.measured = None, ""
        for view, chart in ((self.plane, plane_chart()), (self.weights, weights_chart())):
            view.chart = chart
            view.draw([Note("nothing measured")])
        self.numbers.say("")
        self.legend.say("")

    def _draw(self, change=None) -> None:
        if self.landscape is None:
            return
        e = self.controls.current
        now = self.landscape.sample.measure(e)
        plane = self.landscape.plane(self.plane.chart, e, now)
        self.plane.draw(plane)
        self.legend.say(legend(plane[::-1]))
        self.weights.draw(self.landscape.histogram(self.weights.chart, e, self.zoom.value))
        sample = self.landscape.sample
        self.numbers.say(
            f"error <b>e = {now.error:.4g}</b>, instability <b>s = {now.instability:.3g}</b>, "
            f"<b>spread = {now.spread:.3g}</b> (std/mean of |g|: free of any common gain)"
            f'<div class="aside">on {sample.label}; {sample.gradients}</div>'
        )

    @staticmethod
    def picture() -> str:
        landscape, e = Landscape(normal_values()), ReSTE()
        plane, weights = plane_chart(), weights_chart()
        marks = landscape.plane(plane, e, landscape.sample.measure(e))
        return sheet([[(plane, marks), (weights, landscape.histogram(weights, e, zoom=True))]], marks[::-1])
