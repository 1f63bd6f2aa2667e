"""Figure 4: error, instability and accuracy against the power; frozen weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.made_up import diverged, records

import resteutils as ru
from resteutils.items.figure4 import frozen, numbers
from resteutils.recipes import item_recipes
from resteutils.runs.records import Runs
from resteutils.system.settings import Places


def test_frozen_errors_fall_and_leave_the_network_as_it_was() -> None:
    model = ru.create("resnet20", estimator=ru.STE())
    ru.anneal(model, 0.25)
    before = [(layer.estimator, layer.progress) for _, layer in ru.binary_layers(model)]
    found = frozen.at_every_power(model)
    for reading in ("definition", "code"):
        values = [line[f"error_{reading}"] for line in found]
        assert values == sorted(values, reverse=True)
    assert "instability_code" not in found[0]
    assert [(layer.estimator, layer.progress) for _, layer in ru.binary_layers(model)] == before


def test_frozen_weights_show_what_the_power_does_to_the_gradients(tmp_path: Path, results_dir: Path) -> None:
    model = ru.create("resnet20", estimator=ru.STE()).train()
    batch = torch.randn(8, 3, 32, 32), torch.arange(8)
    found = frozen.at_every_power(model, batch)
    for _, layer in ru.binary_layers(model):
        layer.set_estimator(ru.ReSTE(o=3))
    model.zero_grad()
    torch.nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    mine = ru.gradient_instability(model, "code")
    assert next(line for line in found if line["o"] == 3)["instability_code"] == pytest.approx(mine, rel=1e-4)
    assert found[-1]["instability_code"] > 100 * found[0]["instability_code"]


def test_runs_that_lie_apart_are_said_with_the_chance_of_it() -> None:
    runs = records("figure4", rows="resnet20-o1,resnet20-o3,resnet20-o20", seeds="0,1,2")
    for run in runs:
        run.record["result"]["top1"] = {1: 60.0, 3: 70.0, 20: 50.0}[run.recipe.estimator.o] + run.recipe.seed
    claim = "ResNet-20, 10 epochs: every run with o up to 3 scores above every run with a larger one"

    def check():
        checks = numbers.judge(runs, numbers.points(runs), frozen.measure(runs, Places.of()), "short").checks
        return next(check for check in checks if check.claim == claim)

    assert check().status == "supported"
    assert (
        "lowest of 6 runs has 60.00 %, the highest of 3 has 52.00 %; by chance alone p = 0.33, powers as units"
        in check().shown
    )
    runs[-1].record["result"]["top1"] = 60.5
    assert check().status == "contradicted" and "by chance" not in check().shown


def test_an_inverted_u_supports_the_claim_and_a_slope_does_not() -> None:
    runs = records("figure4", rows="resnet20-o1,resnet20-o3,resnet20-o20", seeds="0,1,2")
    for run in runs:
        o, seed = run.recipe.estimator.o, run.recipe.seed
        run.record["result"]["top1"] = {1: 60.0, 3: 70.0, 20: 65.0}[o] + 0.1 * seed
        for column in ("spread", "error_definition", "error_code", "instability_definition", "instability_code"):
            run.record["history"][column][-1] *= 1 + 0.01 * seed  # equal values in all seeds would decide nothing
    still = frozen.measure(runs, Places.of())
    verdict = numbers.judge(runs, numbers.points(runs), still, "short")
    assert {check.status for check in verdict.checks if check.kind == "ordering"} == {"supported"}, str(verdict)
    assert verdict.status == "undecided" and "Not run" in verdict.text  # one network of three
    for run in runs:
        run.record["result"]["top1"] = 60.0 + run.recipe.estimator.o + 0.1 * run.recipe.seed
    assert numbers.judge(runs, numbers.points(runs), still, "short").status == "contradicted"
    assert numbers.judge(runs, numbers.points(runs), still, "demo").status == "not claimed"


def test_what_diverged_is_named_in_figure_4(results_dir: Path) -> None:
    runs = Runs(records("figure4", rows="resnet20-o3,resnet20-o10", seeds="0"))
    runs.diverged += [diverged(item_recipes("figure4", "short", rows="resnet20-o20", seeds="0")[0], [2.3])]
    said = numbers.judge(runs, numbers.points(runs), frozen.measure(runs, Places.of()), "short")
    assert "Diverged, and so in none of them: resnet20-o20 (seed 0)" in said.text
