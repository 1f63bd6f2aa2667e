"""The explorer's panels without a browser: the trade-off, a training, what a network sees."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.panels import parsed, slider

import resteutils as ru
from resteutils.explorer import Explorer
from resteutils.explorer.controls import Controls
from resteutils.explorer.curve import CurvePanel
from resteutils.explorer.inside import InsidePanel, binary_tile, look
from resteutils.explorer.marks import Dots, Labels, Note, Place, arranged
from resteutils.explorer.parts import Message, Shown, guarded
from resteutils.explorer.samples import fresh_network, normal_values
from resteutils.explorer.shelf import Shelf, recipe_label
from resteutils.explorer.tradeoff import Landscape, TradeoffPanel, plane_chart
from resteutils.explorer.training import Curve, TrainingPanel, draw_views
from resteutils.recipes import item_recipes, recipe
from resteutils.runs.store import load_or_train


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """Two finished smoke runs: ReSTE and the float twin."""
    base = tmp_path_factory.mktemp("explorer")
    places = {"runs_dir": str(base / "runs"), "results_dir": str(base / "results")}
    for row in ("resnet20-1w1a", "resnet20-fp"):
        load_or_train(recipe(f"table1/{row}", profile="smoke"), device="cpu", say=lambda line: None, **places)
    return places


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


def test_a_run_that_cannot_be_measured_leaves_no_numbers_of_another(folders, monkeypatch) -> None:
    controls = Controls()
    panel = TradeoffPanel(controls, Shelf(**folders))
    (trained,) = [key for _, key in panel.choice.options if key not in ("normal", "fresh")]

    def damaged(*_):
        raise ValueError("its weights are damaged")

    with monkeypatch.context() as patched:
        patched.setattr("resteutils.explorer.tradeoff.trained_network", damaged)
        panel.choice.value = trained
        slider(controls, "o").value = 2.0
    assert "its weights are damaged" in panel.message.value
    assert panel.numbers.value == panel.legend.value == ""
    assert [type(mark) for mark in panel.plane.marks] == [type(mark) for mark in panel.weights.marks] == [Note]
    panel.choice.value = "normal"
    assert "standard normal values" in panel.numbers.value


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
    panel.choice.value = tuple(panel.shelf.runs)
    assert len(panel.choice.value) == 2
    accuracy = panel.charts[1].marks
    tops = {tuple(run.history["test_top1"]) for run in panel.shelf.runs.values()}
    assert {tuple(line.y) for line in accuracy} == tops
    panel.choice.value = ()
    assert all([type(mark) for mark in chart.marks] == [Note] for chart in panel.charts)
    assert "no run chosen" in panel.charts[0].value


def test_the_paper_s_comparison_is_chosen_first_else_the_newest_run() -> None:
    shelf = Shelf("none", "none")
    newest, *others = [
        recipe("table1/vgg-small-1w1a"), recipe("table3/ste"), recipe("table3/reste", "short"),
        recipe("table3/ste", "short"), recipe("table3/ste", "short", seed=1),
    ]  # fmt: skip
    shelf.runs = {r.run_id: None for r in (newest, *others)}
    assert shelf.comparison() == [others[2].run_id, others[1].run_id]
    shelf.runs = {newest.run_id: None, others[3].run_id: None}
    assert shelf.comparison() == [newest.run_id]
    shelf.runs = {}
    assert shelf.comparison() == []


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


# --- cells that are run again, runs that look alike ------------------------------------------------------------------


def test_a_cell_that_is_run_again_shows_the_same_panel(folders) -> None:
    explorer = Explorer("smoke", **folders)
    for name in ("curve", "tradeoff", "training", "inside"):
        assert getattr(explorer, name)().panel is getattr(explorer, name)().panel
    panel, drawn = explorer.training().panel, len(explorer.shelf._callbacks)
    explorer.training()
    assert explorer.training_panel is panel
    assert len(explorer.shelf._callbacks) == drawn


def test_a_picture_that_fails_does_not_take_the_panel_with_it() -> None:
    def fails() -> str:
        raise FileNotFoundError("CIFAR-10 is not in data/")

    bundle = Shown(fails, CurvePanel(Controls()))._repr_mimebundle_()
    assert bundle["text/markdown"] == "No picture: CIFAR-10 is not in data/"
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_every_row_of_table_3_has_a_label_of_its_own() -> None:
    recipes = [*item_recipes("table3", "short", seeds="0"), recipe("table3/ste", "short", lr=0.05)]
    assert len({recipe_label(r) for r in recipes}) == len(recipes)
    label = recipe_label(recipe("table3/reste-weights", "short"))
    assert "ReSTE, o = 3 on weights, STE on activations" in label


def test_the_label_of_a_reader_s_own_training_says_everything_once() -> None:
    own = recipe("table1/resnet20-1w1a", epochs=6, bits="1/32", estimator=ru.ReSTE(o=2, t=1.2), lr=0.05)
    label = recipe_label(own)
    assert label == "resnet20 1/32 ReSTE, o = 2, t = 1.2, lr = 0.05, digits 6 ep, seed 0"


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
