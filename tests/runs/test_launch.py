"""Launches: workers that share runs, and the GPUs of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from resteutils.recipes import item_recipes
from resteutils.runs import launch as module
from resteutils.runs.launch import Outcome, Worker, gpu_shares, launch
from resteutils.runs.records import finished_runs
from resteutils.system.locks import locked


@pytest.mark.parametrize(
    ("device", "count", "said", "shares"),
    [
        ("auto", 2, None, ["0", "1", "0"]),
        ("cuda", 2, "2,3", ["2", "3", "2"]),
        ("cuda", 4, "GPU-8f,GPU-1c,GPU-77,GPU-02", ["GPU-8f", "GPU-1c", "GPU-77"]),
        ("cuda:1", 2, None, ["0,1"] * 3),
        ("cuda:1", 2, "2,3", ["2,3"] * 3),
        ("auto", 0, None, [""] * 3),
        ("auto", 0, "", [""] * 3),
        ("cpu", 2, None, [""] * 3),
    ],
)
def test_local_workers_share_the_gpus_in_turn(monkeypatch, device: str, count: int, said: str | None, shares) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if said is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
    assert gpu_shares(device, 3) == shares


@pytest.mark.slow
@pytest.mark.parametrize("gpus", ["", "1"])
def test_a_worker_sees_its_gpus(tmp_path: Path, gpus: str) -> None:
    """In a process of submitit's own, which hides them all at first."""
    submitit = pytest.importorskip("submitit")

    def seen(worker: Worker) -> str:
        assert worker() == []
        return os.environ["CUDA_VISIBLE_DEVICES"]

    job = submitit.LocalExecutor(folder=tmp_path).submit(seen, Worker([], {}, threads=1, gpus=gpus))
    assert job.result() == gpus


@pytest.mark.slow
def test_two_local_workers_finish_every_run_once(runs_dir: Path, results_dir: Path) -> None:
    pytest.importorskip("submitit")
    folders = {"runs_dir": str(runs_dir), "results_dir": str(results_dir)}
    ended = launch("table3", "smoke", "ste,reste,ste-identity", parallel=2, threads=1, device="cpu", **folders)
    assert [(outcome.recipe.row, outcome.state) for outcome in ended] == [
        (row, "finished") for row in ("ste", "reste", "ste-identity")
    ]
    expected = {recipe.run_id for recipe in item_recipes("table3", "smoke", "ste,reste,ste-identity")}
    assert {run.recipe.run_id for run in finished_runs(**folders)} == expected
    logs = "".join(path.read_text() for path in (runs_dir / "launch").glob("*.out"))
    assert logs.count("top-1") >= len(expected)


@pytest.mark.faults("launch is killed")
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_workers_of_a_launch_that_is_killed_save_and_leave(runs_dir: Path, results_dir: Path, number) -> None:
    pytest.importorskip("submitit")
    command = [sys.executable, "-m", "resteutils", "launch", "table3", "--profile", "smoke", "--rows", "ste,reste"]
    command += ["--epochs", "5000", "--parallel", "2", "--threads", "1", "--device", "cpu"]
    done = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    asked = item_recipes("table3", "smoke", "ste,reste", epochs=5000)
    folders = [runs_dir / recipe.run_id for recipe in asked]
    while not all((folder / "history.csv").exists() for folder in folders):  # both train
        assert done.poll() is None, done.stderr.read()
        time.sleep(0.2)
    workers = [int((folder / "lock").read_text().split("@")[0]) for folder in folders]
    done.send_signal(number)
    status = done.wait(120)
    assert status == (-number if number == signal.SIGKILL else 128 + number), done.stderr.read()
    for folder, worker in zip(folders, workers, strict=True):
        with locked(folder / "lock", lambda worker=worker: wait_for_the_end_of(worker)):  # else the test times out
            assert (folder / "checkpoint.pt").exists() and not (folder / "record.json").exists()
    logs = "".join(path.read_text() for path in (runs_dir / "launch").glob("*.err"))
    assert logs.count("everything is saved; the same call goes on from here") == 2


