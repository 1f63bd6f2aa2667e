"""Runs that are stopped, killed, out of space, diverged or begun twice: nothing is lost, nothing is trained again."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch
from helpers.tiny import RECIPE, TIMES, call, record_path, tiny
from safetensors.torch import load_file

import resteutils as ru
from resteutils.runs import records
from resteutils.runs import store as module
from resteutils.runs.records import ended_runs
from resteutils.runs.store import Busy, finished_runs
from resteutils.training.loop import _Loop
from resteutils.training.stopping import Interrupted, NonFinite


def test_interrupted_then_finished_equals_undisturbed(tmp_path: Path) -> None:
    made = tmp_path / "undisturbed", tmp_path / "its-results"
    call(made)
    folders = tmp_path / "runs", tmp_path / "results"
    steps = iter(range(100))
    with pytest.raises(Interrupted):
        call(folders, stop=lambda: next(steps) == 3)
    assert not record_path(folders).exists()
    assert (folders[0] / RECIPE.run_id / "checkpoint.pt").exists()
    epochs: list[int] = []
    run = call(folders, on_epoch=lambda row: epochs.append(row["epoch"]))
    assert epochs == [2]
    untouched = json.loads(record_path(made).read_text())
    for key, column in untouched["history"].items():
        if key not in TIMES:
            assert run.record["history"][key] == column, key
    first, second = (load_file(runs / RECIPE.run_id / "model.safetensors") for runs in (made[0], folders[0]))
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)


def test_a_diverged_run_is_recorded_and_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders, recipe = (tmp_path / "runs", tmp_path / "results"), tiny(lr=1e20, warmup_epochs=0)
    with pytest.raises(NonFinite) as first:
        call(folders, recipe)
    assert finished_runs(*folders) == []
    (found,) = ended_runs(*folders).diverged
    assert found.reason == first.value.what and len(found.history) < recipe.epochs
    assert found.provenance["threads"] == torch.get_num_threads()  # what was resolved, as in a finished run's
    assert (folders[1] / recipe.profile / "runs" / f"{recipe.run_id}.json").is_file()
    with monkeypatch.context() as patch:
        patch.setattr(module, "train", lambda *args: pytest.fail("trained again"))
        with pytest.raises(NonFinite, match="so its record says; `resteutils train ... --force` trains it again"):
            call(folders, recipe)
    with pytest.raises(NonFinite) as again:
        call(folders, recipe, force=True)
    assert str(again.value) == str(first.value)


def test_the_epochs_before_a_divergence_are_in_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders, recipe, gradients = (tmp_path / "runs", tmp_path / "results"), tiny(), _Loop.gradients

    def bad(self, images, labels):
        loss, correct = gradients(self, images, labels)
        return loss * (math.nan if self.state.epoch else 1.0), correct

    monkeypatch.setattr(_Loop, "gradients", bad)
    with pytest.raises(NonFinite):
        call(folders, recipe)
    (found,) = ended_runs(*folders).diverged
    assert found.history["epoch"].tolist() == [1]
    assert math.isfinite(found.history["train_loss"][0])


def test_what_killed_processes_left_half_written_is_removed(tmp_path: Path) -> None:
    folders = tmp_path / "runs", tmp_path / "results"
    stray = folders[0] / RECIPE.run_id / ".checkpoint.pt.new.abc.tmp"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"half")
    call(folders, stop=lambda: stray.exists() and pytest.fail("still there while training"))
    assert not stray.exists()


def test_a_disk_that_fills_up_at_the_end_costs_the_last_files_only(tmp_path: Path, monkeypatch) -> None:
    folders, write = (tmp_path / "runs", tmp_path / "results"), records.write_atomic

    def full(path, content):
        if Path(path).name == "record.json":
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(records, "write_atomic", full)
    with pytest.raises(OSError, match="No space left"):
        call(folders)
    monkeypatch.undo()
    epochs: list[int] = []
    assert call(folders, on_epoch=lambda row: epochs.append(row["epoch"])).result["epochs"] == 2
    assert epochs == []  # nothing was trained again


def test_two_callers_do_not_train_one_run_at_a_time(tmp_path: Path) -> None:
    folders = tmp_path / "runs", tmp_path / "results"
    begun, go_on, results = threading.Event(), threading.Event(), []

    def first(row):
        begun.set()
        go_on.wait(60)

    thread = threading.Thread(target=lambda: results.append(call(folders, on_epoch=first)))
    thread.start()
    assert begun.wait(60)
    with pytest.raises(Busy, match="is being trained by another process"):
        call(folders, wait=False)
    with pytest.raises(Interrupted, match="before it began"):  # a worker that is asked to stop while it waits
        call(folders, stop=lambda: True)
    said: list[str] = []
    waiting = threading.Thread(target=lambda: results.append(call(folders, say=said.append)))
    waiting.start()
    while not said:
        waiting.join(0.01)
    go_on.set()
    thread.join(60)
    waiting.join(60)
    assert "waiting for it" in said[0]
    assert len(results) == 2
    assert results[0].record == results[1].record  # the second one read what the first one made


@pytest.mark.slow
def test_sigterm_leaves_with_its_status_and_the_run_goes_on(tmp_path: Path) -> None:
    """In a process of its own, as a scheduler sees it, stopped by itself after its first epoch."""
    code = textwrap.dedent("""
        import os, signal
        from resteutils.cli import commands as cli
        from resteutils.training import loop as training
        finish = training._Loop.finish_epoch
        def stopping(self):
            row = finish(self)
            os.kill(os.getpid(), signal.SIGTERM)
            return row
        training._Loop.finish_epoch = stopping
        cli.main(["train", "table3/reste", "--profile", "smoke", "--device", "cpu", "--set", "train_size=32",
                  "--set", "test_size=20"])
    """)
    folders = tmp_path / "runs", tmp_path / "results"
    environment = os.environ | {"RUNS_DIR": str(folders[0]), "RESULTS_DIR": str(folders[1])}
    stopped = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    assert "everything is saved" in stopped.stdout + stopped.stderr
    assert "Traceback" not in stopped.stderr
    epochs: list[int] = []
    call(
        folders,
        ru.recipe("table3/reste", "smoke", train_size=32, test_size=20),
        on_epoch=lambda row: epochs.append(row["epoch"]),
    )
    assert epochs == [2]
