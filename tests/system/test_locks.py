"""Locks: one holder at a time, a word where there is none to be had."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from resteutils.system import locks
from resteutils.system.locks import holder, host, locked

fcntl = pytest.importorskip("fcntl")


def test_one_holder_at_a_time_in_the_order_of_asking(tmp_path: Path) -> None:
    path, order, held, asked = tmp_path / "deep" / "lock", [], threading.Event(), threading.Event()

    def second() -> None:
        held.wait(10)
        with locked(path, asked.set):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with locked(path, lambda: pytest.fail("nobody held it")):
        held.set()
        assert asked.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_whoever_does_not_want_to_wait_says_so_by_raising(tmp_path: Path) -> None:
    def busy() -> None:
        raise TimeoutError("busy")

    with locked(tmp_path / "lock"):
        with pytest.raises(TimeoutError, match="busy"), locked(tmp_path / "lock", busy):
            pytest.fail("two holders")
    with locked(tmp_path / "lock", busy):
        pass


def test_an_error_in_the_block_is_the_caller_s_and_lets_the_lock_go(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="of the block"), locked(tmp_path / "lock"):
        raise OSError("of the block")
    with locked(tmp_path / "lock", lambda: pytest.fail("still held")):
        pass


def test_a_file_system_without_locks_is_worked_on_all_the_same(tmp_path: Path, monkeypatch, capsys) -> None:
    def refuse(file, how) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path / "lock"):
        done = True
    assert done
    assert "lock cannot be locked (No locks available); going on without" in capsys.readouterr().err


def test_a_lock_says_who_holds_it_and_a_folder_holds_without_a_file(tmp_path: Path) -> None:
    assert holder(tmp_path / "lock") == "another process"
    with locked(tmp_path / "lock"):
        assert holder(tmp_path / "lock") == f"process {os.getpid()} on {host()}"
    (tmp_path / "folder").mkdir()

    def busy() -> None:
        raise TimeoutError("busy")

    with locked(tmp_path / "folder"), pytest.raises(TimeoutError, match="busy"):
        with locked(tmp_path / "folder", busy):
            pytest.fail("two holders")
    assert os.listdir(tmp_path / "folder") == []


def test_a_wait_ends_where_patience_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [None, None]

    def patience() -> None:
        if not left:
            raise TimeoutError("no patience left")
        left.pop()

    monkeypatch.setattr(locks, "SECONDS_BETWEEN_TRIES", 0.0)
    with locked(tmp_path / "lock"), pytest.raises(TimeoutError), locked(tmp_path / "lock", patience=patience):
        pytest.fail("two held it")
