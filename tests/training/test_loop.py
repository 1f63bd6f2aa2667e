"""The training loop: what it learns, what it writes down, what it refuses."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers.tiny import run, tiny

import resteutils as ru
from resteutils import kernels
from resteutils.nn.indicators import estimating_error, gradient_instability
from resteutils.onebit.model import pack
from resteutils.recipes.build import build_model, open_data
from resteutils.training import epoch as epoch_module
from resteutils.training import loop as module
from resteutils.training.epoch import evaluate, measured_steps
from resteutils.training.progress import Progress, watched

COLUMNS = (
    "epoch progress lr o train_loss train_top1 test_loss test_top1 test_top5 error_code error_definition "
    "instability_code instability_definition spread plateau power clipped seconds images_per_second"
).split()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """(network, history, environment) of one tiny run."""
    return run(tiny(), tmp_path_factory.mktemp("trained"))


# --- what is written down --------------------------------------------------------------------------------------------


def test_history_columns(trained) -> None:
    _, history, _ = trained
    assert [list(row) for row in history] == [COLUMNS] * 2
    assert [row["epoch"] for row in history] == [1, 2]
    assert all(math.isfinite(value) for row in history for value in row.values())


def test_history_by_hand(trained) -> None:
    model, history, _ = trained
    last = history[-1]
    assert (last["progress"], last["o"]) == (1.0, 3.0)
    assert history[0]["progress"] == 2 / 5  # the third of six steps
    assert last["lr"] == pytest.approx(0.05 * (1 + math.cos(math.pi * (5 / 3 - 0.2) / 1.8)))
    assert last["error_code"] == ru.estimating_error(model, "code")
    assert last["instability_code"] == ru.gradient_instability(model, "code")
    zones = ru.zone_shares(model)
    assert {name: last[name] for name in zones} == zones
    later = ru.estimating_error(model, "definition")  # the epoch's mean is between its first and its last step
    ru.anneal(model, 3 / 5)
    earlier = ru.estimating_error(model, "definition")
    ru.anneal(model, 1.0)
    assert later < last["error_definition"] < earlier
    assert last["seconds"] > 0
    for column in ("train_top1", "test_top1", "test_top5"):
        assert 0 <= last[column] <= 100
    assert last["test_top1"] * 20 / 100 == pytest.approx(round(last["test_top1"] * 20 / 100))  # of 20 images


def test_the_history_on_disk_is_the_history_returned(tmp_path: Path) -> None:
    import pandas

    seen: list[dict] = []
    _, history, _ = run(tiny(), tmp_path, on_epoch=seen.append)
    assert seen == history
    table = pandas.read_csv(tmp_path / "history.csv")
    assert list(table) == COLUMNS
    assert table.to_dict("records") == [pytest.approx(row) for row in history]


def test_the_float_twin_has_no_power_and_no_error(tmp_path: Path) -> None:
    model, history, _ = run(tiny("table1/resnet20-fp", epochs=1, warmup_epochs=0), tmp_path)
    assert not ru.binary_layers(model)
    for column in ("o", "error_code", "error_definition", "instability_code", "plateau"):
        assert math.isnan(history[0][column])
    for column in ("train_loss", "instability_definition", "spread"):
        assert math.isfinite(history[0][column])


def test_what_decides_the_rounding_is_recorded(trained) -> None:
    _, _, environment = trained
    assert environment["device"] == "cpu"
    assert environment["threads"] == torch.get_num_threads()
    assert environment["compile"] == "off"
    assert not any(environment[name] for name in ("packed_forward", "table_gradients", "packed_evaluation"))
    assert environment["kernels"] is kernels.available()  # whether or not anything had compiled them before


def test_evaluation_against_a_plain_loop(trained) -> None:
    model, history, _ = trained
    recipe = tiny()
    data = open_data(recipe)
    assert model.training  # evaluation gives the mode back
    with torch.no_grad():
        logits = model.eval()(data.normalise(data.test_images))
    model.train()
    top5 = logits.topk(5).indices
    hits = (top5 == data.test_labels[:, None]).float()
    expected = {
        "loss": torch.nn.functional.cross_entropy(logits, data.test_labels).item(),
        "top1": 100 * hits[:, 0].mean().item(),
        "top5": 100 * hits.sum(1).mean().item(),
    }
    assert evaluate(model, data, recipe) == pytest.approx(expected, rel=1e-5)
    assert history[-1]["test_top1"] == pytest.approx(expected["top1"])
    odd = evaluate(model, data, tiny(eval_batch_size=7))  # every image once, whatever the batches
    assert odd == pytest.approx(expected, rel=1e-5)


def test_evaluation_on_packed_bits_is_the_same_and_only_where_it_is(trained, monkeypatch) -> None:
    if not kernels.available():
        pytest.skip(kernels.why_not())
    (model, _, _), recipe, seen = trained, tiny(), []
    data = open_data(recipe)
    monkeypatch.setattr(epoch_module, "pack", lambda *args, **kw: seen.append(pack(*args, **kw)) or seen[-1])
    for layout in (torch.contiguous_format, torch.channels_last):
        model.to(memory_format=layout)
        expected = evaluate(model, data, recipe)
        assert evaluate(model, data, recipe, packed=True) == pytest.approx(expected, rel=1e-6)
    assert len(seen) == 2  # the packed network is what was asked
    wrong = pack(model.eval(), input_size=(1, 8, 8))
    wrong.program.tensors[f"{len(wrong.program.steps) - 1}.bias"][3] += 1000  # it would always say 3
    model.train()
    monkeypatch.setattr(epoch_module, "pack", lambda *args, **kw: wrong)
    assert evaluate(model, data, recipe, packed=True) == evaluate(model, data, recipe)


@pytest.mark.parametrize("steps", [1, 3, 15, 16, 17, 196, 391])
def test_the_indicators_are_measured_at_spread_out_steps(steps: int) -> None:
    found = sorted(measured_steps(steps))
    assert len(found) == min(max(steps // 8, 1), epoch_module.INDICATOR_BATCHES)
    assert 0 <= found[0] <= found[-1] < steps
    assert (found[0] + found[-1]) / 2 == pytest.approx((steps - 1) / 2, abs=1)


# --- what it learns --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("name", "loss", "top1"), [("table1/resnet20-fp", 0.5, 50), ("table3/reste", 0.9, 11)])
def test_it_learns(name: str, loss: float, top1: float, tmp_path: Path) -> None:
    recipe = tiny(name, epochs=4, train_size=480, test_size=200, batch_size=32)
    _, history, _ = run(recipe, tmp_path)
    losses = [row["train_loss"] for row in history]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < loss * losses[0]
    assert history[-1]["train_top1"] > top1  # of ten classes


def test_the_first_step_by_hand(tmp_path: Path) -> None:
    """One step of SGD with momentum and weight decay on all parameters, without the loop's code."""
    recipe = tiny(epochs=1, warmup_epochs=0, train_size=16)
    model, history, _ = run(recipe, tmp_path)
    twin, data = build_model(recipe).train(), open_data(recipe)
    images, labels = next(data.train_batches(16, recipe.seed, 0))
    ru.anneal(twin, 0.0)
    loss = torch.nn.functional.cross_entropy(twin(images), labels)
    loss.backward()
    for p, updated in zip(twin.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(updated, p - 0.1 * (p.grad + 1e-4 * p))
    assert history[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    # Measured before the update: the weights that the gradients belong to.
    assert history[0]["error_definition"] == pytest.approx(estimating_error(twin), rel=1e-9)
    assert history[0]["error_definition"] != pytest.approx(estimating_error(model), rel=1e-9)
    assert history[0]["instability_definition"] == pytest.approx(gradient_instability(twin), rel=1e-4)


@pytest.mark.parametrize("accumulate", [2, 3, 16])
def test_a_batch_in_parts_gives_the_same_gradient_but_for_batchnorm(
    accumulate: int, tmp_path: Path, monkeypatch
) -> None:
    build = module.build_model

    def without_batch_statistics(recipe, num_classes=0):
        model = build(recipe, num_classes)
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
                part.train = lambda mode=True, part=part: part  # stays in evaluation
                part.training = False
        return model

    monkeypatch.setattr(module, "build_model", without_batch_statistics)
    fields = {"epochs": 1, "warmup_epochs": 0, "train_size": 16, "bits": "32/32", "lr": 0.01}
    whole, _, _ = run(tiny(**fields), tmp_path / "whole")
    parts, _, _ = run(tiny(**fields, accumulate=accumulate), tmp_path / "parts")
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("train_size", "accumulate"), [(18, 2), (19, 2), (23, 16), (18, 8)])
def test_no_part_of_an_odd_last_batch_holds_a_single_image(train_size: int, accumulate: int, tmp_path: Path) -> None:
    _, history, _ = run(tiny(train_size=train_size, accumulate=accumulate, epochs=1, warmup_epochs=0), tmp_path)
    assert math.isfinite(history[0]["train_loss"])


def test_bf16(tmp_path: Path) -> None:
    model, history, _ = run(tiny(precision="bf16", epochs=1, warmup_epochs=0), tmp_path)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert math.isfinite(history[0]["train_loss"])


def test_building_a_network_is_a_pure_function_of_the_recipe() -> None:
    state = torch.get_rng_state()
    first = build_model(tiny())
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(5)
    second, other = build_model(tiny()), build_model(tiny(seed=1))
    assert all(a.equal(b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not next(first.parameters()).equal(next(other.parameters()))


# --- refusals and resources ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"in_channels": 3}, r"the recipe expects images \(3, 8, 8\) in 10 classes, digits has \(1, 8, 8\) in 10"),
        ({"num_classes": 7}, r"in 7 classes"),
        ({"train_size": 1}, "1 training images .*too few"),
        ({"train_size": 5000}, "train_size = 5000"),
    ],
    ids=str,
)
def test_data_that_does_not_fit_the_recipe(fields: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        run(tiny(**fields), tmp_path)


def test_headless_progress_is_plain_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    assert watched() == ""
    said: list[str] = []
    progress = Progress("name", 6, said.append)
    for _ in range(3):
        progress.step()
    row = {"train_loss": 1.0, "test_top1": 50.0, "images_per_second": 100.0, "seconds": 300.0}
    progress.epoch(1, 26, row)  # too soon after the last line
    progress.last_line -= 60
    progress.epoch(2, 26, row)
    progress.epoch(26, 26, row)
    progress.close()
    figures = "training loss 1.0000, test top-1 50.00 %, 100 images/s"
    assert said == [f"name: epoch 2/26, {figures}, about 2.0 hours left", f"name: epoch 26/26, {figures}"]
    assert capsys.readouterr() == ("", "")
