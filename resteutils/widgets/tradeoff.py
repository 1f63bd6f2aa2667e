"""The trade-off: estimating error against gradient instability, the current estimator a moving dot."""

from __future__ import annotations

import math

import ipywidgets as w
import numpy as np
import torch

from resteutils.estimators import ESTIMATORS, Estimator, ReSTE
from resteutils.widgets.controls import Controls
from resteutils.widgets.curve import describe, truncations
from resteutils.widgets.marks import Band, Bars, Dots, Line
from resteutils.widgets.parts import ChartView, Message, guarded, legend, panel, row
from resteutils.widgets.samples import Measured, Sample, fresh_network, normal_values, trained_network
from resteutils.widgets.shelf import Shelf, run_label
from resteutils.widgets.svg import Chart, side_by_side

__all__ = ["TradeoffPanel"]

POWERS = (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
NAMED = (1.0, 3.0, 10.0, 100.0)
NORMAL, FRESH = "normal", "fresh"


def plane_chart(legend: str = "") -> Chart:
    title = "The equilibrium: smaller error, wilder gradients"
    return Chart(title, "estimating error e (L2 norm)", "instability s (variance of |g|)", log_y=True, legend=legend)


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
        # A rival far off, to the right or above, would squeeze all others together.
        widest, highest = 1.6 * max(m.error for m in self.powers), 100 * max(m.instability for m in self.powers)
        rivals = [(label, m) for label, m in self.others if m.error <= widest and m.instability <= highest]
        known = [*self.powers, *(m for _, m in rivals), now]
        errors = [m.error for m in known if math.isfinite(m.error)]
        sizes = [m.instability for m in known if math.isfinite(m.instability) and m.instability > 0]
        room = 0.3 * (max(errors) - min(errors)) or 1.0
        chart.xlim = (min(errors) - room, max(errors) + 1.3 * room)
        chart.ylim = (10 ** math.floor(math.log10(min(sizes)) - 0.05), 10 ** math.ceil(math.log10(max(sizes)) + 0.05))
        x, y = [m.error for m in self.powers], [m.instability for m in self.powers]
        named = [i for i, o in enumerate(POWERS) if o in NAMED]
        path = Line(np.array(x), np.array(y), "ReSTE, o = 1 to 100", 0, 2.0)
        texts = [f"o = {POWERS[i]:g}" for i in named]
        stops = Dots([x[i] for i in named], [y[i] for i in named], "", 0, 4.0, texts, side="left")
        error, size = [m.error for _, m in rivals], [m.instability for _, m in rivals]
        others = Dots(error, size, "other estimators, at the end of training", "q", 3.5, [label for label, _ in rivals])
        dot = Dots([now.error], [now.instability], f"now: {describe(e)}", 1, 8.0, key="now")
        return [others, path, stops, dot]

    def histogram(self, chart: Chart, e: Estimator, zoom: bool) -> list:
        """The curve over where the values sit, and their shares in the zones."""
        reach = self.reach if zoom else 2.0
        zones = e if isinstance(e, ReSTE) else ReSTE()
        shares = self.sample.shares(zones.m, zones.t)
        chart.xlim = (-reach, reach)
        chart.title = ", ".join(f"{name} {100 * v:.1f} %" for name, v in shares.items()).capitalize()
        counts, edges = np.histogram(self.values.numpy(), bins=60, range=(-reach, reach))
        low, high = chart.ylim
        bars = Bars(edges, low + 0.92 * (high - low) * counts / max(counts.max(), 1))
        z = torch.linspace(-reach, reach, 401, dtype=torch.float64)
        curve = Line(z.numpy(), e.surrogate(z).numpy(), describe(e), 0, 3.0, key="curve")
        return [Band(-zones.m, zones.m, 0), bars, *truncations(zones), curve]


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
        self._offer()
        self.landscape = Landscape(normal_values())
        self.choice.observe(guarded(self.message)(self._chosen), "value")
        self.zoom.observe(guarded(self.message)(self._draw), "value")
        controls.observe(guarded(self.message)(self._draw))
        shelf.observe(self._offer)
        self._draw()

    def view(self) -> w.Widget:
        charts = row(self.plane, self.weights, align_items="flex-start")
        return panel(self.controls.view(), row(self.choice, self.zoom), self.message, self.numbers, charts, self.legend)

    def _offer(self) -> None:
        chosen = self.choice.value
        runs = [(run_label(run), run.path.name) for run in self.shelf.with_models() if run.recipe.estimator is not None]
        self.choice.options = [("standard normal values", NORMAL), ("a freshly initialised ResNet-20", FRESH), *runs]
        keys = [key for _, key in self.choice.options]
        self.choice.value = chosen if chosen in keys else NORMAL

    def _chosen(self, change=None) -> None:
        key = self.choice.value
        if key is None:
            return
        self.message.say("measuring \u2026")
        if key == NORMAL:
            sample = normal_values()
        elif key == FRESH:
            sample = fresh_network()
        else:
            sample = trained_network(self.shelf.run(key), self.data_dir)
        self.landscape = Landscape(sample)
        self.message.say("")
        self._draw()

    def _draw(self, change=None) -> None:
        e = self.controls.current
        now = self.landscape.sample.measure(e)
        plane = self.landscape.plane(self.plane.chart, e, now)
        self.plane.draw(plane)
        self.legend.say(legend(plane[::-1]))
        self.weights.draw(self.landscape.histogram(self.weights.chart, e, self.zoom.value))
        sample = self.landscape.sample
        self.numbers.say(
            f"<b>e = {now.error:.4g}</b> &nbsp; <b>s = {now.instability:.3g}</b> &nbsp; "
            f"<b>spread = {now.spread:.3g}</b> (std/mean of |g|, free of "
            f"any common gain) &nbsp; on {sample.label}; {sample.gradients}."
        )

    @staticmethod
    def picture() -> str:
        landscape, e = Landscape(normal_values()), ReSTE()
        plane, weights = plane_chart("foot"), weights_chart()
        marks = landscape.plane(plane, e, landscape.sample.measure(e))
        return side_by_side([(plane, marks), (weights, landscape.histogram(weights, e, zoom=True))])
