"""Workers and the memory they share: small /dev/shm, the order of batches, places that are filled again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from resteutils.data.loader import PREFETCH, Refused, batches, worker_count


def painted(index: int) -> tuple[torch.Tensor, int] | Refused:
    if index < 0:
        return Refused(f"image {index} is broken")
    return torch.full((3, 8, 8), index % 251, dtype=torch.uint8), index


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_come_in_order_through_more_turns_than_there_are_places(workers: int) -> None:
    shares = list(np.arange(100).reshape(25, 4))
    assert len(shares) > 2 * (PREFETCH * workers + 1)
    seen = [(pixels.clone(), labels) for pixels, labels in batches(painted, shares, 8, workers)]
    assert torch.cat([labels for _, labels in seen]).tolist() == list(range(100))
    for pixels, labels in seen:
        assert (pixels.shape, pixels.dtype, labels.dtype) == ((4, 3, 8, 8), torch.uint8, torch.int64)
        assert pixels.float().mean((1, 2, 3)).tolist() == labels.tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_shares_of_unequal_length_and_a_refusal(workers: int) -> None:
    shares = [np.arange(5), np.arange(5, 7), np.array([7, -1, 8]), np.arange(9)]
    *whole, last = batches(painted, shares, 8, workers)
    assert [labels.tolist() for _, labels in whole] == [[0, 1, 2, 3, 4], [5, 6]]
    assert last == "image -1 is broken"
    assert list(batches(painted, [], 8, workers)) == []


PROGRAM = """
import numpy as np, torch
from resteutils.data.loader import batches
def image(index):
    return torch.zeros(3, 64, 64, dtype=torch.uint8), index
print(sum(len(labels) for _, labels in batches(image, list(np.arange(160).reshape(10, 16)), 64, 2)))
"""


def with_shm(size: str, *command: str) -> subprocess.CompletedProcess:
    """Run a command where /dev/shm is as small as that; skip where a mount of one's own is not allowed."""
    mounted = 'mount -t tmpfs -o size="$0" tmpfs /dev/shm && exec "$@"'
    if subprocess.run(["unshare", "-m", "sh", "-c", mounted, "64k", "true"], capture_output=True).returncode:
        pytest.skip("a small /dev/shm needs `unshare -m` and mount, which are not allowed here")
    shell = ["unshare", "-m", "sh", "-c", mounted, size, *command]
    return subprocess.run(shell, capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.mark.faults("/dev/shm is small")
@pytest.mark.skipif(sys.platform != "linux", reason="/dev/shm is Linux's")
def test_a_small_dev_shm_is_room_enough() -> None:
    """160 images of 64x64 are 2 MB; a loader that shares each batch in /dev/shm would wait there for ever."""
    done = with_shm("64k", sys.executable, "-c", PROGRAM)
    assert (done.returncode, done.stdout) == (0, "160\n"), done.stderr


@pytest.mark.faults("/dev/shm is small")
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/dev/shm is Linux's")
def test_a_training_without_room_for_semaphores_ends_in_one_line(tmp_path: Path) -> None:
    settings = "batch_size=8 train_size=64 test_size=10 workers=2 compile=off".split()
    command = [sys.executable, "-m", "resteutils", "train", "table2/resnet18-1w1a", "--profile", "smoke"]
    command += [part for setting in settings for part in ("--set", setting)]
    done = with_shm("4k", *command)
    *_, last = done.stderr.splitlines()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for name in ("/dev/shm", "--shm-size", "--set workers=0"):
        assert name in last


@pytest.mark.parametrize(
    ("asked", "cores", "processes", "count"),
    [(-1, 16, 1, 16), (-1, 16, 8, 2), (-1, 2, 8, 1), (-1, 192, 1, 32), (0, 16, 1, 0), (4, 16, 1, 4), (64, 16, 8, 16)],
)
def test_workers_are_a_core_each_and_the_processes_of_a_machine_share_them(
    asked: int, cores: int, processes: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert worker_count(asked) == count