def wait_for_the_end_of(process: int, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    pytest.fail(f"worker {process} goes on without its launch")


def test_one_run_that_fails_does_not_stop_the_others(monkeypatch, capsys) -> None:
    asked = item_recipes("table3", "smoke", "ste,reste")

    def train(recipe, **options):
        if recipe.row == "ste":
            raise OSError("no space left")
        raise module.NonFinite("the loss is nan")

    monkeypatch.setattr(module, "load_or_train", train)
    assert Worker(asked, {})() == [
        Outcome(asked[0], "failed", "OSError: no space left"),
        Outcome(asked[1], "diverged", "the loss is nan"),
    ]
    said = capsys.readouterr()
    assert "no space left" in said.err
    assert "DIVERGED" in said.out


def test_the_best_of_what_workers_say_of_a_run_counts_and_a_job_that_died_says_why(
    monkeypatch, runs_dir, capsys
) -> None:
    """Two workers that share three runs: one dies, the other finishes two and fails at the third."""
    submitit = pytest.importorskip("submitit")

    class Job:
        paths, job_id = SimpleNamespace(stderr="job.err"), 7

        def __init__(self, worker: Worker) -> None:
            self.worker = worker

        def results(self) -> list[list[Outcome]]:
            if self is jobs[0]:
                frame = "-" * 22
                raise RuntimeError(f"Job failed with trace:\n{frame}\nTraceback ...\nMemoryError: 3 GB\n{frame}\nlogs")
            first, second, third = self.worker.recipes
            said = [Outcome(first, "finished"), Outcome(second, "diverged", "nan"), Outcome(third, "failed", "disk")]
            return [said, said]  # two tasks that train together say the same

    jobs: list[Job] = []
    monkeypatch.setattr(submitit.LocalExecutor, "submit", lambda self, worker: jobs.append(Job(worker)) or jobs[-1])
    ended = launch("table3", "smoke", "ste,reste,ede", parallel=2, device="cpu")
    assert [outcome.state for outcome in ended] == ["finished", "diverged", "failed"]
    assert ended[2].reason in ("disk", "job 7 ended: MemoryError: 3 GB") and ended[2].log == "job.err"
    assert "3 runs in 2 jobs; logs in" in capsys.readouterr().out
    jobs.clear()
    (only,) = launch("table3", "smoke", "ste", device="cpu")
    assert only.reason == "job 7 ended: MemoryError: 3 GB"
    assert "1 run in 1 job; logs in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "workers", "said", "threads"),
    [
        (0, 2, None, 3),
        (0, 4, None, 1),
        (0, 9, None, 1),
        (0, 2, "5", 0),
        (0, 1, None, 0),
        (4, 2, "5", 4),
        (4, 1, None, 4),
    ],
)
def test_local_workers_share_the_cores_of_this_process_unless_threads_are_named(
    monkeypatch, asked: int, workers: int, said: str | None, threads: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert module.threads_each(asked, workers) == threads


def test_every_worker_is_given_its_threads(monkeypatch, runs_dir: Path) -> None:
    submitit = pytest.importorskip("submitit")
    monkeypatch.setattr(module, "usable_cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    given: list[int] = []
    monkeypatch.setattr(submitit.LocalExecutor, "submit", lambda self, worker: given.append(worker.threads))
    launch("table3", "smoke", "ste,reste,ede", parallel=3, device="cpu", wait=False)
    launch("table3", "smoke", "ste,reste", parallel=3, device="cpu", wait=False)
    assert given == [2, 2, 2, 3, 3]


@pytest.mark.parametrize("name", ["tasks_per_node", "nodes", "slurm_ntasks_per_node"])
def test_a_run_of_many_tasks_is_refused(name: str) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(ValueError, match=f"{name} = 2, expected 1|{name}: --nodes says that"):
        module.check("slurm", 1, 0, 60, {name: 2})
