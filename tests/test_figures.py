"""What is measured for the figures: spikes, gradients, zones, curves, the lemma, the equilibrium; their verdicts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import diverged, record_only, records
from torch import nn

import resteutils as ru
from resteutils import curves, divergence, equilibrium, frozen, gradients, lemma, zones
from resteutils.divergence import spikes
from resteutils.indicators import error_ceilings
from resteutils.kept import kept
from resteutils.recipes import item_recipes
from resteutils.records import Run, Runs


def small_model() -> nn.Module:
    layers = [nn.Flatten(), ru.BinaryLinear(12, 8), nn.BatchNorm1d(8), ru.BinaryLinear(8, 3, estimator=ru.ReSTE(o=2))]
    return nn.Sequential(*layers)


# --- the spike detector ----------------------------------------------------------------------------------------------

FALLING = [2.3 * 0.97**i for i in range(100)]


@pytest.mark.parametrize("places", [(), (40,), (20, 60), (10, 35, 70, 95)])
def test_it_counts_the_spikes_that_were_put_in(places: tuple[int, ...]) -> None:
    losses = [x * (1.6 if i in places else 1.0) for i, x in enumerate(FALLING)]
    found = spikes(losses)
    assert [s.peak for s in found] == [i + 1 for i in places]
    assert all(0.4 < s.height <= 0.6 and not s.lasting for s in found)


def test_noise_is_no_spike() -> None:
    rng = np.random.default_rng(0)
    for level in (0.001, 0.01, 0.03):
        for _ in range(20):
            losses = np.array(FALLING) * (1 + level * rng.standard_normal(100))
            assert spikes(losses) == []


def test_flat_noisy_curves_are_rarely_mistaken() -> None:
    """2 % of noise and no trend for 60 epochs, which no real run has: at most one curve in eight gets a spike."""
    rng = np.random.default_rng(1)
    assert sum(len(spikes(1 + 0.02 * rng.standard_normal(60))) for _ in range(50)) <= 6


def test_one_long_rise_is_one_spike_and_one_that_stays_is_lasting() -> None:
    back = [2.0, 1.5, 1.2, 1.0, 1.4, 1.9, 1.5, 0.99, 0.95]
    (found,) = spikes(back)
    assert (found.first, found.peak, found.last, found.lasting) == (5, 6, 7, False)
    assert found.height == pytest.approx(0.9)
    (found,) = spikes([*back[:6], 1.9, 1.9])
    assert found.lasting
    assert found.last == 8


def test_a_loss_that_is_not_a_number_is_a_spike() -> None:
    (found,) = spikes([2.0, 1.5, 1.2, math.nan])
    assert found.height == math.inf
    assert found.lasting


def test_short_and_empty_curves_have_no_spikes() -> None:
    assert spikes([]) == spikes([1.0]) == spikes([2.0, 1.0]) == []


def test_thresholds_are_checked() -> None:
    with pytest.raises(ValueError, match="rise = -1"):
        spikes([1.0], rise=-1)


def test_a_diverged_run_is_counted() -> None:
    whole = records("figure6", rows="o3,o10", seeds="0,1")
    recipe = item_recipes("figure6", "short", rows="o50", seeds="0")[0]
    frame = divergence.table(Runs(whole, [diverged(recipe, train_loss=[2.3, 2.2])]))
    line = frame[frame["Row"] == "o50"].iloc[0]
    assert (line["Spikes"], line["Lasting"], line["Ended"]) == (1, 1, "the loss is not finite")


def test_what_diverged_takes_no_verdict_from_the_others() -> None:
    whole = records("figure6", rows="o3,o10,o20", seeds="0,1,2")
    for run in whole:
        run.record["result"]["top1"] = 60.0 - 0.1 * run.recipe.seed if run.recipe.row != "o3" else 70.0
    lost = [diverged(r, [2.3, 2.2]) for r in item_recipes("figure6", "short", rows="o50", seeds="0,1,2")]
    without = {check.claim: check for check in divergence.judge(whole, "short").checks}
    found = {check.claim: check for check in divergence.judge(Runs(whole, lost), "short").checks}
    for claim in ("o10 scores below o3", "o20 scores below o3"):
        assert found[claim] == without[claim] and found[claim].status == "supported"
    assert found["o50 scores below o3"].status == "undecided" and "diverged" in found["o50 scores below o3"].shown


def test_what_diverged_is_named_in_figures_2_and_4(results_dir: Path) -> None:
    lost = diverged(item_recipes("figure2", "short", rows="ede", seeds="0")[0], [2.3])
    only = Runs([], [lost])
    assert gradients.judge(only, gradients.measure(only), "short").status != "supported"
    runs = Runs(records("figure4", rows="resnet20-o3,resnet20-o10", seeds="0"))
    runs.diverged += [diverged(item_recipes("figure4", "short", rows="resnet20-o20", seeds="0")[0], [2.3])]
    said = equilibrium.judge(runs, equilibrium.points(runs), frozen.measure(runs, results_dir=results_dir), "short")
    assert "Diverged, and so in none of them: resnet20-o20 (seed 0)" in said.text


def test_oscillation_at_a_large_power_supports_the_claim() -> None:
    runs = records("figure6", rows="o3,o10", seeds="0,1,2")
    for run in runs:
        if run.recipe.row == "o10":
            run.record["history"]["train_loss"][5:8] = [2.4, 0.7, 2.4]
        run.record["result"]["top1"] = 60.0 if run.recipe.row == "o10" else 70.0 + 0.1 * run.recipe.seed
    status = {check.claim: check.status for check in divergence.judge(runs, "short").checks}
    assert status["o10 has more spikes than o3"] == "supported"
    assert status["o10 scores below o3"] == "supported"
    assert divergence.judge(runs, "demo").status == "not claimed"


# --- gradients -------------------------------------------------------------------------------------------------------


def test_gradients_are_described_exactly() -> None:
    model = small_model()
    model(torch.randn(16, 12)).square().sum().backward()
    first, second, pooled = gradients.sizes(model)
    g = torch.cat([model[i].weight.grad.abs().flatten() for i in (1, 3)]).double()
    assert pooled["layer"] == gradients.POOLED
    assert pooled["count"] == first["count"] + second["count"] == len(g)
    assert pooled["s"] == pytest.approx(float(g.var()))
    assert pooled["spread"] == pytest.approx(float(g.std() / g.mean()))
    assert sum(pooled["histogram"]) + pooled["zeros"] == len(g)
    assert pooled["histogram"] == [a + b for a, b in zip(first["histogram"], second["histogram"], strict=True)]
    assert pooled["quantiles"][2] == pytest.approx(float(g[g > 0].quantile(0.5)))


def test_a_common_gain_moves_s_and_not_the_spread() -> None:
    model = small_model()
    model(torch.randn(16, 12)).square().sum().backward()
    before = gradients.sizes(model)[-1]
    for parameter in model.parameters():
        parameter.grad *= 10
    after = gradients.sizes(model)[-1]
    assert after["s"] == pytest.approx(100 * before["s"])
    assert after["spread"] == pytest.approx(before["spread"])
    shifted = [0] * gradients.PER_DECADE + before["histogram"]
    assert np.abs(np.cumsum(after["histogram"]) - np.cumsum(shifted[: gradients.BINS])).max() <= 3  # at bin edges


def test_without_gradients_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="call loss.backward"):
        gradients.sizes(small_model())


def test_records_alone_still_judge_figure_2() -> None:
    runs = records("figure2", seeds="0,1")
    for run in runs:
        scale = {"ste": 1.0, "reste": 10.0, "ede": 100.0}[run.recipe.row] * (1 + 0.1 * run.recipe.seed)
        run.record["history"]["instability_definition"][-1] = 1e-6 * scale
    found = gradients.measure(runs)
    assert all(not g.layers for g in found)
    checks = {check.claim: check.status for check in gradients.judge(runs, found, "short").checks}
    assert checks["ede's s = var(|g|) is larger than ste's after 10 epochs"] == "supported"
    assert checks["ede's scale-free spread is larger than ste's after 10 epochs"] == "undecided"  # equal everywhere


def test_figure_2_judges_each_budget_by_itself() -> None:
    runs = records("figure2", seeds="0,1")
    more = runs + records("figure2", seeds="0", epochs=3)
    together = gradients.judge(more, gradients.measure(more), "short").checks
    alone = gradients.judge(runs, gradients.measure(runs), "short").checks
    assert set(alone[1:]) < set(together)
    assert "ede's s = var(|g|) is larger than ste's after 3 epochs" in [check.claim for check in together]


# --- kept measurements -----------------------------------------------------------------------------------------------


def test_a_measurement_is_made_once_and_outlives_the_network(tmp_path: Path, results_dir: Path) -> None:
    run = replace(record_only(item_recipes("figure2", "short", seeds="0")[0]), path=tmp_path)
    made = []

    def measure(run: Run) -> dict:
        made.append(run)
        return {"answer": 42}

    assert kept("test", run, measure, results_dir) is None  # no network, nothing kept
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert kept("test", run, measure, results_dir) == {"answer": 42}
    (tmp_path / "model.safetensors").unlink()
    assert kept("test", run, measure, results_dir) == {"answer": 42}
    assert len(made) == 1


def test_a_measurement_of_an_earlier_training_does_not_count(tmp_path: Path, results_dir: Path) -> None:
    run = replace(record_only(item_recipes("figure2", "short", seeds="0")[0]), path=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    kept("test", run, lambda run: {"answer": 1}, results_dir)
    run.record["provenance"]["created"] = "2027-01-01T00:00:00+00:00"
    assert kept("test", run, lambda run: {"answer": 2}, results_dir) == {"answer": 2}


def test_a_damaged_measurement_is_said_and_made_again(tmp_path: Path, results_dir: Path, capsys) -> None:
    run = replace(record_only(item_recipes("figure2", "short", seeds="0")[0]), path=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    kept("test", run, lambda run: {"answer": 1}, results_dir)
    (path,) = results_dir.glob("short/measured/*.json")
    for spoiled in ('{"trained', "[]", "{}"):
        path.write_text(spoiled)
        assert kept("test", run, lambda run: {"answer": 2}, results_dir) == {"answer": 2}
        assert f"{path} does not count as a measurement" in capsys.readouterr().out


# --- zones -----------------------------------------------------------------------------------------------------------


def test_zones_of_known_values() -> None:
    model = nn.Sequential(ru.BinaryLinear(4, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.05, -0.1, 0.5, 2.0], [0.0, 1.5, -1.6, -0.2]]))
    (layer,) = zones.layer_zones(model, torch.tensor([[0.1, 0.2, 1.5, 1.51]]))
    near = {name: pytest.approx(value) for name, value in {"plateau": 3 / 8, "power": 3 / 8, "clipped": 2 / 8}.items()}
    assert {zone: layer["weights"][zone] for zone in zones.ZONES} == near
    assert [layer["activations"][zone] for zone in zones.ZONES] == pytest.approx([0.25, 0.5, 0.25])
    slopes = ru.ReSTE().derivative(model[0].weight.detach()).double()
    assert layer["weights"]["slope"] == pytest.approx(float(slopes.mean()))


def test_shares_count_every_value_once() -> None:
    layers = [{"weights": {"count": 1, "plateau": 1.0, "power": 0.0, "clipped": 0.0}}]
    layers += [{"weights": {"count": 3, "plateau": 0.0, "power": 1.0, "clipped": 0.0}}]
    assert zones.shares(layers, "weights") == {"plateau": 0.25, "power": 0.75, "clipped": 0.0}


def test_weights_start_as_initialised() -> None:
    run = records("figure5", rows="reste", seeds="0")[0]
    frame = zones.through_training(run)
    assert frame["progress"].tolist() == pytest.approx([i / run.recipe.epochs for i in range(run.recipe.epochs + 1)])
    assert frame.iloc[0]["plateau"] == pytest.approx(0.856, abs=0.002)  # measured on the authors' network too


def test_the_papers_figure_5_is_never_claimed() -> None:
    runs = records("figure5", "paper", seeds="0")
    assert zones.judge(runs, zones.measure(runs), "paper").status == "not claimed"


# --- curves and lemma ------------------------------------------------------------------------------------------------


def test_figure_1_and_3_hold() -> None:
    assert {c.status for c in curves.figure1_verdict("smoke").checks} == {"supported"}
    assert {c.status for c in curves.figure3_verdict("smoke").checks} == {"supported"}


def test_the_two_plateaus() -> None:
    z = torch.tensor([0.0, 0.03, 0.05, 0.1, 0.5, 1.6], dtype=torch.float64)
    trained, drawn = curves.as_trained().derivative(z), curves.drawn_derivative(z)
    assert trained[:4].tolist() == pytest.approx([0.1 ** (-2 / 3)] * 4)
    assert drawn[:3].tolist() == pytest.approx([0.05 ** (-2 / 3) / 3] * 3)
    assert drawn[3] == pytest.approx(0.1 ** (-2 / 3) / 3)
    assert trained[4:].tolist() == drawn[4:].tolist()


def test_the_lemma_holds_and_its_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lemma.judge(lemma.distances(), "smoke").status == "supported"
    monkeypatch.setattr(lemma, "POWERS", (3, 1))  # the wrong way round
    assert lemma.violation()[0] > 0.1
    assert lemma.judge(lemma.distances(), "smoke").status == "contradicted"


def test_what_the_chord_leaves_of_small_weights() -> None:
    z = torch.tensor([0.0, 0.05, -0.05, 0.2], dtype=torch.float64)
    assert lemma.limit(z) == pytest.approx(math.sqrt((1 + 0.25 + 0.25) / 4))
    assert lemma.distance(z, 1e7, truncated=True) == pytest.approx(lemma.limit(z), abs=1e-5)


# --- equilibrium -----------------------------------------------------------------------------------------------------


def test_ceilings_of_resnet20() -> None:
    top = error_ceilings(ru.create("resnet20"))
    assert top["code"] == pytest.approx(1931.6, abs=0.1)
    assert top["definition"] == pytest.approx(math.sqrt(267_264))


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
        checks = equilibrium.judge(runs, equilibrium.points(runs), frozen.measure(runs), "short").checks
        return next(check for check in checks if check.claim == claim)

    assert check().status == "supported"
    assert "lowest of 6 runs has 60.00 %, the highest of 3 has 52.00 %; by chance alone p = 0.037" in check().shown
    runs[-1].record["result"]["top1"] = 60.5
    assert check().status == "contradicted" and "by chance" not in check().shown


def test_an_inverted_u_supports_the_claim_and_a_slope_does_not() -> None:
    runs = records("figure4", rows="resnet20-o1,resnet20-o3,resnet20-o20", seeds="0,1,2")
    for run in runs:
        o, seed = run.recipe.estimator.o, run.recipe.seed
        run.record["result"]["top1"] = {1: 60.0, 3: 70.0, 20: 65.0}[o] + 0.1 * seed
        run.record["history"]["spread"][-1] = 2.0 + 0.01 * seed
    still = frozen.measure(runs)
    verdict = equilibrium.judge(runs, equilibrium.points(runs), still, "short")
    assert {check.status for check in verdict.checks if check.kind == "ordering"} == {"supported"}, str(verdict)
    assert verdict.status == "undecided" and "Not run" in verdict.text  # one network of three
    for run in runs:
        run.record["result"]["top1"] = 60.0 + run.recipe.estimator.o + 0.1 * run.recipe.seed
    assert equilibrium.judge(runs, equilibrium.points(runs), still, "short").status == "contradicted"
    assert equilibrium.judge(runs, equilibrium.points(runs), still, "demo").status == "not claimed"
