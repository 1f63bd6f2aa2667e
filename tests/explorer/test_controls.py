"""The explorer's sliders make the estimators that train; its curve panel draws what they compute."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import ipywidgets as w
import numpy as np
import pytest
import torch
from helpers.panels import parsed, slider

import resteutils as ru
from resteutils.explorer.chart import Chart, sheet
from resteutils.explorer.controls import Controls, parameter_widget
from resteutils.explorer.curve import CurvePanel
from resteutils.explorer.marks import Bars, Line
from resteutils.explorer.parts import offer


def test_importing_draws_nothing_and_writes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, resteutils.explorer; print(sorted({'matplotlib.pyplot', 'wandb', 'papermill'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


# --- sliders from dataclass fields -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", ru.ESTIMATORS.values(), ids=list(ru.ESTIMATORS))
def test_every_field_of_every_estimator_has_a_slider_that_its_class_accepts(cls) -> None:
    for field in fields(cls):
        widget = parameter_widget(cls, field.name)
        assert widget.value == field.default
        ends = widget.options if isinstance(widget, w.Dropdown) else (widget.min, widget.max)
        ends = [10**end for end in ends] if isinstance(widget, w.FloatLogSlider) else ends
        for end in ends:
            assert getattr(cls(**{field.name: end}), field.name) == end


def test_an_estimator_nobody_has_thought_of_gets_its_sliders_too() -> None:
    @dataclass(frozen=True)
    class Bounded(ru.Estimator):
        gain: float = 0.5
        steps: int = 4
        name: ClassVar[str] = "bounded"

        def __post_init__(self):
            self._require("gain", 0.2 <= self.gain <= 0.9, "0.2 to 0.9")
            self._require("steps", self.steps > 0, "a positive number")

    gain, steps = parameter_widget(Bounded, "gain"), parameter_widget(Bounded, "steps")
    assert (gain.min, gain.max) == (0.2, 0.9)
    assert isinstance(steps, w.IntSlider)
    assert steps.min == 1


def test_the_power_goes_from_one_to_ten_and_the_buttons_go_where_they_say() -> None:
    controls = Controls()
    power = slider(controls, "o")
    assert (power.min, power.max, power.value) == (1.0, 10.0, 3.0)
    values = {}
    for button in controls.presets.children:
        button.click()
        values[button.description.split()[0]] = controls.final.o
    assert values == {"STE": 1.0, "paper": 3.0, "sign": 100.0}
    controls.presets.children[1].click()
    assert power.max == 10.0  # the range that "sign" widened is the usual one again


def test_progress_walks_the_path_of_the_estimator() -> None:
    controls = Controls()
    controls.progress.value = 50
    assert controls.current == ru.ReSTE().at(0.5)
    slider(controls, "path").value = "linear"
    assert controls.current == ru.ReSTE(path="linear").at(0.5)
    controls.progress.value = 100
    assert controls.current == ru.ReSTE(path="linear")


def test_a_player_moves_the_progress_and_its_stop_button_does_not_undo_it() -> None:
    controls = Controls()
    player = controls._player()
    player.playing, player.value = True, 40
    assert controls.progress.value == 40
    player.playing, player.value = False, 0
    assert controls.progress.value == 40


def test_a_refused_combination_is_one_line_and_the_last_estimator_stays() -> None:
    controls = Controls()
    slider(controls, "m").value = 1.0
    kept = controls.final
    slider(controls, "t").value = 0.5
    assert "m = 1.0" in controls.message.value
    assert 'role="alert"' in controls.message.value
    assert "Traceback" not in controls.message.value
    assert controls.final == kept
    assert "keep the last accepted values" in controls.message.value
    slider(controls, "t").value = 1.5
    assert "alert" not in controls.message.value


def test_a_slider_s_rounding_does_not_make_another_recipe() -> None:
    controls = Controls()
    slider(controls, "m").value, slider(controls, "o").value = 0.19999999999999998, 4.300000000000001
    assert controls.final == ru.ReSTE(o=4.3, m=0.2)


def test_the_panel_of_trainings_has_no_player_that_would_not_train() -> None:
    controls = Controls()
    assert "Play" in str(controls.view().children[2].children)
    assert not any("Play" in str(child) for child in controls.view(path=False).children)


def test_a_list_with_new_options_tells_of_its_value_once() -> None:
    heard: list[str] = []
    choice = w.Dropdown(options=["a", "b"], value="b")
    tell = lambda change=None: heard.append(choice.value)  # noqa: E731
    choice.observe(tell, "value")
    offer(choice, ["c", "a", "b"], "b", tell)
    assert heard == ["b"]
    choice.value = "c"
    assert heard == ["b", "c"]


# --- the curve -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(ru.ESTIMATORS))
def test_the_drawn_curve_is_the_estimator_s_own(name: str) -> None:
    controls = Controls()
    panel = CurvePanel(controls)
    controls.choice.value = name
    e = ru.ESTIMATORS[name]()
    drawn, slope = panel.forward.marks[-1], panel.slope.marks[-1]
    z = torch.from_numpy(drawn.x)
    assert np.array_equal(drawn.y, e.surrogate(z).numpy())
    assert np.array_equal(slope.y, e.derivative(z).numpy())


def test_moving_a_slider_moves_the_line_on_the_page() -> None:
    controls = Controls()
    panel = CurvePanel(controls)
    before = panel.forward.value, panel.slope.value
    slider(controls, "o").value = 5.0
    assert panel.slope.marks[-1].y.max() == pytest.approx(0.1 ** (-4 / 5))
    assert panel.forward.value != before[0]
    assert panel.slope.value != before[1]


def test_any_number_of_curves_side_by_side() -> None:
    controls = Controls()
    panel = CurvePanel(controls)
    panel.pin.click()
    slider(controls, "o").value = 9.0
    panel.others["ede"].value = True
    (alone,) = [line for line in panel.slope.marks if isinstance(line, Line) and line.key.startswith("ede")]
    for other in panel.others.values():
        other.value = True
    lines = [mark for mark in panel.slope.marks if isinstance(mark, Line)]
    assert len(lines) == 1 + 1 + len(ru.ESTIMATORS)
    assert len({(line.colour, line.dash) for line in lines}) == len(lines)  # told apart by colour and dash
    assert (alone.colour, alone.dash) in {(e.colour, e.dash) for e in lines if e.key.startswith("ede")}  # as before
    parsed(panel.slope.value)
    panel.clear.click()
    assert len([mark for mark in panel.slope.marks if isinstance(mark, Line)]) == 1


def test_charts_are_valid_svg_with_a_text_for_screen_readers() -> None:
    chart = Chart("f < g & h", "x, ms", "y, %", (0, 1), (1e-3, 1e2), log_y=True)
    line = Line([0, 1, np.nan], [1e-2, 10, 1], "a < b")
    root = parsed(chart.svg([line, Bars([0, 0.5, 1], [1, 2])], standalone=True))
    assert root.get("role") == "img"
    assert "y, % against x, ms" in root.get("aria-label")
    assert "a < b" in root.get("aria-label")
    assert "a < b" in "".join(parsed(sheet([[(chart, [line]), None], [(chart, [])]], [line])).itertext())
