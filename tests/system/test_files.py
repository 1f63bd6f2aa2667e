"""Files and folders that are old or new and never half."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from resteutils.system import files, locks
from resteutils.system.files import write_atomic


@pytest.mark.parametrize("content", ["words: \u00e9\u4e16\n", b"\x00\xff bytes", "", b""], ids=repr)
def test_write_atomic_writes_and_makes_folders(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "a" / "b" / "file"
    assert write_atomic(path, content) == path
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    write_atomic(str(path), "second")
    assert path.read_text() == "second"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o002, 0o664, 0o775), (0o077, 0o600, 0o700)]
)
def test_the_umask_says_who_may_read_and_write(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    """Users of a group who share a folder of runs go on with each other's, and replace each other's results."""
    tmp_path.chmod(0o2755)  # what is made inside belongs to its group
    before = os.umask(umask)
    try:
        written = write_atomic(tmp_path / "a" / "file", "text")
        with files.replaced(tmp_path / "results"), locks.locked(tmp_path / "lock"):
            pass
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    modes = [
        path.stat().st_mode & 0o7777 for path in (written, tmp_path / "lock", written.parent, tmp_path / "results")
    ]
    assert modes == [file, file, 0o2000 | folder, 0o2000 | folder]


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = write_atomic(tmp_path / "file", "old")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    if broken == "write":

        class Full:
            def __init__(self, handle, mode):
                os.close(handle)

            def __enter__(self):
                return self

            def __exit__(self, *error):
                return False

            write = full

        monkeypatch.setattr(files.os, "fdopen", Full)
    else:
        monkeypatch.setattr(files.os, broken, full)
    with pytest.raises(
        OSError, match=f"No space left on device: {path} could not be written.* intact; make room"
    ) as caught:
        write_atomic(path, "new")
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    """``--out /dev/stdout``: a rename would take its place, and for root that of /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match=f"{name} could not be written"):
            write_atomic(tmp_path / name, "new")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_folder_that_cannot_be_made_names_its_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.writable(tmp_path / "a" / "b", "RUNS_DIR").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory: .* cannot be made; set RUNS_DIR elsewhere"):
        files.writable(tmp_path / "file" / "runs", "RUNS_DIR")
    monkeypatch.setattr(files.os, "access", lambda folder, mode: False)  # root may write everywhere
    with pytest.raises(PermissionError, match="cannot be written; set RESULTS_DIR elsewhere"):
        files.writable(tmp_path, "RESULTS_DIR")


def test_killed_at_any_moment_the_file_is_whole(tmp_path: Path) -> None:
    """A process that rewrites a file for ever is killed a few times; the file always parses and is whole."""
    path = tmp_path / "record.json"
    code = textwrap.dedent(f"""
        import importlib.util, json
        from itertools import count
        spec = importlib.util.spec_from_file_location("files", {files.__file__!r})  # without torch
        files = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(files)
        for n in count():
            files.write_atomic({str(path)!r}, json.dumps([n] * 20000))
    """)
    for wait in (0.01, 0.037, 0.11):
        process = subprocess.Popen([sys.executable, "-c", code])
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(wait)
        process.kill()
        process.wait()
        numbers = json.loads(path.read_text())
        assert len(numbers) == 20000
        assert len(set(numbers)) == 1
        path.unlink()


# --- folders that are replaced as a whole ----------------------------------------------------------------------------


def test_an_error_on_the_way_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "item"
    target.mkdir()
    (target / "table.csv").write_text("old")
    with pytest.raises(RuntimeError, match="on the way"), files.replaced(target) as new:
        (new / "table.csv").write_text("new")
        raise RuntimeError("on the way")
    assert (target / "table.csv").read_text() == "old"
    assert os.listdir(tmp_path) == ["item"]


@pytest.mark.parametrize("kill_at", [0, 1, 2])
def test_a_kill_at_any_step_of_two_renames_loses_nothing(tmp_path: Path, kill_at: int) -> None:
    """A child process is killed (no clean-up of any kind) before the first, the second rename, or after both."""
    target = tmp_path / "item"
    target.mkdir()
    (target / "table.csv").write_text("old")
    child = os.fork()
    if child == 0:  # pragma: no cover
        rename, calls = os.rename, []

        def killing(a, b):
            if len(calls) == kill_at:
                os._exit(9)
            calls.append(a)
            rename(a, b)
            if len(calls) == kill_at == 2:
                os._exit(9)

        os.rename, files._swap = killing, lambda one, other: False
        with files.replaced(target) as new:
            (new / "table.csv").write_text("new")
        os._exit(0)
    os.waitpid(child, 0)
    files.heal(target)
    assert (target / "table.csv").read_text() == ("new" if kill_at == 2 else "old")
    assert os.listdir(tmp_path) == ["item"]


@pytest.mark.parametrize("swapped", [False, True])
def test_a_kill_beside_the_exchange_in_one_step_loses_nothing(tmp_path: Path, swapped: bool) -> None:
    target = tmp_path / "item"
    target.mkdir()
    (target / "table.csv").write_text("old")
    child = os.fork()
    if child == 0:  # pragma: no cover
        swap = files._swap
        files._swap = lambda one, other: os._exit(9 if not swapped or swap(one, other) else 1)
        with files.replaced(target) as new:
            (new / "table.csv").write_text("new")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 1:
        pytest.skip("this file system does not exchange two names in one step")
    files.heal(target)
    assert (target / "table.csv").read_text() == ("new" if swapped else "old")
    assert os.listdir(tmp_path) == ["item"]


@pytest.mark.faults("processes end one item at once")
@pytest.mark.parametrize("one_step", [True, False])
def test_writers_that_end_at_once_and_a_reader_never_miss_the_folder(tmp_path: Path, monkeypatch, one_step) -> None:
    """Three threads replace one folder fifty times each; a reader, which heals first, finds it whole every time."""
    if not one_step:
        monkeypatch.setattr(files, "_swap", lambda one, other: False)
    target, errors, reads = tmp_path / "item", [], 0

    def write(number: int) -> None:
        try:
            for _ in range(50):
                with files.replaced(target) as new:
                    (new / "table.csv").write_text(str(number))
        except OSError as error:
            errors.append(error)

    write(0)
    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in writers:
        thread.start()
    while any(thread.is_alive() for thread in writers):
        files.heal(target)
        reads += 1
        if one_step and not target.is_dir():
            errors.append(f"no folder at read {reads}")
    assert errors == [] and reads
    assert os.listdir(tmp_path) == ["item"]


def test_healing_leaves_other_items_and_living_writers_alone(tmp_path: Path) -> None:
    with files.replaced(tmp_path / "table1") as new, files.replaced(tmp_path / "table10") as other:
        files.heal(tmp_path / "table1")
        files.heal(tmp_path / "table10")
        assert new.is_dir()
        assert other.is_dir()
    assert sorted(os.listdir(tmp_path)) == ["table1", "table10"]


def test_healing_leaves_the_folders_of_another_machine_alone(tmp_path: Path, monkeypatch) -> None:
    theirs = tmp_path / f".table1.{2**22 + 1}@another-host.abc.tmp"
    ours = tmp_path / f".table1.{2**22 + 1}@this-host.abc.tmp"
    for folder in (theirs, ours):
        folder.mkdir()
    monkeypatch.setattr(locks.socket, "gethostname", lambda: "this.host")
    files.heal(tmp_path / "table1")
    assert os.listdir(tmp_path) == [theirs.name]
