"""What is drawn is what the label names: each picture's data against the column, the formula or the run behind it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.made_up import fake_runs, records

from resteutils import BinaryLinear
from resteutils.estimators import STE, ReSTE
from resteutils.evidence import paper
from resteutils.evidence.names import method
from resteutils.items import deploy, figure1, figure2, figure3, figure5, figure6, lemma, table1, table2, table3
from resteutils.items.curve import analytic, rms_error
from resteutils.items.figure4 import numbers, picture
from resteutils.nn.binarize import sign


def line(axes, label: str):
    (found,) = [each for each in axes.lines if each.get_label() == label]
    return found


def drawn(axes, x, y) -> bool:
    """Whether some line of the axes goes through exactly these points."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    lines = [(np.asarray(each.get_xdata(), float), np.asarray(each.get_ydata(), float)) for each in axes.lines]
    return any(a.shape == x.shape and np.allclose(a, x) and np.allclose(b, y) for a, b in lines)


def titled(figure, text: str):
    (found,) = [axes for axes in figure.axes if text in axes.get_title(loc="left")]
    return found


# --- curves ----------------------------------------------------------------------------------------------------------


def test_figure_1_draws_surrogates_left_and_derivatives_right() -> None:
    figure = figure1.figure()
    nears, diverges = titled(figure, "nears sign"), titled(figure, "diverges at zero")
    trained, price = titled(figure, "As trained"), titled(figure, "price")
    for o in figure1.INTUITION:
        left = line(nears, f"ReSTE, o = {o:g}")
        z, f = left.get_data()
        assert np.allclose(f, analytic(ReSTE(o=o)).surrogate(torch.as_tensor(z)))
        (right,) = [each for each in diverges.lines if each.get_color() == left.get_color()]
        x, slope = right.get_data()
        assert np.allclose(slope, analytic(ReSTE(o=o)).derivative(torch.as_tensor(x)))
        (below,) = [each for each in trained.lines if each.get_color() == left.get_color()]
        z, slope = below.get_data()
        assert np.allclose(slope, ReSTE(o=o).derivative(torch.as_tensor(z)))
        steepest = float(ReSTE(o=o).derivative(torch.zeros(1)))
        assert drawn(price, [rms_error(ReSTE(o=o))], [steepest])
    z, f = line(nears, "STE (clip = 1)").get_data()
    assert np.allclose(f, STE().surrogate(torch.as_tensor(z)))


def test_figure_3_draws_f_under_f_and_the_derivative_under_f_prime() -> None:
    figure, e = figure3.figure(), figure3.as_trained()
    for axes in figure.axes:
        forward = "f(z)" in axes.get_ylabel() and "'" not in axes.get_ylabel()
        trained, published = [each.get_data() for each in axes.lines[:2]]
        z = torch.as_tensor(trained[0])
        assert np.allclose(trained[1], e.surrogate(z) if forward else e.derivative(z))
        expected = analytic(e).surrogate(z) if forward else figure3.drawn_derivative(z)
        assert np.allclose(published[1], expected)
    z, f = line(figure.axes[0], "sign").get_data()
    assert np.allclose(f, sign(torch.as_tensor(z)))


def test_lemma_draws_the_distances_of_every_power() -> None:
    found = lemma.distances()
    norms, coordinates = lemma.figure(found).axes
    for name in lemma.samples():
        plain = line(norms, name)
        assert np.allclose(plain.get_data(), [lemma.POWERS, found[name, False]])
        assert any(
            each.get_linestyle() == "--"
            and each.get_color() == plain.get_color()
            and np.allclose(each.get_ydata(), found[name, True])
            for each in norms.lines
            if len(each.get_xdata())
        )
    for o in (1, 3, 10):
        z, error = line(coordinates, f"ReSTE, o = {o}, as trained").get_data()
        z = torch.as_tensor(z)
        assert np.allclose(error, (sign(z) - ReSTE(o=o).surrogate(z)).abs())


