"""Two processes train what one would: gradients, evaluation, who writes, how they stop, die and go on."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from helpers.tiny import tiny
from helpers.two_processes import (
    ACCUMULATED,
    RECIPE,
    SIZES,
    batchnorm,
    float64,
    frozen_statistics,
    normalised,
    trained,
)
from safetensors.torch import load_file
from torch import nn

import resteutils as ru
from resteutils.recipes.build import build_model, open_data
from resteutils.training import loop as training
from resteutils.training.epoch import evaluate
from resteutils.training.processes import Processes, processes
from resteutils.training.schedules import learning_rate, path_progress

HERE = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
TRAIN = ["-m", "resteutils", "train", "table3/reste", "--profile", "smoke", "--set", "checkpoint_minutes=0"]
TRAIN += ["--epochs", "6", "--set", "train_size=47", "--set", "batch_size=16", "--set", "test_size=19"]
pytestmark = pytest.mark.usefixtures("one_thread")

ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "WANDB_MODE": "disabled",
    "PYTHONPATH": os.pathsep.join(map(str, (HERE.parent, HERE.parents[1]))),
}


# --- the mathematics: one launch, looked at from several sides --------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory):
    """What the two processes of two_processes.py found, by rank, and their folder."""
    folder = tmp_path_factory.mktemp("pair")
    script = [*TORCHRUN, str(HERE.parent / "helpers" / "two_processes.py"), str(folder)]
    subprocess.run(script, env=ENVIRONMENT, check=True, capture_output=True, text=True, timeout=400)
    return [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)], folder


def buffers_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.named_buffers()}


def apart_and_averaged(recipe) -> tuple[nn.Module, list[float]]:
    """One process, plain torch: each step runs the two shards apart from the same running statistics, keeps the first
    shard's, and averages the gradients of (2 / images) x (sum of losses). The network and each epoch's mean loss.
    """
    model, data, losses = training.build_model(recipe), training.open_data(recipe), []
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    steps = data.steps(recipe.batch_size, 2)
    for epoch in range(recipe.epochs):
        model.train()
        shards = [data.train_batches(recipe.batch_size, recipe.seed, epoch, 0, rank, 2) for rank in (0, 1)]
        total, seen = 0.0, 0
        for step, parts in enumerate(zip(*shards, strict=True), epoch * steps):
            optimizer.param_groups[0]["lr"] = learning_rate(recipe, step, steps)
            ru.anneal(model, path_progress(recipe, step, steps))
            before, whole, gradients = buffers_of(model), sum(len(labels) for _, labels in parts), []
            for images, labels in reversed(parts):  # the first shard last: its running statistics stay
                for name, value in model.named_buffers():
                    value.copy_(before[name])
                loss = F.cross_entropy(model(images), labels, reduction="sum")
                gradients.append(torch.autograd.grad(loss * 2 / whole, list(model.parameters())))
                total, seen = total + loss.item(), seen + len(labels)
            for parameter, *both in zip(model.parameters(), *gradients, strict=True):
                parameter.grad = torch.stack(both).mean(0)
            optimizer.step()
        losses.append(total / seen)
    return model, losses


def test_two_processes_are_one_that_runs_the_shards_apart_and_averages(pair) -> None:
    found, _ = pair
    with float64():
        model, losses = apart_and_averaged(RECIPE)
    theirs = found[0]["trained"]
    assert [row["train_loss"] for row in theirs["history"]] == pytest.approx(losses, rel=1e-12)
    begun = build_model(RECIPE).state_dict()
    for name, value in model.named_parameters():
        assert theirs["model"][name].dtype == torch.float64
        torch.testing.assert_close(theirs["model"][name], value, rtol=1e-11, atol=1e-13)
        if value.ndim > 1:
            assert not torch.allclose(value, begun[name].double(), rtol=1e-4), f"{name} never moved"
    statistics = {name: value for name, value in model.state_dict().items() if "running_" in name}
    assert len(statistics) == 40  # of 19 BatchNorm2d and the BatchNorm1d
    for name, value in statistics.items():
        torch.testing.assert_close(theirs["model"][name], value, rtol=1e-11, atol=1e-13)


def test_both_processes_end_with_the_same_network(pair) -> None:
    (first, second), _ = pair
    tensors = {k: v for k, v in first["trained"]["model"].items() if isinstance(v, torch.Tensor)}
    assert len(tensors) > 100
    for name, value in tensors.items():
        assert value.equal(second["trained"]["model"][name]), name


def test_the_test_images_are_split_without_padding(pair) -> None:
    found, _ = pair
    model = build_model(RECIPE)
    for size in SIZES:  # of one image, the second process has none
        recipe = tiny(test_size=size, eval_batch_size=3)
        alone = evaluate(model, open_data(recipe), recipe)
        assert found[0][f"evaluated {size}"] == pytest.approx(alone, rel=1e-6)
        assert found[1][f"evaluated {size}"] == found[0][f"evaluated {size}"]


@pytest.mark.parametrize("size", [1, 2, 7, 20])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_image_is_in_one_batch_of_one_process(size: int, world: int) -> None:
    data = open_data(tiny(test_size=size, train_size=size + 5))
    tested = [labels for rank in range(world) for _, labels in data.test_batches(3, rank, world)]
    assert sorted(torch.cat(tested).tolist()) == sorted(data.test_labels.tolist())
    batches = [[labels for _, labels in data.train_batches(6, 0, 0, 0, rank, world)] for rank in range(world)]
    whole = [labels for _, labels in data.train_batches(6, 0, 0)]
    assert {len(each) for each in batches} == {data.steps(6, world)}
    for labels, *shards in zip(whole, *batches, strict=False):
        assert sorted(torch.cat(shards).tolist()) == sorted(labels.tolist())
        assert min(map(len, shards)) >= 2


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_a_batch_in_parts_is_the_same_step_in_two_processes(pair, accumulate: int, tmp_path: Path) -> None:
    """One process, its batch whole or in parts, against two processes that cut theirs in two."""
    found, _ = pair
    with float64(), frozen_statistics():
        alone = trained(replace(ACCUMULATED, accumulate=accumulate), tmp_path)["model"]
    for name, value in alone.items():
        torch.testing.assert_close(found[0]["accumulated"][name], value, rtol=1e-10, atol=1e-12)


def test_only_the_leading_process_writes(pair) -> None:
    _, folder = pair
    written = {path.name for path in (folder / "run").iterdir()}
    assert written == {"checkpoint.pt", "checkpoint.previous.pt", "history.csv"}
    assert len((folder / "run" / "history.csv").read_text().splitlines()) == 1 + RECIPE.epochs


def test_batchnorm_over_processes_is_that_of_all_images(pair) -> None:
    """Of 4 images in one process and 3 in the other: output, statistics, and gradients, which are summed."""
    found, expected = [each["normalised"] for each in pair[0]], normalised(batchnorm())
    for name in ("out", "evaluated", "grad x"):
        for rank in (0, 1):
            torch.testing.assert_close(found[rank][name], expected[name][rank::2])
    for name in ("grad weight", "grad bias"):
        torch.testing.assert_close(found[0][name] + found[1][name], expected[name])
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        for rank in (0, 1):
            torch.testing.assert_close(found[rank][name], expected[name])


# --- SyncBatchNorm and the refusals ----------------------------------------------------------------------------------


def test_batchnorm_is_converted_for_gpus_and_computes_the_same_there() -> None:
    model = build_model(ru.recipe("table2/resnet18-1w1a", profile="smoke"))
    plain = {name: part for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d)}
    state, images = model.state_dict(), torch.rand(2, 3, 32, 32)
    expected = model.eval()(images)
    shared = Processes(0, 2).sync_batchnorm(model, torch.device("cuda"))
    converted = [name for name, part in shared.named_modules() if isinstance(part, nn.SyncBatchNorm)]
    assert converted == list(plain)
    assert shared.state_dict().keys() == state.keys()
    torch.testing.assert_close(shared.eval()(images), expected)


def test_batchnorm_is_left_alone_on_cpus_and_in_one_process() -> None:
    model = build_model(RECIPE)
    for group, device in ((Processes(0, 2), "cpu"), (Processes(), "cuda")):
        kept = group.sync_batchnorm(model, torch.device(device))
        assert not any(isinstance(part, nn.SyncBatchNorm) for part in kept.modules())


@pytest.mark.parametrize("device", ["cuda:1", "cuda"])
def test_torchrun_hands_out_the_gpus_itself(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=rf"device = {device}, .*nproc-per-node=1"), processes(torch.device(device)):
        pass


def test_a_network_is_compiled_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither DistributedDataParallel's forward pass nor its buckets of 1 and 25 MB cut an ``nn.Sequential``."""
    from torch._dynamo.testing import CompileCounter

    monkeypatch.setenv("WORLD_SIZE", "2")  # of which one is here
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with processes(torch.device("cpu")):
            model = nn.Sequential(*(nn.Sequential(nn.Linear(600, 600), nn.ReLU()) for _ in range(2)))  # 1.4 MB each
            counter, images = CompileCounter(), torch.randn(2, 600)
            network = Processes(0, 2).wrap(model, torch.compile(model, backend=counter), torch.device("cpu"))
            assert counter.frame_count == 0
            for _ in range(2):
                network(images, True).sum().backward()
            assert counter.frame_count == 1
            torch.testing.assert_close(network(images, False), network(images, True))
    finally:
        dist.destroy_process_group()
    assert torch._dynamo.config.optimize_ddp


