"""The explorer without a browser: its sliders make the estimators that train, its charts draw what they compute."""

from __future__ import annotations

import itertools
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import ipywidgets as w
import numpy as np
import pytest
import torch

import resteutils as ru
from resteutils.recipes import recipe
from resteutils.runs import load_or_train
from resteutils.widgets import Explorer
from resteutils.widgets.controls import Controls, parameter_widget
from resteutils.widgets.curve import CurvePanel
from resteutils.widgets.inside import InsidePanel, binary_tile, look
from resteutils.widgets.marks import Bars, Dots, Labels, Line, Note, Place, arranged
from resteutils.widgets.parts import Message, guarded, offer
from resteutils.widgets.samples import fresh_network, normal_values
from resteutils.widgets.shelf import Shelf
from resteutils.widgets.svg import Chart, sheet
from resteutils.widgets.tradeoff import Landscape, TradeoffPanel, plane_chart
from resteutils.widgets.training import Curve, TrainingPanel, draw_views


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """Two finished smoke runs: ReSTE and the float twin."""
    base = tmp_path_factory.mktemp("explorer")
    places = {"runs_dir": str(base / "runs"), "results_dir": str(base / "results")}
    for row in ("resnet20-1w1a", "resnet20-fp"):
        load_or_train(recipe(f"table1/{row}", profile="smoke"), device="cpu", say=lambda line: None, **places)
    return places


def slider(controls: Controls, name: str) -> w.Widget:
    return controls._sliders[controls.choice.value][name]


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_importing_draws_nothing_and_writes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, resteutils.widgets; print(sorted({'matplotlib.pyplot', 'wandb', 'papermill'} & set(sys.modules)))"
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


# --- the trade-off ---------------------------------------------------------------------------------------------------


def test_figures_of_the_normal_sample_are_those_of_the_definition() -> None:
    sample, e = normal_values(2000), ru.ReSTE(o=3)
    measured, z = sample.measure(e), sample.values()
    signs = torch.where(z < 0, -1.0, 1.0)
    sizes = e.derivative(z).abs()
    assert measured.error == pytest.approx(float(torch.linalg.vector_norm(signs - e.surrogate(z))), rel=1e-5)
    assert measured.instability == pytest.approx(float(sizes.var()), rel=1e-4)
    assert measured.spread == pytest.approx(float(sizes.std() / sizes.mean()), rel=1e-4)


@pytest.mark.parametrize("make", [normal_values, fresh_network])
def test_as_the_power_grows_the_error_falls_and_the_instability_rises(make) -> None:
    sample = make()
    low, high = sample.measure(ru.ReSTE(o=1)), sample.measure(ru.ReSTE(o=3))
    assert high.error < low.error
    assert high.instability > low.instability


@pytest.mark.parametrize("make", [normal_values, fresh_network])
def test_texts_on_the_plane_stand_clear_of_each_other_and_of_the_frame(make) -> None:
    landscape, chart = Landscape(make()), plane_chart()
    marks = landscape.plane(chart, ru.ReSTE(), landscape.sample.measure(ru.ReSTE()))
    (labels,) = [mark for mark in marks if isinstance(mark, Labels)]
    place = Place(chart.xlim, chart.ylim, 392, 196, log_y=True)
    boxes = arranged(labels, place)
    assert len(boxes) >= 9
    assert not any(a.meets(b) for a, b in itertools.combinations(boxes, 2))
    for box in boxes:
        assert 0 <= box.left <= box.right <= place.width
        assert 0 <= box.top <= box.bottom <= place.height


def test_an_instability_of_zero_is_shown_at_the_foot() -> None:
    landscape, chart = Landscape(normal_values(2000)), plane_chart()
    e = ru.STE(clip=float("inf"))
    now = landscape.sample.measure(e)
    assert now.instability < 1e-15  # all slopes are 1; what remains is rounding
    (height,) = landscape.plane(chart, e, now)[-1].y
    assert chart.ylim[0] < height < min(m.instability for m in landscape.powers)
    assert chart.ylim[0] > 1e-5