# --- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", [table1, table2])
def test_a_tables_chart_shows_every_seed_their_mean_and_the_published_figure(item) -> None:
    name = item.__name__.rsplit(".", 1)[1]
    runs = fake_runs(name, score=lambda row, seed: 60 + len(row) + 2.5 * seed)
    frame = item.table(runs, "short").frame
    (axes,) = item.figure(runs).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [method(row) for row in frame["row"]]
    for y, row in enumerate(frame.itertuples()):
        seeds = [run.result["top1"] for run in runs if run.recipe.row == row.row]
        assert drawn(axes, seeds, [y] * len(seeds))
        assert drawn(axes, [row.measured_mean], [y])
        diamonds = [each for each in axes.lines if each.get_marker() == "D" and list(each.get_ydata()) == [y]]
        published = [] if pd.isna(row.published) else [row.published]
        assert [each.get_xdata()[0] for each in diamonds] == published


def test_table_3s_chart_shows_the_columns_difference_and_interval() -> None:
    runs = fake_runs("table3", score=lambda row, seed: 60 + len(row) + [0.3, -0.2, 0.4][seed] * len(row) / 5)
    frame, ste = table3.table(runs, "short").frame.set_index("row"), paper.find("table3", "ste")
    (axes,) = table3.figure(runs).axes
    names = {f"{method(row)} (n = {line.n})": row for row, line in frame.iterrows()}
    shown = [names[label.get_text()] for label in axes.get_yticklabels()]
    assert len(shown) == len(frame) - 1 and list(frame.difference[shown]) == sorted(frame.difference[shown])[::-1]
    assert f"{frame.difference['reste']:.1f} points above STE" in axes.get_title(loc="left")
    for y, name in enumerate(shown):
        row = frame.loc[name]
        assert drawn(axes, [row.difference], [y])
        assert drawn(axes, [row.ci_low, row.ci_high], [y, y])
        cell = paper.find("table3", name)
        published = [cell.value - ste.value] if cell is not None and cell.value is not None else []
        diamonds = [each for each in axes.lines if each.get_marker() == "D" and list(each.get_ydata()) == [y]]
        assert [each.get_xdata().item() for each in diamonds] == pytest.approx(published)


# --- figures of training ---------------------------------------------------------------------------------------------


def test_figure_2_draws_the_histograms_and_the_quantiles_of_each_layer() -> None:
    found, rng = [], np.random.default_rng(0)
    for number, run in enumerate(records("figure2", seeds="0")):
        gradients = [torch.from_numpy(rng.lognormal(-9 + number, 1.0 + 0.3 * i, 500)) for i in range(3)]
        model = torch.nn.Module()
        layers = torch.nn.ModuleList([BinaryLinear(25, 20) for _ in gradients])
        for layer, g in zip(layers, gradients, strict=True):
            layer.weight.grad = g.view(20, 25).to(layer.weight.dtype)
        model.layers = layers
        found.append(figure2.Gradients(run, tuple(figure2.sizes(model))))
    plain, scaled, by_layer = figure2.figure(found).axes
    centres = 10.0 ** (figure2.LOWEST + (np.arange(figure2.BINS) + 0.5) / figure2.PER_DECADE)
    for g, left, right in zip(found, plain.lines, scaled.lines, strict=True):
        heights = 100 * figure2.PER_DECADE * np.array(g.pooled["histogram"]) / g.pooled["count"]
        at = np.searchsorted(centres, left.get_xdata()[0] * 0.999)
        part = slice(at, at + len(left.get_xdata()))
        assert np.allclose(left.get_data(), [centres[part], heights[part]])
        assert np.allclose(right.get_data(), [centres[part] / g.pooled["mean"], heights[part]])
        assert heights[part].sum() == pytest.approx(heights.sum(), rel=0.02)
    medians = [each for each in by_layer.lines if each.get_marker() == "o"]
    for g, dots in zip(found, medians, strict=True):
        assert np.allclose(dots.get_ydata(), [layer["quantiles"][2] for layer in g.layers[:-1]])
    thin, thick = by_layer.collections[0], by_layer.collections[1]
    ends = np.array([segment[:, 1] for segment in thin.get_segments()])
    assert np.allclose(ends, [[layer["quantiles"][0], layer["quantiles"][4]] for layer in found[0].layers[:-1]])
    ends = np.array([segment[:, 1] for segment in thick.get_segments()])
    assert np.allclose(ends, [[layer["quantiles"][1], layer["quantiles"][3]] for layer in found[0].layers[:-1]])


