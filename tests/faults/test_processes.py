"""What befalls whole processes: a run ends with the same bits all the same, at once or by a later call."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.command import arguments, outcome, python, started, strays, tiny_recipe
from helpers.faults import FULL

from resteutils.data.loader import batches

pytestmark = pytest.mark.faults
FULL_ONLY = pytest.mark.skipif(not FULL, reason="make test-faults tries it too")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="mounts and clocks of one's own are Linux's")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list:
    """The outcome of a training that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    training = started(folder)
    _, said = training.communicate(timeout=300)
    assert training.returncode == 0, said
    return outcome(folder)


def run(folder: Path, command: list[str] | None = None, **changed: str | None) -> tuple[int, str]:
    """Status and stderr of the command."""
    process = started(folder, command, **changed)
    _, said = process.communicate(timeout=300)
    return process.returncode, said


def mounted(script: str, *words: str) -> list[str]:
    """A command under ``sh -c`` with mounts of its own; skip where these are not allowed."""
    allowed = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"]
    if not shutil.which("unshare") or subprocess.run(allowed, capture_output=True).returncode:
        pytest.skip("mounts of one's own need `unshare -m` and mount, which are not allowed here")
    return ["unshare", "-m", "sh", "-c", script, *words]


@pytest.mark.faults("two processes train one run, the first is killed")
def test_the_second_writer_takes_over_where_the_first_is_killed(tmp_path: Path, whole: list) -> None:
    first = started(tmp_path, python("-c", KILLED))
    checkpoint = tmp_path / "runs_dir" / tiny_recipe().run_id / "checkpoint.pt"
    wait_for(checkpoint, first)
    second = started(tmp_path)
    said, error = second.communicate(timeout=300)
    assert second.returncode == 0, error
    assert first.wait(10) == -signal.SIGKILL
    assert f"trained by another process (process {first.pid} on" in said and "going on after" in said
    assert outcome(tmp_path) == whole and not strays(tmp_path)


# Leaves a checkpoint, waits until somebody waits for its lock, and is killed as by the system without memory.
KILLED = """
import os, signal, sys, time
from pathlib import Path
from helpers.tiny import call
from helpers.command import tiny_recipe
def waits():
    if not list(Path(os.environ["RUNS_DIR"]).glob("*/checkpoint.pt")):
        return False
    while Path("/proc/locks").exists() and "->" not in Path("/proc/locks").read_text():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
call((os.environ["RUNS_DIR"], os.environ["RESULTS_DIR"]), tiny_recipe(), stop=waits)
"""


def wait_for(path: Path, process: subprocess.Popen) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@FULL_ONLY
@pytest.mark.faults("two processes train one run")
def test_of_two_writers_one_trains_and_both_end(tmp_path: Path, whole: list) -> None:
    both = [started(tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("training on cpu" in out for out, _ in said) == 1
    assert outcome(tmp_path) == whole and not strays(tmp_path)


CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *t) {
  static int (*real)(clockid_t, struct timespec *);
  static long calls;
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int status = real(id, t);
  if (id == CLOCK_REALTIME) t->tv_sec -= 60 * calls++;
  return status;
}
"""


@LINUX
@pytest.mark.faults("the clock jumps back a minute whenever it is read")
def test_a_clock_that_runs_backwards(tmp_path: Path, whole: list) -> None:
    if not shutil.which("cc"):
        pytest.skip("a clock of one's own needs a C compiler")
    (tmp_path / "clock.c").write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "clock.so", "clock.c", "-ldl"], cwd=tmp_path, check=True)
    preload = str(tmp_path / "clock.so")
    status, said = run(tmp_path, LD_PRELOAD=preload)
    assert (status, said) == (0, "")
    if FULL:
        assert run(tmp_path, LD_PRELOAD=preload)[0] == 0  # which reads it
    assert outcome(tmp_path) == whole and not strays(tmp_path)


@pytest.mark.parametrize("what", ["unset", pytest.param("missing", marks=FULL_ONLY)])
@pytest.mark.faults("HOME and TMPDIR are unset or missing")
def test_without_home_and_temporary_folder(what: str, tmp_path: Path, whole: list) -> None:
    value = None if what == "unset" else "/no/such/folder"
    status, said = run(tmp_path, HOME=value, TMPDIR=value, XDG_CACHE_HOME=value)
    assert status == 0, said
    assert outcome(tmp_path) == whole and not strays(tmp_path)


@LINUX
@FULL_ONLY
@pytest.mark.faults("HOME and TMPDIR are full")
def test_with_a_full_home_and_a_full_temporary_folder(tmp_path: Path, whole: list) -> None:
    """Two file systems of 64 kB that hold not one byte more."""
    places = [tmp_path / name for name in ("home", "tmp")]
    for place in places:
        place.mkdir()
    script = 'for f in "$0" "$1"; do mount -t tmpfs -o size=64k tmpfs "$f"; dd if=/dev/zero of="$f/full" 2>&-; done\n'
    script += 'shift; exec "$@"'
    command = mounted(script, *map(str, places), *python("-m", "resteutils", *arguments()))
    home, temporary = map(str, places)
    status, said = run(tmp_path, command, HOME=home, TMPDIR=temporary, XDG_CACHE_HOME=home + "/.cache")
    assert status == 0, said
    assert outcome(tmp_path) == whole and not strays(tmp_path)


def _image(index: int) -> tuple[torch.Tensor, int]:
    if index == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does where memory runs out
    return torch.zeros(3, 4, 4, dtype=torch.uint8), index


@pytest.mark.faults("a worker that decodes images is killed")
def test_a_killed_worker_ends_the_epoch_with_an_error() -> None:
    shares = [np.arange(place, place + 2) for place in range(0, 8, 2)]
    with pytest.raises(RuntimeError, match="a worker that decodes images was killed.*--set workers=N"):
        for _ in batches(_image, shares, 4, workers=1):
            pass