def test_the_dot_moves_with_the_sliders_and_runs_are_offered(folders) -> None:
    controls, shelf = Controls(), Shelf(**folders)
    panel = TradeoffPanel(controls, shelf)
    dot = panel.plane.marks[-1]
    slider(controls, "o").value = 6.0
    moved = panel.plane.marks[-1]
    assert isinstance(moved, Dots)
    assert moved.x[0] < dot.x[0]
    assert moved.y[0] > dot.y[0]
    trained = [key for _, key in panel.choice.options if key not in ("normal", "fresh")]
    assert len(trained) == 1  # the float twin has no binary weights
    panel.choice.value = trained[0]
    shares = ru.zone_shares(shelf.run(trained[0]).model())
    assert f"{100 * shares['plateau']:.1f} %" in panel.weights.value
    assert "267,264 binary weights" in panel.numbers.value
    assert 'role="alert"' not in panel.message.value


# --- a training ------------------------------------------------------------------------------------------------------


def test_a_far_test_loss_does_not_squeeze_the_rest() -> None:
    history = {"epoch": [1, 2], "train_loss": [2.0, 1.0], "test_loss": [30.0, 1.2]}
    chart, lines = draw_views([Curve("a", history)])[0]
    assert 2.0 < chart.ylim[1] < 5.0
    assert lines[1].y.max() == 30.0  # drawn all the same: it leaves at the top
    chart, _ = draw_views([Curve("a", history | {"test_loss": [2.5, 1.2]})])[0]
    assert chart.ylim[1] > 2.5


def training_panel(folders, tmp_path) -> TrainingPanel:
    places = {"runs_dir": str(tmp_path / "own"), "results_dir": str(tmp_path / "own-results")}
    return TrainingPanel(Controls(), Shelf(**places), profile="smoke", device="cpu", **places)


def test_without_runs_the_panel_says_how_to_make_one(folders, tmp_path) -> None:
    panel = training_panel(folders, tmp_path)
    assert "make reproduce-table1 PROFILE=demo" in panel.message.value
    assert "make reproduce-table1" in InsidePanel(panel.shelf).message.value


def test_finished_runs_are_drawn(folders) -> None:
    panel = TrainingPanel(Controls(), Shelf(**folders), profile="smoke", device="cpu", **folders)
    assert len(panel.choice.value) == 2
    accuracy = panel.charts[1].marks
    tops = {tuple(run.history["test_top1"]) for run in panel.shelf.runs.values()}
    assert {tuple(line.y) for line in accuracy} == tops
    panel.choice.value = ()
    assert all([type(mark) for mark in chart.marks] == [Note] for chart in panel.charts)
    assert "no run chosen" in panel.charts[0].value


def test_train_this_stop_and_go_on_leave_an_ordinary_run(folders, tmp_path) -> None:
    panel = training_panel(folders, tmp_path)
    panel.controls.set(o=2.0)
    panel.epochs.value = 3
    draw, panel._draw = panel._draw, lambda change=None: (draw(), panel.live and panel.halt.click())
    panel.begin.click()
    panel.thread.join(60)
    assert "Stopped" in panel.message.value
    assert not panel.begin.disabled
    assert panel.shelf.runs == {}
    panel._draw = draw
    panel.begin.click()
    assert panel.begin.disabled
    panel.thread.join(60)
    assert "Done" in panel.message.value
    (run,) = Shelf(str(tmp_path / "own"), str(tmp_path / "own-results")).runs.values()
    assert run.recipe == recipe("table1/resnet20-1w1a", profile="smoke", epochs=3, estimator=ru.ReSTE(o=2))
    assert list(run.history["epoch"]) == [1, 2, 3]
    assert panel.bar.value == 1.0
    assert panel.choice.value == (run.path.name,)