def test_figure_4_draws_each_reading_under_its_own_label() -> None:
    runs = records("figure4", rows="resnet20-o1,resnet20-o3,resnet20-o10")
    points = numbers.points(runs)
    points["top1"] += points["seed"]
    still = pd.DataFrame(
        {
            "model": "resnet20",
            "weights": ["initial"] * 3,
            "o": [1.0, 3.0, 10.0],
            "share_definition": [0.9, 0.6, 0.3],
            "share_code": [0.8, 0.5, 0.2],
            "instability_definition": [1e-6, 1e-5, 1e-3],
            "instability_code": [2e-6, 2e-5, 2e-3],
        }
    )
    plane = pd.DataFrame(
        {"label": ["o = 1", "o = 3", "ste"], "o": [1.0, 3.0, np.nan], "e": [500.0, 420.0, 480.0]}
        | {"s": [1e-5, 1e-4, 2e-5], "top1": [57.0, 60.0, 54.0], "n": [3, 3, 3]}
    )
    figure = picture.figure(points, still, plane)
    axes = {each.get_ylabel(): each for each in figure.axes}
    mean = points.groupby("o").mean(numeric_only=True)
    powers = list(mean.index)
    share = axes["e / ceiling"]
    assert np.allclose(line(share, "as defined").get_data(), [powers, mean["share_definition"]])
    assert np.allclose(line(share, "as in the authors' code").get_data(), [powers, mean["share_code"]])
    assert np.allclose(line(share, "initial weights frozen").get_data(), [still["o"], still["share_definition"]])
    s = axes["s, var(|g|)"]
    geometric = points.groupby("o")[["instability_definition", "instability_code"]].agg(
        lambda values: float(np.exp(np.log(values).mean()))
    )
    assert drawn(s, powers, geometric["instability_definition"])
    assert drawn(s, powers, geometric["instability_code"])
    dashed = [each for each in s.lines if each.get_linestyle() == "--"]
    assert {tuple(each.get_ydata()) for each in dashed} >= {tuple(still["instability_code"])}
    assert drawn(axes["spread, std/mean"], powers, mean["spread"])
    assert drawn(axes["top-1 (%)"], powers, mean["top1"])
    (bars,) = axes["top-1 (%)"].containers
    ends = np.array([segment[:, 1] for segment in bars[2][0].get_segments()])
    std = points.groupby("o")["top1"].std()
    assert np.allclose(ends, np.stack([mean["top1"] - std, mean["top1"] + std], axis=1))
    below = axes["gradient instability s, as defined"]
    circles, diamonds = below.collections[:2]
    assert np.allclose(circles.get_offsets(), plane[["e", "s"]][:2])
    assert np.allclose(circles.get_array(), plane["top1"][:2])
    assert np.allclose(diamonds.get_offsets(), plane[["e", "s"]][2:])


