"""What a Slurm job does when it is asked to leave: save, write no result, be queued again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from resteutils.runs import cluster
from resteutils.runs.launch import check
from resteutils.training.stopping import Interrupted


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A task of submitit's Slurm executor; the signals that its own handler of time limits was called with."""
    asked: list[int] = []
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_PROCID", "0")
    before = signal.signal(signal.SIGUSR2, lambda number, frame: asked.append(number))
    yield asked
    signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize(("number", "queued"), [(signal.SIGUSR2, 1), (signal.SIGTERM, 0)])
def test_a_job_leaves_without_a_result(slurm: list[int], number: int, queued: int) -> None:
    """submitit queues it again after a time limit, Slurm itself after a requeue."""
    with pytest.raises(SystemExit) as left, cluster.stopping() as signals:
        os.kill(os.getpid(), number)
        assert signals.caught == number
        raise Interrupted("everything is saved", number)
    assert left.value.code == 128 + number
    assert len(slurm) == queued
    assert signal.getsignal(signal.SIGTERM) is not signals.note


def test_another_task_of_the_job_leaves_quietly(slurm: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(SystemExit) as left, cluster.stopping():
        raise Interrupted("everything is saved", signal.SIGTERM)
    assert left.value.code == 0


def test_elsewhere_the_interruption_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    with pytest.raises(Interrupted), cluster.stopping():
        raise Interrupted("everything is saved", signal.SIGTERM)


def test_tasks_of_one_job_get_torchrun_s_environment(slurm: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"MASTER_ADDR": "node7", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name in (*wanted, "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that what is set here is forgotten afterwards
        monkeypatch.delenv(name)
    job = {"JOB_ID": "5", "NTASKS": "4", "JOB_NUM_NODES": "2", "NODEID": "1", "PROCID": "3", "LOCALID": "1"}
    for name, value in (job | {"JOB_NODELIST": "node[7-8]"}).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    cluster.join_tasks()
    assert {name: os.environ[name] for name in wanted} == wanted
    assert 20_000 <= int(os.environ["MASTER_PORT"]) <= 60_000


def test_several_processes_for_a_run_are_a_matter_of_slurm() -> None:
    with pytest.raises(ValueError, match="torchrun --nproc-per-node"):
        check("local", 1, 0, 1, {}, gpus_per_run=2)
    with pytest.raises(ValueError, match="nodes = 0"):
        check("slurm", 1, 0, 1, {}, nodes=0)
    check("slurm", 1, 0, 1, {}, gpus_per_run=4, nodes=2)
