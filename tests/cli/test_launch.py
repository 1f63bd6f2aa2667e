"""`resteutils launch`: what it asks for, and what it says came of it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from resteutils.recipes import recipe


@pytest.fixture
def launched(run, monkeypatch: pytest.MonkeyPatch):
    """Call `launch table3` of two rows with the given outcomes: (status, stdout, stderr, what was asked)."""
    from resteutils.runs import launch

    def call(*options: str, **ended: str) -> tuple:
        asked = {}
        outcomes = [launch.Outcome(recipe(f"table3/{row}", "short"), *of, "job.err") for row, of in ended.items()]
        monkeypatch.setattr(launch, "launch", lambda item, **given: asked.update(given) or outcomes)
        return *run("launch", "table3", *options), asked

    return call


def test_launch_ends_with_what_came_of_it_and_what_to_do_now(launched) -> None:
    options = "--rows ste,ede --seeds 0 --set lr=0.05 --results-dir".split() + ["/my results"]
    status, out, _, _ = launched(*options, ste=("finished", ""), ede=("diverged", "the loss is nan"))
    assert status == 0
    assert out.splitlines() == [
        "table3/ede, seed 0 diverged: the loss is nan; log: job.err",
        "1 of 2 finished, 1 diverged, 0 failed; now: `resteutils reproduce table3 --profile demo --rows ste,ede "
        "--seeds 0 --set lr=0.05 --results-dir '/my results'`",
    ]


def test_launch_leaves_with_1_and_says_once_why_runs_failed(launched) -> None:
    gone = ("failed", "FileNotFoundError: CIFAR-10 is not in data/")
    status, out, err, _ = launched(ste=("finished", ""), ede=gone, reste=gone)
    assert status == 1 and err.count("\n") == 1 and "2 of 3 runs failed" in err
    assert out.splitlines() == [
        "table3/ede, seed 0 and 1 more failed: FileNotFoundError: CIFAR-10 is not in data/; log: job.err",
        "1 of 3 finished, 0 diverged, 2 failed",
    ]


def test_launch_without_waiting_says_what_to_do_when_the_runs_are_done(launched) -> None:
    options = "--on slurm --no-wait --cluster slurm_partition=gpu --cluster gpus_per_node=1".split()
    status, out, _, asked = launched(*options)
    assert status == 0 and "`resteutils reproduce table3 --profile demo`" in out
    assert (asked["wait"], asked["slurm_partition"], asked["gpus_per_node"]) == (False, "gpu", 1)


def test_a_cluster_may_have_the_gpu_that_this_machine_lacks(launched, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert launched("--on", "slurm", "--device", "cuda", ste=("finished", ""))[0] == 0


# --- `resteutils reproduce` with several runs at a time ---------------------------------------------------------------


@pytest.fixture
def queued(run, monkeypatch: pytest.MonkeyPatch):
    """Call `reproduce ... --on slurm`: (status, stdout, stderr, what was asked for the runs)."""
    from resteutils.results import slurm

    def call(*options: str) -> tuple:
        asked = {}

        def queue(work: list, logs, settings: dict, parallel: int) -> list:
            asked.update(settings, parallel=parallel)
            return list(work)

        monkeypatch.setattr(slurm, "queue", queue)
        monkeypatch.setattr(slurm, "follow", lambda *given: SimpleNamespace(job_id="7"))
        return *run("reproduce", *options, "--on", "slurm"), asked

    return call


def test_reproduce_hands_gpus_and_nodes_of_a_run_to_slurm(queued) -> None:
    pytest.importorskip("submitit")
    status, _, err, asked = queued("table2", "table3", "--gpus-per-run", "4", "--nodes", "2", "--parallel", "3")
    assert status == 0, err
    assert [asked[name] for name in ("tasks_per_node", "gpus_per_node", "nodes", "parallel")] == [4, 4, 2, 3]


def test_reproduce_on_slurm_ends_with_the_report_of_its_own_results(queued) -> None:
    pytest.importorskip("submitit")
    assert "`resteutils report --results-dir '/my results'`" in queued("table3", "--results-dir", "/my results")[1]
    assert "`resteutils report`" in queued("table3")[1]


@pytest.mark.parametrize("command", ["reproduce all", "reproduce figure1 table3", "launch table3"])
def test_without_submitit_several_runs_are_refused_once_and_before_anything_starts(run, monkeypatch, command) -> None:
    from resteutils.results import reproduce

    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setattr(reproduce, "reproduce", lambda *_, **__: pytest.fail("something was started"))
    status, out, err = run(*command.split(), "--profile", "smoke", "--parallel", "4", "--device", "cpu")
    assert (status, out) == (1, "")
    assert err.count("\n") == 1 and "submitit" in err and "resteutils[cluster]" in err


def test_without_submitit_a_program_s_reproduction_of_all_items_stops_at_once(monkeypatch) -> None:
    from resteutils.results import reproduce

    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setattr(reproduce, "reproduce", lambda *_, **__: pytest.fail("something was started"))
    with pytest.raises(RuntimeError, match="resteutils.cluster"):
        reproduce.reproduce_all("smoke", parallel=4)


def test_items_without_runs_need_no_submitit(run, monkeypatch, tmp_path) -> None:
    from resteutils.cli import reproduce as command
    from resteutils.results import reproduce

    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setattr(reproduce, "reproduce", lambda *_, **__: tmp_path)
    monkeypatch.setattr(command, "_shown", str)
    assert run("reproduce", "figure1", "--parallel", "4") == (0, f"{tmp_path}\n", "")