def test_figure_5_stacks_each_zone_in_its_own_colour() -> None:
    runs = records("figure5", rows="reste", seeds="0")
    weights = pd.DataFrame({"progress": [0.0, 0.5, 1.0], "plateau": [0.9, 0.8, 0.7]})
    weights["power"], weights["clipped"] = [0.08, 0.15, 0.2], [0.02, 0.05, 0.1]

    def layer(plateau: float, power: float) -> dict:
        return {
            "plateau": plateau,
            "power": power,
            "clipped": 1 - plateau - power,
            "slope": 1.0,
            "slope_spread": 0.1,
            "count": 9,
        }

    made = {
        time: [{"weights": layer(a, 0.1), "activations": layer(b, 0.6)}]
        for time, a, b in (("start", 0.9, 0.05), ("end", 0.7, 0.2))
    }
    sits = [figure5.Zones(run, weights, made) for run in runs]
    figure = figure5.figure(sits)
    through, by_weights, by_activations = figure.axes
    for zone, area in zip(figure5.ZONES, through.collections, strict=True):
        assert area.get_facecolor()[0][:3] == pytest.approx(matplotlib_rgb(figure5.COLOURS[zone]))
        top = area.get_paths()[0].get_extents()
        below = sum(100 * weights[z] for z in figure5.ZONES[: figure5.ZONES.index(zone)])
        assert top.y1 == pytest.approx((below + 100 * weights[zone]).max())
    for axes, side in ((by_weights, "weights"), (by_activations, "activations")):
        for zone, bars in zip(figure5.ZONES, axes.containers, strict=True):
            start, end, only = [bar.get_height() for bar in bars]
            assert start == pytest.approx(100 * figure5.shares(made["start"], side)[zone])
            assert end == pytest.approx(100 * figure5.shares(made["end"], side)[zone])
            assert only == pytest.approx(100 * made["end"][0][side][zone])
            assert bars[0].get_facecolor()[:3] == pytest.approx(matplotlib_rgb(figure5.COLOURS[zone]))


def matplotlib_rgb(colour: str) -> tuple:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def test_figure_6_draws_every_runs_loss_the_gain_and_the_accuracies() -> None:
    runs = records("figure6", rows="o3,o10", seeds="0,1")
    figure = figure6.figure(runs)
    loss, gain, top1 = (titled(figure, text) for text in ("loss", "gain", "Accuracy"))
    for run in runs:
        values = figure6.losses(run)
        share = 100 * np.arange(1, len(values) + 1) / run.recipe.epochs
        assert drawn(loss, share, values)
    progress = np.linspace(0, 1, 101)
    for power in (3, 10):
        slopes = [float(ReSTE(o=power).at(p).derivative(torch.zeros(1))) for p in progress.tolist()]
        assert drawn(gain, 100 * progress, slopes)
    for y, row in enumerate(("o3", "o10")):
        seeds = [run.result["top1"] for run in runs if run.recipe.row == row]
        assert top1.get_yticklabels()[y].get_text() == f"o = {row[1:]}"
        assert drawn(top1, seeds, [y, y])


def test_deploys_bars_are_the_medians_and_their_quartiles() -> None:
    speeds = pd.DataFrame(
        {"network": ["ResNet-18", "VGG-small"], "batch": [1, 64], "times_faster": [6.0, 7.0]}
        | {"low": [5.5, 6.2], "high": [6.4, 7.9]}
    )
    layers = pd.DataFrame(
        {"packed_intensity": [10.0, 20.0], "packed_gmacs": [100.0, 200.0]}
        | {"float_intensity": [1.0, 2.0], "float_gmacs": [10.0, 20.0]}
    )
    left, right = deploy.figure(speeds, layers, {"gmacs": 50.0, "gb_per_s": 10.0}).axes
    assert [bar.get_width() for bar in right.patches] == [6.0, 7.0]
    segments = right.collections[0].get_segments()
    assert np.allclose([segment[:, 0] for segment in segments], [[5.5, 6.4], [6.2, 7.9]])
    for kind, label in (("packed", "1 bit, packed"), ("float", "float32, torch")):
        found = line(left, label).get_data()
        assert np.allclose(found, [layers[f"{kind}_intensity"], layers[f"{kind}_gmacs"]])
