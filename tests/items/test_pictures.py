"""The pictures are drawn, with and without trained networks, and no text on them overlaps."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.made_up import diverged, records

from resteutils.items import figure1, figure2, figure3, figure5, figure6, lemma
from resteutils.items.figure4 import frozen, numbers, picture, plane
from resteutils.recipes import item_recipes
from resteutils.results.folder import stamp
from resteutils.runs.records import Run, Runs
from resteutils.runs.store import load_or_train
from resteutils.system.settings import Places


def texts(figure) -> list[tuple[str, object]]:
    """Every piece of text that is drawn, with its place in pixels; ticks beyond the axes' limits are not drawn."""
    from matplotlib.text import Text

    beyond = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        place = axis.get_transform().transform  # a margin on a logarithmic axis is one of exponents
        low, high = sorted(place(axis.get_view_interval()))
        margin = 1e-6 * (high - low)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low - margin <= place(tick.get_loc()) <= high + margin:
                beyond |= {tick.label1, tick.label2}
    renderer = figure.canvas.get_renderer()
    hidden = {t for axes in figure.axes if not axes.axison for t in axes.findobj(Text)}
    hidden -= {t for axes in figure.axes for t in axes.texts}
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in found if t not in beyond | hidden]


def assert_legible(figure, runs: list[Run], profile: str = "short") -> None:
    """The caption is on it, and no two pieces of text overlap by more than a hair."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    stamp(figure, runs, profile)
    figure.draw_without_rendering()
    found = texts(figure)
    assert any(f"Profile {profile}" in text for text, _ in found)
    for (a, first), (b, second) in itertools.combinations(found, 2):
        wide = min(first.x1, second.x1) - max(first.x0, second.x0)
        high = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert wide <= 1.5 or high <= 1.5, f"{a!r} overlaps {b!r}"


@pytest.mark.parametrize("draw", [figure1.figure, figure3.figure, lambda: lemma.figure(lemma.distances())])
def test_curves_are_legible(draw) -> None:
    assert_legible(draw(), [])


def test_a_diverged_run_is_drawn() -> None:
    whole = records("figure6", rows="o3,o10", seeds="0,1")
    recipe = item_recipes("figure6", "short", rows="o50", seeds="0")[0]
    runs = Runs(whole, [diverged(recipe, train_loss=[2.3, 2.2])])
    figure = figure6.figure(runs)
    assert any(text.get_text() == "diverged" for axes in figure.axes for text in axes.texts)
    assert_legible(figure, runs)


def test_runs_of_other_epochs_are_not_drawn_together(results_dir: Path) -> None:
    short = records("figure6", rows="o3", seeds="0", epochs=3)
    runs = short + records("figure6", seeds="0,1")
    figure = figure6.figure(runs)
    assert "o = 3: 0 and 0 spikes" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert_legible(figure, runs)
    runs = records("figure4", rows="resnet20-o3", seeds="0", epochs=3)
    runs += records("figure4", rows="resnet20-o3,resnet20-o10,vgg-small-o3", seeds="0,1")
    points, still = numbers.points(runs), frozen.measure(runs, Places.of())
    estimators = plane.points(runs, Places.of())
    assert dict(zip(estimators["label"], estimators["n"], strict=True)) == {"o = 3": 2, "o = 10": 2}
    figure = picture.figure(points, still, estimators)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert "ResNet-20, 10 epochs" in titles
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(names) == len(set(names))
    assert_legible(figure, runs)


def test_layers_without_any_gradient_are_crosses_and_not_tiny_numbers() -> None:
    import torch

    import resteutils as ru

    found = []
    for run in records("figure2", seeds="0"):
        model = torch.nn.Sequential(torch.nn.Flatten(), ru.BinaryLinear(12, 8), ru.BinaryLinear(8, 3))
        model(torch.randn(16, 12)).square().sum().backward()
        if run.recipe.row == "ede":
            model[1].weight.grad.zero_()
        found.append(figure2.Gradients(run, tuple(figure2.sizes(model))))
    figure = figure2.figure(found)
    layers = figure.axes[2]
    assert "crosses: all are zero" in layers.get_title(loc="left")
    assert layers.get_ylim()[0] > 1e-12
    assert [len(line.get_xdata()) for line in layers.lines if line.get_marker() == "x"] == [0, 1, 0]
    assert_legible(figure, [g.run for g in found])


def test_figures_of_training_are_legible_from_records_alone(results_dir: Path) -> None:
    runs = records("figure6")
    assert_legible(figure6.figure(runs), runs)
    runs = records("figure2")
    figure = figure2.figure(figure2.measure(runs, Places.of()))
    assert any("only the records survive" in text.get_text().replace("\n", " ") for text in figure.axes[0].texts)
    assert_legible(figure, runs)
    runs = records("figure5", seeds="0")
    figure = figure5.figure(figure5.measure(runs, Places.of()))
    assert any("only the records survive" in text.get_text().replace("\n", " ") for text in figure.axes[2].texts)
    assert_legible(figure, runs)


def test_figure_4_is_legible_with_a_crowded_plane(results_dir: Path) -> None:
    runs = records("figure4", rows=",".join(f"resnet20-o{o:g}" for o in numbers.POWERS))
    still = frozen.measure(runs, Places.of())
    assert set(still["weights"]) == {"initial"}  # no network is left to freeze
    rng = np.random.default_rng(0)
    names = "ste ste-identity dsq ede fda rbnn ste-gain reste-weights reste-activations approxsign swishsign".split()
    names = [f"o = {o:g}" for o in numbers.POWERS] + [*names, "reste-linear", "reste-standardised"]
    powers = [*numbers.POWERS, *[math.nan] * 13]
    values = {"e": rng.normal(400, 30, 20), "s": 10 ** rng.normal(-5, 1, 20), "top1": rng.normal(70, 2, 20)}
    crowded = pd.DataFrame({"label": names, "o": powers, **values, "n": [3] * 15 + [1] * 5})
    figure = picture.figure(numbers.points(runs), still, crowded)
    assert any("only records survive" in text.get_text() for text in figure.legends[0].get_texts())
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "SwishSign (n = 1)" in said and "STE" in said  # the caption counts the seeds of the powers
    assert_legible(figure, runs)


@pytest.mark.slow
def test_measured_on_trained_networks(runs_dir: Path, results_dir: Path) -> None:
    runs = [load_or_train(r, say=lambda line: None, show=False) for r in item_recipes("figure2", "smoke")]
    found = figure2.measure(runs, Places.of(), "cpu")
    assert [len(g.layers) for g in found] == [19, 19, 19]
    assert found[0].pooled["count"] == 267_264
    assert_legible(figure2.figure(found), runs, "smoke")
    sits = figure5.measure([run for run in runs if run.recipe.row != "ede"], Places.of(), "cpu")
    assert all(len(z.layers["start"]) == len(z.layers["end"]) == 18 for z in sits)
    frame = figure5.table(sits)
    assert np.allclose(frame[[f"{zone} (%)" for zone in figure5.ZONES]].sum(axis=1), 100)
    ended = [z for z in sits if z.run.recipe.row == "reste"][0]
    assert figure5.shares(ended.layers["end"], "weights")["plateau"] == pytest.approx(ended.weights.iloc[-1]["plateau"])
    assert_legible(figure5.figure(sits), runs, "smoke")
    (runs[0].path / "model.safetensors").unlink()
    assert figure2.measure(runs, Places.of(), "cpu") == found  # kept beside the records


def test_one_row_is_enough_for_a_picture_and_a_verdict(results_dir: Path) -> None:
    runs = records("figure2", rows="ste", seeds="0")
    found = figure2.measure(runs, Places.of())
    assert_legible(figure2.figure(found), runs)
    assert figure2.judge(runs, found, "short").status == "not claimed"
    runs = records("figure5", rows="ste", seeds="0")
    sits = figure5.measure(runs, Places.of())
    assert_legible(figure5.figure(sits), runs)
    assert figure5.judge(runs, sits, "short").status == "not claimed"
    runs = records("figure6", rows="o10", seeds="0")
    assert_legible(figure6.figure(runs), runs)
    assert figure6.judge(runs, "short").status == "not claimed"
    runs = records("figure4", rows="resnet20-o3", seeds="0")
    points, still = numbers.points(runs), frozen.measure(runs, Places.of())
    assert_legible(picture.figure(points, still, plane.points(runs, Places.of())), runs)
    assert numbers.judge(runs, points, still, "short").status == "not claimed"
