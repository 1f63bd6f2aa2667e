"""A run that is stopped or killed at any moment ends with exactly the numbers of one that is not."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy
import pytest
import torch
from helpers.tiny import paused_training, tiny, untimed

from resteutils import kernels
from resteutils.training.checkpoint import (
    LAST,
    PREVIOUS,
    CheckpointError,
    compare_environment,
    load_checkpoint,
    save_checkpoint,
)
from resteutils.training.loop import train
from resteutils.training.stopping import Interrupted

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = tiny(checkpoint_minutes=0)  # a checkpoint after every step
STEPS = 6


def run(folder: Path, stop_after: int = 0, recipe=RECIPE, say=lambda line: None):
    """Train in ``folder``, stopping after so many steps of this call; (weights, history) if it came to the end."""
    count = iter(range(1, 1000))
    stop = (lambda: next(count) >= stop_after) if stop_after else None
    model, history, _ = train(recipe, folder, "cpu", stop=stop, say=say, show=False)
    return model.state_dict(), untimed(history)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = run(tmp_path_factory.mktemp("undisturbed"))
    torch.set_num_threads(before)
    return found


def assert_same(found, expected) -> None:
    assert found[1] == expected[1]
    assert found[0].keys() == expected[0].keys()
    for name, tensor in found[0].items():
        assert tensor.equal(expected[0][name]), name


def test_the_same_recipe_gives_the_same_bits_whatever_the_random_state_of_the_process(
    undisturbed, tmp_path: Path
) -> None:
    torch.manual_seed(1234)
    random.seed(99)
    state = torch.get_rng_state()
    assert_same(run(tmp_path), undisturbed)
    assert torch.get_rng_state().equal(state)  # and leaves it alone


def test_another_seed_gives_another_run(undisturbed, tmp_path: Path) -> None:
    weights, history = run(tmp_path, recipe=tiny(checkpoint_minutes=0, seed=1))
    assert history != undisturbed[1]
    assert not weights["stem.0.weight"].equal(undisturbed[0]["stem.0.weight"])


@pytest.mark.parametrize("stop_after", range(1, STEPS))
def test_stopped_after_any_step(undisturbed, tmp_path: Path, stop_after: int) -> None:
    with pytest.raises(Interrupted, match="everything is saved; the same call goes on"):
        run(tmp_path, stop_after)
    assert_same(run(tmp_path), undisturbed)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_stopped_with_other_optimizers_and_scaled_weights(tmp_path: Path, optimizer: str) -> None:
    recipe = tiny(checkpoint_minutes=0, optimizer=optimizer, lr=1e-3, weight_scale=0.25)
    whole = run(tmp_path / "whole", recipe=recipe)
    with pytest.raises(Interrupted):
        run(tmp_path / "stopped", stop_after=4, recipe=recipe)
    assert_same(run(tmp_path / "stopped", recipe=recipe), whole)


def test_stopped_after_every_step_again_and_again(undisturbed, tmp_path: Path) -> None:
    for _ in range(STEPS):
        try:
            found = run(tmp_path, stop_after=1)
        except Interrupted:
            continue
    assert_same(found, undisturbed)


def test_resuming_a_finished_run_trains_nothing(undisturbed, tmp_path: Path) -> None:
    run(tmp_path)
    said: list[str] = []
    assert_same(run(tmp_path, stop_after=1, say=said.append), undisturbed)  # not a single step: nobody asked stop
    assert any("going on after epoch 2" in line for line in said)


@pytest.mark.parametrize("damage", [LAST, PREVIOUS, "both"])
def test_damaged_checkpoints_cost_time_and_no_digit(undisturbed, tmp_path: Path, damage: str) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, stop_after=5)
    for name in (LAST, PREVIOUS):
        if damage in (name, "both"):
            path = tmp_path / name
            path.write_bytes(path.read_bytes()[:-7])
    said: list[str] = []
    assert_same(run(tmp_path, say=said.append), undisturbed)
    assert any("damaged" in line for line in said) == (damage != PREVIOUS)


def test_the_history_on_disk_is_that_of_finished_epochs(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, stop_after=4)
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert len(lines) == 2
    assert lines[0].split(",")[:4] == ["epoch", "progress", "lr", "o"]
    assert lines[1].startswith("1,")


def test_a_checkpoint_is_complete(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, stop_after=4)
    state = load_checkpoint(tmp_path / LAST, RECIPE)
    assert (state["epoch"], state["step"]) == (1, 1)
    assert {"model", "optimizer", "rng", "history", "recipe", "environment", "sums"} <= set(state)
    assert all(torch.isfinite(s["momentum_buffer"]).all() for s in state["optimizer"]["state"].values())
    progress = {value.item() for key, value in state["model"].items() if key.endswith("_extra_state")}
    assert progress == {3 / 5}  # the fourth of six steps


def test_resuming_with_other_threads_warns(tmp_path: Path, threads) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, stop_after=1)
    threads(2)
    said: list[str] = []
    with pytest.raises(Interrupted):
        run(tmp_path, stop_after=1, say=said.append)
    assert any("threads = 2, the run began with 1" in line for line in said)


def test_what_changed_on_the_way_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, stop_after=1)
    with monkeypatch.context() as patch:
        patch.setattr(numpy, "__version__", "1.0")
        said: list[str] = []
        with pytest.raises(Interrupted):
            run(tmp_path, stop_after=1, say=said.append)
    assert any("numpy = 1.0, the run began with" in line for line in said)
    _, _, environment = train(RECIPE, tmp_path, "cpu", say=lambda line: None, show=False)
    assert environment["changed"] == {"numpy": [numpy.__version__, "1.0"]}
    assert environment["numpy"] == numpy.__version__


def test_gradients_by_tables_resume_to_the_same_bits(tmp_path: Path) -> None:
    if not kernels.ready():
        pytest.skip("the kernels are not compiled; tests/kernels compiles them")
    recipe = tiny(checkpoint_minutes=0, table_gradients=True)
    whole = run(tmp_path / "whole", recipe=recipe)
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", stop_after=4, recipe=recipe)
    assert_same(run(tmp_path / "parts", recipe=recipe), whole)


def test_a_checkpoint_from_before_tables_says_that_the_gradients_changed(tmp_path: Path) -> None:
    said: list[str] = []
    before = {"files": "", "threads": 1}
    as_before = before | {"table_gradients": False, "packed_evaluation": False}
    changed = compare_environment(before, as_before | {"table_gradients": True}, tmp_path, said.append)
    assert changed == {"table_gradients": [False]}
    assert "table_gradients = True, the run began with False" in said[0]
    assert not compare_environment(before, as_before, tmp_path, said.append)


def test_a_checkpoint_that_does_not_fit_the_network_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, stop_after=2)
    state = load_checkpoint(tmp_path / LAST, RECIPE)
    state["model"] = {f"module.{name}": tensor for name, tensor in state["model"].items()}
    for _ in (LAST, PREVIOUS):
        save_checkpoint(tmp_path, state, RECIPE)
    with pytest.raises(CheckpointError, match="does not fit this version of the network; `--force` trains from the"):
        run(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        lambda state: {name: value for name, value in state.items() if name != "environment"},
        lambda state: state | {"environment": ["torch", "2.0"]},
        lambda state: state | {"history": None},
        lambda state: state | {"epoch": "one"},
        lambda state: state | {"step": 10**6},
        lambda state: state | {"rng": [1, 2, 3]},
        lambda state: state | {"optimizer": {"state": {}}},
        lambda state: {"recipe": state["recipe"]},
    ],
    ids=["no environment", "a list", "no history", "text", "a step beyond", "a list of numbers", "half", "recipe only"],
)
def test_a_checkpoint_of_another_version_is_passed_over_for_the_previous_one(undisturbed, tmp_path, other) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, stop_after=5)
    assert (tmp_path / PREVIOUS).exists()
    save_checkpoint(tmp_path / "other", other(load_checkpoint(tmp_path / LAST, RECIPE)), RECIPE)
    (tmp_path / "other" / LAST).replace(tmp_path / LAST)
    said: list[str] = []
    assert_same(run(tmp_path, say=said.append), undisturbed)
    assert any("`--force` trains from the start" in line and "looking for an earlier one" in line for line in said)
    save_checkpoint(tmp_path / "other", other(load_checkpoint(tmp_path / PREVIOUS, RECIPE)), RECIPE)
    for name in (LAST, PREVIOUS):
        (tmp_path / name).write_bytes((tmp_path / "other" / LAST).read_bytes())
    with pytest.raises(CheckpointError, match="`--force` trains from the start"):
        run(tmp_path)


# --- killed ----------------------------------------------------------------------------------------------------------


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@pytest.mark.faults("killed five times at random moments")
@pytest.mark.slow
def test_killed_at_random_moments(undisturbed, tmp_path: Path) -> None:
    """SIGKILL leaves no chance to save. Checkpoints are written after every step: kills land there too."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["resteutils.training.loop", "sklearn.datasets", "sklearn.model_selection"])
    moments, kills = random.Random(2308), 0
    for attempt in range(6):
        before = _written(tmp_path / LAST)
        process = processes.Process(target=paused_training, args=(RECIPE, str(tmp_path)))
        process.start()
        if attempt % 3 < 2:  # twice in three after at least one step; else at any moment
            while _written(tmp_path / LAST) == before and process.is_alive():
                time.sleep(0.001)
        process.join(timeout=moments.uniform(0.0, 0.06) if attempt < 5 else None)
        if process.exitcode is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    assert process.exitcode == 0
    assert kills >= 3
    said: list[str] = []
    assert_same(run(tmp_path, say=said.append), undisturbed)
    assert not any("damaged" in line for line in said)  # a kill leaves no damaged checkpoint