# --- the command: killed, stopped, gone on ---------------------------------------------------------------------------


def folders(where: Path) -> list[str]:
    return ["--runs-dir", str(where / "runs"), "--results-dir", str(where / "results")]


def finished_epochs(where: Path) -> int:
    found = list((where / "runs").glob("*/history.csv"))
    return len(found[0].read_text().splitlines()) - 1 if found else 0


def wait_for(condition: Callable[[], object], process: subprocess.Popen, seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def rank_of(pid: str) -> str:
    try:
        return dict(re.findall(r"(\w+)=([^\0]*)", Path(f"/proc/{pid}/environ").read_text())).get("RANK", "")
    except OSError:
        return ""


def child_of_rank(parent: int, rank: int) -> int:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return next(int(pid) for pid in children if rank_of(pid) == str(rank))


def two_without_torchrun(where: Path) -> list[subprocess.Popen]:
    """The two processes that torchrun would start, ours to watch one by one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = ENVIRONMENT | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, *TRAIN, *folders(where)],
            env=shared | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in ("0", "1")
    ]  # fmt: skip


def outcome(where: Path) -> tuple[dict[str, torch.Tensor], list[list[str]]]:
    """The final network and the history without its clock."""
    run = next((where / "runs").glob("*/record.json")).parent
    rows = [line.split(",")[:-2] for line in (run / "history.csv").read_text().splitlines()]
    return load_file(run / "model.safetensors"), rows


@pytest.mark.slow
@pytest.mark.timeout(900)  # nine starts of Python; about half a minute where nothing else runs
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes of torchrun in /proc")
def test_killed_then_stopped_and_resumed_is_the_undisturbed_run(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = subprocess.run(
        [*TORCHRUN, *TRAIN, *folders(whole)], env=ENVIRONMENT, check=True, capture_output=True, text=True, timeout=400
    )
    assert done.stdout.count("at epoch 6") == 1  # one process speaks

    agent = subprocess.Popen(
        [*TORCHRUN, *TRAIN, *folders(broken)],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: finished_epochs(broken) >= 1, agent)
    os.kill(child_of_rank(agent.pid, 1), signal.SIGKILL)
    agent.communicate(timeout=200)
    assert agent.returncode != 0  # torchrun takes the other process down
    killed_after = finished_epochs(broken)
    assert 1 <= killed_after < 6

    first, second = two_without_torchrun(broken)
    wait_for(lambda: finished_epochs(broken) > killed_after, first)
    second.send_signal(signal.SIGTERM)  # one of them is asked, both save and leave
    ended = [process.communicate(timeout=200) for process in (first, second)]
    assert [first.returncode, second.returncode] == [143, 143], ended
    assert all("everything is saved; the same call goes on" in errors for _, errors in ended)
    assert killed_after < finished_epochs(broken) < 6

    for process in (last := two_without_torchrun(broken)):
        said, errors = process.communicate(timeout=400)
        assert process.returncode == 0, errors
        assert ("going on after epoch" in said) == (process is last[0])
        assert "resuming with" not in said  # other threads, processes or kernels than it began with
    (weights, rows), (expected, expected_rows) = outcome(broken), outcome(whole)
    assert rows == expected_rows
    assert weights.keys() == expected.keys()
    assert [name for name, value in weights.items() if not value.equal(expected[name])] == []
