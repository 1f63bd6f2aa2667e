"""Sliders that make an estimator: generated from the fields of its dataclass, whatever the estimator."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields

import ipywidgets as w

from resteutils.estimators import ESTIMATORS, Estimator
from resteutils.estimators.base import PATHS
from resteutils.explorer.parts import Message, guarded, row

__all__ = ["Controls", "field_bounds", "parameter_widget"]

# The paper's interval for the power; every other range follows from the default and from what the class accepts.
_USUAL = {"o": (1.0, 10.0)}
_PRESETS = {
    "reste": (("STE (o = 1)", {"o": 1.0}), ("paper (o = 3)", {"o": 3.0}), ("sign (o = 100)", {"o": 100.0})),
}
_STEPS = 2000  # a range is searched for what the class accepts in at most so many steps


def accepts(cls: type[Estimator], name: str, value: float | int) -> bool:
    """Whether ``cls`` takes ``value`` for its parameter ``name``, its other parameters being the defaults."""
    try:
        cls(**{name: value})
    except ValueError:
        return False
    return True


def field_bounds(cls: type[Estimator], name: str) -> tuple[float, float, float]:
    """(lowest, highest, step) of a slider around the default of a numeric field, within what the class accepts."""
    default = next(field.default for field in fields(cls) if field.name == name)
    low, high = _USUAL.get(name, (default - 2 * max(abs(default), 1), default + 2 * max(abs(default), 1)))
    whole = isinstance(default, int)
    step = 1 if whole else 10.0 ** math.floor(math.log10((high - low) / 50))
    ends = []
    for direction, limit in ((-1, low), (1, high)):
        count = 0
        while count < _STEPS:
            value = default + direction * (count + 1) * step
            value = value if whole else round(value, 10)
            if value * direction > limit * direction or not accepts(cls, name, value):
                break
            count += 1
        end = default + direction * count * step
        ends.append(end if whole else round(end, 10))
    return ends[0], ends[1], step


def _tidy(value: float | int | str) -> float | int | str:
    """A value as the reader sees it: a browser's slider sends 0.9999999999999999 for 1, which is another recipe."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def parameter_widget(cls: type[Estimator], name: str) -> w.Widget:
    """The slider or list for one field: linear, logarithmic for a small positive default, whole numbers for ``int``.

    The first field, the one that an estimator is about, gets the widest.
    """
    field = next(field for field in fields(cls) if field.name == name)
    first = name == fields(cls)[0].name
    common = {
        "description": name,
        "style": {"description_width": "initial" if isinstance(field.default, str) else "44px"},
        "layout": w.Layout(
            flex="3 1 300px" if first else "1 1 210px", min_width="200px", max_width="640px" if first else "400px"
        ),
    }
    if isinstance(field.default, str):
        options = [path for path in PATHS if accepts(cls, name, path)]
        return w.Dropdown(options=options, value=field.default, **common)
    if isinstance(field.default, float) and 0 < field.default <= 0.05 and not accepts(cls, name, 0.0):
        exponent = math.log10(field.default)
        return w.FloatLogSlider(
            value=field.default, min=round(exponent) - 1, max=0, step=0.05, readout_format=".2g", **common
        )
    low, high, step = field_bounds(cls, name)
    if isinstance(field.default, int):
        return w.IntSlider(value=field.default, min=low, max=high, **common)
    digits = max(0, -math.floor(math.log10(step)))
    return w.FloatSlider(value=field.default, min=low, max=high, step=step, readout_format=f".{digits}f", **common)


class Controls:
    """A choice of estimator with its sliders, presets, and a place on its path over training, shared by all panels.

    ``final`` is the estimator at the end of its path, ``current`` where the progress slider stands. Both stay at the
    last accepted values while a combination of sliders is refused (m above t, say), which ``message`` then explains.
    """

    def __init__(self, name: str = "reste") -> None:
        self.message = Message()
        self._callbacks: list[Callable[[], None]] = []
        self._sliders: dict[str, dict[str, w.Widget]] = {}
        self._held = False
        self.choice = w.Dropdown(
            options=[(cls.label, key) for key, cls in ESTIMATORS.items()],
            value=name,
            description="estimator",
            style={"description_width": "initial"},
            layout=w.Layout(width="230px"),
        )
        self.presets, self.sliders = row(width="auto"), row()
        self.progress = w.IntSlider(
            value=100,
            min=0,
            max=100,
            description="training, % done",
            style={"description_width": "initial"},
            layout=w.Layout(flex="1 1 300px", min_width="260px", max_width="520px"),
        )
        self.choice.observe(self._chosen, "value")
        self.progress.observe(self._changed, "value")
        self._chosen()

    def view(self, path: bool = True) -> w.Box:
        """The controls as one block; several panels may show it, the sliders are the same. ``path`` adds the place on
        the way through a training.
        """
        rows = [row(self.choice, self.presets), self.sliders]
        if path:
            rows.append(row(self._player(), self.progress))
        return w.VBox([*rows, self.message], layout=w.Layout(width="100%"))

    def observe(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after each change that gives a valid estimator."""
        self._callbacks.append(callback)

    def set(self, **values: float | int | str) -> None:
        """Move several sliders of the chosen estimator at once; a range grows where a value lies beyond it."""
        self._held = True
        try:
            for name, value in values.items():
                slider = self._sliders[self.choice.value][name]
                if isinstance(slider, w.FloatSlider):
                    slider.max = max(value, field_bounds(ESTIMATORS[self.choice.value], name)[1])
                slider.value = value
        finally:
            self._held = False
        self._changed()

    @property
    def current(self) -> Estimator:
        return self.final.at(self.progress.value / 100)

    def _chosen(self, change=None) -> None:
        name = self.choice.value
        cls = ESTIMATORS[name]
        if name not in self._sliders:
            self._sliders[name] = {field.name: parameter_widget(cls, field.name) for field in fields(cls)}
            for slider in self._sliders[name].values():
                slider.observe(self._changed, "value")
        self.sliders.children = tuple(self._sliders[name].values())
        defaults = {field.name: field.default for field in fields(cls)}
        presets = _PRESETS.get(name, (("defaults", defaults),) if defaults else ())
        self.presets.children = [self._preset(text, values) for text, values in presets]
        self._changed()

    def _player(self) -> w.Play:
        """A play button of its own for each view: several views of one player stop each other."""
        player = w.Play(max=100, step=2, interval=80, show_repeat=False, tooltip="play a training")
        player.observe(self._played, "value")
        return player

    def _played(self, change) -> None:
        """Follow a player, except where its stop button takes it back to 0."""
        if change.owner.playing or change.new:
            self.progress.value = change.new

    def _preset(self, text: str, values: dict) -> w.Button:
        button = w.Button(description=text, layout=w.Layout(width="auto"), tooltip=f"set {values}")
        button.on_click(lambda _: self.set(**values))
        return button

    def _changed(self, change=None) -> None:
        if self._held:
            return
        guarded(self.message, "; the charts keep the last accepted values")(self._take)()

    def _take(self) -> None:
        name = self.choice.value
        values = {key: _tidy(slider.value) for key, slider in self._sliders[name].items()}
        self.final = ESTIMATORS[name](**values)
        self.message.say("")
        for callback in self._callbacks:
            callback()
