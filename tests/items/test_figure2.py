"""Figure 2: the gradients of one batch, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.made_up import diverged, records
from torch import nn

import resteutils as ru
from resteutils.items import figure2
from resteutils.recipes import item_recipes
from resteutils.runs.records import Runs
from resteutils.system.settings import Places


def small_model() -> nn.Module:
    layers = [nn.Flatten(), ru.BinaryLinear(12, 8), nn.BatchNorm1d(8), ru.BinaryLinear(8, 3, estimator=ru.ReSTE(o=2))]
    return nn.Sequential(*layers)


def test_gradients_are_described_exactly() -> None:
    model = small_model()
    model(torch.randn(16, 12)).square().sum().backward()
    first, second, pooled = figure2.sizes(model)
    g = torch.cat([model[i].weight.grad.abs().flatten() for i in (1, 3)]).double()
    assert pooled["layer"] == figure2.POOLED
    assert pooled["count"] == first["count"] + second["count"] == len(g)
    assert pooled["s"] == pytest.approx(float(g.var()))
    assert pooled["spread"] == pytest.approx(float(g.std() / g.mean()))
    assert sum(pooled["histogram"]) + pooled["zeros"] == len(g)
    assert pooled["histogram"] == [a + b for a, b in zip(first["histogram"], second["histogram"], strict=True)]
    assert pooled["quantiles"][2] == pytest.approx(float(g[g > 0].quantile(0.5)))


def test_a_common_gain_moves_s_and_not_the_spread() -> None:
    model = small_model()
    model(torch.randn(16, 12)).square().sum().backward()
    before = figure2.sizes(model)[-1]
    for parameter in model.parameters():
        parameter.grad *= 10
    after = figure2.sizes(model)[-1]
    assert after["s"] == pytest.approx(100 * before["s"])
    assert after["spread"] == pytest.approx(before["spread"])
    shifted = [0] * figure2.PER_DECADE + before["histogram"]
    assert np.abs(np.cumsum(after["histogram"]) - np.cumsum(shifted[: figure2.BINS])).max() <= 3  # at bin edges


def test_without_gradients_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="call loss.backward"):
        figure2.sizes(small_model())


def test_records_alone_still_judge_figure_2() -> None:
    runs = records("figure2", seeds="0,1")
    for run in runs:
        scale = {"ste": 1.0, "reste": 10.0, "ede": 100.0}[run.recipe.row] * (1 + 0.1 * run.recipe.seed)
        run.record["history"]["instability_definition"][-1] = 1e-6 * scale
    found = figure2.measure(runs, Places.of())
    assert all(not g.layers for g in found)
    checks = {check.claim: check.status for check in figure2.judge(runs, found, "short").checks}
    assert checks["ede's s = var(|g|) is larger than ste's after 10 epochs"] == "supported"
    assert checks["ede's scale-free spread is larger than ste's after 10 epochs"] == "undecided"  # equal everywhere


def test_figure_2_judges_each_budget_by_itself() -> None:
    runs = records("figure2", seeds="0,1")
    more = runs + records("figure2", seeds="0", epochs=3)
    together = figure2.judge(more, figure2.measure(more, Places.of()), "short").checks
    alone = figure2.judge(runs, figure2.measure(runs, Places.of()), "short").checks
    assert set(alone[1:]) < set(together)
    assert "ede's s = var(|g|) is larger than ste's after 3 epochs" in [check.claim for check in together]


def test_what_diverged_leaves_figure_2_undecided() -> None:
    lost = diverged(item_recipes("figure2", "short", rows="ede", seeds="0")[0], [2.3])
    only = Runs([], [lost])
    assert figure2.judge(only, figure2.measure(only, Places.of()), "short").status != "supported"


def test_a_failed_training_leaves_the_pool_of_figure_2() -> None:
    """ReSTE against STE is decided by their own narrow spread, EDE against STE by the wide one of a collapsed EDE."""
    runs = records("figure2", seeds="0,1,2")
    for run in runs:
        row, seed = run.recipe.row, run.recipe.seed
        wide = {"ste": 1.0 + 0.01 * seed, "reste": 1.2 + 0.01 * seed, "ede": 3.0 * 100.0**seed}[row]
        run.record["history"]["spread"][-1] = wide
        run.record["history"]["train_loss"][-1] *= 10 if row == "ede" else 1
    found = {check.claim: check for check in figure2.judge(runs, figure2.measure(runs, Places.of()), "short").checks}
    reste = found["reste's scale-free spread is larger than ste's after 10 epochs"]
    ede = found["ede's scale-free spread is larger than ste's after 10 epochs"]
    assert reste.status == "supported" and "n = 3, 4 degrees" in reste.shown
    assert ede.status == "undecided" and "since trainings of ede failed" in ede.shown
