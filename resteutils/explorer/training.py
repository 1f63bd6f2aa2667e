"""A training: finished runs side by side, and one of the reader's own in a background thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import ipywidgets as w
import numpy as np

from resteutils import kernels
from resteutils.explorer.chart import COLOURS, DASHES, Chart, sheet
from resteutils.explorer.controls import Controls
from resteutils.explorer.marks import Line, Note
from resteutils.explorer.parts import ChartView, Message, grid, guarded, legend, panel, row
from resteutils.explorer.shelf import Shelf, recipe_label, run_label
from resteutils.recipes import PROFILES, Recipe, recipe
from resteutils.recipes.build import open_data
from resteutils.runs.store import Run, load_or_train
from resteutils.training.stopping import Interrupted

__all__ = ["TrainingPanel", "own_recipe"]

EPOCH = "epochs done"
SMALL = {"width": 380, "height": 250}


@dataclass(frozen=True)
class View:
    """One chart over the epochs: the columns of the history that it draws, the first solid, the second dashed."""

    title: str
    unit: str
    columns: tuple[str, ...]
    log: bool = False
    floor: float | None = None

    def chart(self) -> Chart:
        return Chart(self.title, EPOCH, self.unit, log_y=self.log, **SMALL)


VIEWS = (
    View("Loss: training, and test dashed", "cross-entropy, nats", ("train_loss", "test_loss"), floor=0.0),
    View("Accuracy on the test images", "top-1, %", ("test_top1",), floor=0.0),
    View("Power of the surrogate", "o", ("o",), floor=1.0),
    View("Estimating error", "e, L2 norm", ("error_definition",), floor=0.0),
    View("Gradient instability", "s, variance of |g|", ("instability_definition",), log=True),
    View("Scale-free spread", "std/mean of |g|", ("spread",), floor=0.0),
)


def own_recipe(controls: Controls, bits: str, epochs: int, seed: int, profile: str = "demo") -> Recipe:
    """ResNet-20 on digits with the estimator of the controls (at the end of its path), or its float twin."""
    if profile not in PROFILES:
        raise ValueError(f"profile = {profile!r}, expected one of {', '.join(PROFILES)}")
    small = profile if profile in ("smoke", "demo") else "demo"
    row_name = "resnet20-fp" if bits == "32/32" else "resnet20-1w1a"
    chosen = {} if bits == "32/32" else {"bits": bits, "estimator": controls.final}
    return recipe(f"table1/{row_name}", profile=small, seed=seed, epochs=epochs, **chosen)


@dataclass
class Curve:
    """The history of a run, finished or under way."""

    label: str
    history: dict[str, list[float]]


def finished_curve(run: Run) -> Curve:
    return Curve(run_label(run), {name: list(column) for name, column in run.history.items()})


def draw_views(curves: Iterable[Curve]) -> list[tuple[Chart, list[Line]]]:
    """Every view with the lines of all curves, its limits fitted."""
    curves = list(curves)
    drawn = []
    for view in VIEWS:
        chart, lines = view.chart(), []
        for index, curve in enumerate(curves):
            for place, column in enumerate(view.columns):
                x = np.asarray(curve.history.get("epoch", ()), dtype=float)
                y = np.asarray(curve.history.get(column, ()), dtype=float)
                dash = DASHES[1] if place else DASHES[0 if index < COLOURS else 3]
                lines.append(Line(x, y, curve.label if not place else "", index % COLOURS, 2.0, dash, key=column))
        _fit(chart, view, lines)
        nothing = Note("no value yet" if curves else "no run chosen")
        drawn.append((chart, lines if any(np.isfinite(line.y).any() for line in lines) else [*lines, nothing]))
    return drawn


def _key_line(index: int, curve: Curve) -> Line:
    """A line without points, for the legend."""
    nothing = np.array([])
    return Line(nothing, nothing, curve.label, index % COLOURS, dash=DASHES[0 if index < COLOURS else 3])


def _fit(chart: Chart, view: View, lines: list[Line]) -> None:
    x = np.concatenate([line.x for line in lines]) if lines else np.array([])
    y = np.concatenate([line.y for line in lines]) if lines else np.array([])
    y = y[np.isfinite(y) & ((y > 0) | (not view.log))]
    chart.xlim = (min(1.0, x.min()) if len(x) else 0.0, max(2.0, x.max()) if len(x) else 1.0)
    if not len(y):
        chart.ylim = (1e-6, 1.0) if view.log else (view.floor or 0.0, (view.floor or 0.0) + 1.0)
    elif view.log:
        chart.ylim = (10 ** np.floor(np.log10(y.min()) - 0.02), 10 ** np.ceil(np.log10(y.max()) + 0.02))
    else:
        low = view.floor if view.floor is not None else y.min()
        chart.ylim = (low, max(_highest(view, lines) * 1.06, low + 0.5))


def _highest(view: View, lines: list[Line]) -> float:
    """The highest value to show. Of the second column (a test loss, which a first epoch can send far up) no more than
    twice the first's: all else would be squeezed to the foot, and the line is seen to leave at the top.
    """
    first = _top([line for line in lines if line.key == view.columns[0]])
    return max(first, min(_top(lines), 2 * first if np.isfinite(first) else np.inf))


def _top(lines: list[Line]) -> float:
    return max((float(value) for line in lines for value in line.y if np.isfinite(value)), default=-np.inf)


class TrainingPanel:
    """Charts of chosen runs, and a small training of the reader's own that leaves a run like any other."""

    def __init__(
        self, controls: Controls, shelf: Shelf, profile: str = "demo", device: str = "auto", **folders
    ) -> None:
        self.controls, self.shelf, self.profile, self.device = controls, shelf, profile, device
        self.folders = folders
        self.thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.live: Curve | None = None
        self.message, self.legend = Message(), Message()
        self.charts = [ChartView(view.chart()) for view in VIEWS]
        self._build()
        shelf.observe(self._offer)
        self._offer()
        self._draw()

    def _build(self) -> None:
        initial = {"description_width": "initial"}
        wide = w.Layout(flex="1 1 460px", max_width="760px")
        self.choice = w.SelectMultiple(description="runs", rows=5, style=initial, layout=wide)
        self.again = w.Button(description="Read runs again", tooltip="look for finished runs on the disk")
        self.bits = w.Dropdown(
            options=["1/1", "1/32", "32/32"], description="W/A bits", style=initial, layout=w.Layout(width="150px")
        )
        self.epochs = w.BoundedIntText(
            value=2 if self.profile == "smoke" else 6, min=1, max=60, description="epochs", style=initial,
            layout=w.Layout(width="120px"),
        )  # fmt: skip
        self.seed = w.BoundedIntText(
            value=0, min=0, max=9999, description="seed", style=initial, layout=w.Layout(width="110px")
        )
        self.begin = w.Button(description="Train this", button_style="primary", tooltip="ResNet-20 on digits")
        self.halt = w.Button(
            description="Stop", disabled=True, layout=w.Layout(width="80px"), tooltip="stop the training"
        )
        self.bar = w.FloatProgress(value=0.0, min=0.0, max=1.0, layout=w.Layout(flex="1 1 160px", max_width="280px"))
        safe = guarded(self.message)
        self.choice.observe(safe(self._draw), "value")
        self.again.on_click(safe(lambda _: self.shelf.refresh()))
        self.begin.on_click(safe(self._begin))
        self.halt.on_click(lambda _: self._stop.set())

    def view(self) -> w.Widget:
        own = row(self.bits, self.epochs, self.seed, self.begin, self.halt, self.bar)
        own.layout.margin = "8px 0px 0px 0px"
        charts = grid(*self.charts, narrowest=290)
        chosen = row(self.choice, self.again)
        return panel(self.controls.view(path=False), own, self.message, chosen, self.legend, charts)

    def _offer(self) -> None:
        chosen = self.choice.value
        self.choice.options = [(run_label(run), key) for key, run in self.shelf.runs.items()]
        kept = [key for key in chosen if key in self.shelf.runs]
        self.choice.value = kept or self.shelf.comparison()
        if not self.shelf.runs and not self.running:
            self.message.say(self.shelf.nothing_yet())

    def _draw(self, change=None) -> None:
        curves = [finished_curve(self.shelf.run(key)) for key in self.choice.value]
        if self.live is not None:
            curves.append(self.live)
        for view, (chart, lines) in zip(self.charts, draw_views(curves), strict=True):
            view.chart = chart
            view.draw(lines)
        self.legend.say(legend([_key_line(index, curve) for index, curve in enumerate(curves)]))

    @property
    def running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def _begin(self, _=None) -> None:
        if self.running:
            raise RuntimeError("a training is under way: stop it, or wait until it is done")
        chosen = own_recipe(self.controls, self.bits.value, self.epochs.value, self.seed.value, self.profile)
        self._stop.clear()
        self.begin.disabled, self.halt.disabled, self.bar.value = True, False, 0.0
        self.live = Curve(f"under way: {recipe_label(chosen)}", {})
        compiles = chosen.bits != "32/32" and not kernels.settled()
        first = " The first one on a CPU compiles the 1-bit kernels: half a minute." if compiles else ""
        self.message.say(f"Training {recipe_label(chosen)} \u2026{first}")
        self.thread = threading.Thread(target=guarded(self.message)(self._train), args=(chosen,), daemon=True)
        self.thread.start()

    def _train(self, chosen: Recipe) -> None:
        """In the background. Whatever happens, the buttons are usable again afterwards."""
        try:
            steps = chosen.epochs * open_data(chosen, self.folders.get("data_dir", "")).steps(chosen.batch_size)
            run = load_or_train(
                chosen, device=self.device, wait=False, show=False, say=lambda line: None,
                stop=self._watch(steps), on_epoch=self._epoch_done, **self.folders,
            )  # fmt: skip
        except Interrupted:
            # Not a failure: the reader pressed Stop.
            self.live.label = f"stopped: {recipe_label(chosen)}"
            self.message.say(
                "Stopped; everything is saved. The same choices and \u201cTrain this\u201d go on from here."
            )
        except Exception:
            self.live = None  # what went wrong is said in the message
            raise
        else:
            self.live = None
            self.bar.value = 1.0
            self.message.say(f"Done: {run_label(run)}. It is an ordinary run: {run.path}")
            self.shelf.refresh()
            self.choice.value = tuple(dict.fromkeys([*self.choice.value, run.path.name]))
        finally:
            self.begin.disabled, self.halt.disabled = False, True
            self._draw()

    def _watch(self, steps: int):
        """The callable that training asks after each step: counts them for the bar, and says whether to stop."""
        done = 0

        def stop() -> bool:
            nonlocal done
            done += 1
            self.bar.value = max(self.bar.value, min(done / steps, 1.0))
            return self._stop.is_set()

        return stop

    def _epoch_done(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.live.history.setdefault(name, []).append(value)
        done = values["epoch"]
        self.message.say(
            f"{self.live.label}: epoch {done}, training loss {values['train_loss']:.3f}, "
            f"top-1 {values['test_top1']:.1f} %"
        )
        self._draw()

    @staticmethod
    def picture(runs: Iterable[Run], nothing: str) -> str:
        """The charts of some runs, or what to do where there are none."""
        curves = [finished_curve(run) for run in runs]
        if not curves:
            return nothing
        drawn = draw_views(curves)
        return sheet([drawn[:3], drawn[3:]], [_key_line(index, curve) for index, curve in enumerate(curves)])
