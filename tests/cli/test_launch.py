"""`resteutils launch`: what it asks for, and what it says came of it."""

from __future__ import annotations

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
