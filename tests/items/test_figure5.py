"""Figure 5's substitute: how many weights and activations lie where."""

from __future__ import annotations

import pytest
import torch
from helpers.made_up import records
from torch import nn

import resteutils as ru
from resteutils.items import figure5
from resteutils.system.settings import Places


def test_zones_of_known_values() -> None:
    model = nn.Sequential(ru.BinaryLinear(4, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.05, -0.1, 0.5, 2.0], [0.0, 1.5, -1.6, -0.2]]))
    (layer,) = figure5.layer_zones(model, torch.tensor([[0.1, 0.2, 1.5, 1.51]]))
    near = {name: pytest.approx(value) for name, value in {"plateau": 3 / 8, "power": 3 / 8, "clipped": 2 / 8}.items()}
    assert {zone: layer["weights"][zone] for zone in figure5.ZONES} == near
    assert [layer["activations"][zone] for zone in figure5.ZONES] == pytest.approx([0.25, 0.5, 0.25])
    slopes = ru.ReSTE().derivative(model[0].weight.detach()).double()
    assert layer["weights"]["slope"] == pytest.approx(float(slopes.mean()))


def test_shares_count_every_value_once() -> None:
    layers = [{"weights": {"count": 1, "plateau": 1.0, "power": 0.0, "clipped": 0.0}}]
    layers += [{"weights": {"count": 3, "plateau": 0.0, "power": 1.0, "clipped": 0.0}}]
    assert figure5.shares(layers, "weights") == {"plateau": 0.25, "power": 0.75, "clipped": 0.0}


def test_weights_start_as_initialised() -> None:
    run = records("figure5", rows="reste", seeds="0")[0]
    frame = figure5.through_training(run)
    assert frame["progress"].tolist() == pytest.approx([i / run.recipe.epochs for i in range(run.recipe.epochs + 1)])
    assert frame.iloc[0]["plateau"] == pytest.approx(0.856, abs=0.002)  # measured on the authors' network too


def test_the_papers_figure_5_is_never_claimed() -> None:
    runs = records("figure5", "paper", seeds="0")
    assert figure5.judge(runs, figure5.measure(runs, Places.of()), "paper").status == "not claimed"