def test_what_goes_wrong_in_a_training_is_one_line(folders, tmp_path) -> None:
    panel = training_panel(folders, tmp_path)
    (tmp_path / "own").write_text("a file where the folder should be")
    panel.begin.click()
    panel.thread.join(60)
    assert 'role="alert"' in panel.message.value
    assert str(tmp_path / "own") in panel.message.value
    assert not panel.begin.disabled
    assert panel.halt.disabled


def test_a_message_is_one_escaped_line() -> None:
    message = Message()

    @guarded(message)
    def fails() -> None:
        raise ValueError("<b>first</b>\nsecond")

    fails()
    assert "&lt;b&gt;first" in message.value
    assert "second" not in message.value


# --- what a network sees ---------------------------------------------------------------------------------------------


def test_the_network_shown_first_is_a_binary_one_with_its_twin(monkeypatch) -> None:
    def trained(bits: str, top1: float) -> SimpleNamespace:
        return SimpleNamespace(recipe=SimpleNamespace(bits=bits), result={"top1": top1})

    runs = [trained("1/32", 97.0), trained("1/1", 58.0), trained("1/1", 55.0)]
    monkeypatch.setattr(Shelf, "twin", lambda self, run: None if run is runs[1] else run)
    assert Shelf("none", "none").best(runs) is runs[2]
    assert Shelf("none", "none").best([]) is None


def test_binary_maps_are_black_and_white_and_the_twin_is_beside(folders) -> None:
    panel = InsidePanel(Shelf(**folders))
    assert panel.pair.twin is not None
    panel.layer.value, panel.index.value = panel.pair.layers[5], 7
    assert "Float twin" in panel.twin_bars.value
    assert "Test image 7" in panel.image.value
    image = panel.pair.data.normalise(panel.pair.images[7:8])
    sight = look(panel.pair.model, panel.pair.layers[5], image)
    assert float(sight.probabilities.sum()) == pytest.approx(1.0, abs=1e-5)
    assert torch.equal(sight.probabilities, panel.pair.model(image).softmax(1)[0])
    sheet = binary_tile(sight.maps, binarized=True)
    assert set(np.unique(sheet)) <= {0, 128, 255}
    shown = min(len(sight.maps), 32)
    assert (sheet == 255).sum() == 36 * int((sight.maps[:shown] >= 0).sum())
    for view in (panel.image, panel.maps, panel.bars, panel.twin_maps, panel.twin_bars):
        parsed(view.value)


# --- without a reader ------------------------------------------------------------------------------------------------


def test_every_panel_has_a_picture_and_a_live_view(folders) -> None:
    for interactive in (False, True):
        explorer = Explorer("smoke", interactive, **folders)
        for name in ("curve", "tradeoff", "training", "inside"):
            bundle = getattr(explorer, name)()._repr_mimebundle_()
            assert len(list(parsed(bundle["image/svg+xml"]).iter())) > 50
            assert ("application/vnd.jupyter.widget-view+json" in bundle) == interactive


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="profile = 'tiny', expected one of smoke"):
        Explorer("tiny")


@pytest.mark.slow
def test_the_notebook_runs_without_a_reader(root: Path, tmp_path: Path, folders) -> None:
    import papermill

    out = papermill.execute_notebook(
        root / "notebooks" / "explore_reste.ipynb",
        tmp_path / "out.ipynb",
        parameters={"profile": "smoke", "interactive": False, "device": "cpu", **folders},
        kernel_name="python3",
        progress_bar=False,
    )
    pictures = [
        output["data"]
        for cell in out.cells
        for output in cell.get("outputs", ())
        if output["output_type"] in ("display_data", "execute_result")
    ]
    assert len(pictures) == 4
    assert all("image/svg+xml" in data and "application/vnd.jupyter.widget-view+json" not in data for data in pictures)
