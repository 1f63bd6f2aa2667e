"""Faults at the calls by which a process changes files: it is killed there, or the call fails.

The calls are numbered as they come: files opened for writing, renamed, removed, made, their mode changed (from Python's
audit events, which no code can miss), flushed to the disk, and the middle of every write through ``os.fdopen``.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.link", "os.symlink"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Injector:
    """Numbers the calls of this process, from 0, that change something below ``root``; at number ``at`` it acts.

    ``act`` gets the number and the call's name; what it raises is what the call fails with. ``lasting``: it acts at
    every call from there on, as a full disk does. There is no way back: this is for a process that ends soon.
    """

    def __init__(self, root: Path, at: int = -1, act: Callable[[str], None] = lambda name: None, lasting=False) -> None:
        self.root, self.at, self.act, self.lasting = os.fspath(root), at, act, lasting
        self.calls: list[str] = []
        self.writing = False

    def install(self) -> Injector:
        sys.addaudithook(self._audited)
        synced, opened = os.fsync, os.fdopen

        def fsync(descriptor: int) -> None:
            self.reach("fsync")
            synced(descriptor)

        def fdopen(descriptor: int, mode: str = "r", *arguments, **options):
            file = opened(descriptor, mode, *arguments, **options)
            return _Halves(file, self) if set(mode) & set("wa+x") else file

        os.fsync, os.fdopen = fsync, fdopen
        return self

    def _audited(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if not (isinstance(path, (str, bytes)) and isinstance(flags, int) and flags & WRITING):
                return
        elif event in EVENTS:
            path = arguments[0]
            if event == "os.mkdir" and os.path.exists(path):  # changes nothing
                return
        else:
            return
        if isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(self.root):
            self.reach(event.removeprefix("os."))

    def reach(self, name: str) -> None:
        number = len(self.calls)
        self.calls.append(name)
        if number == self.at or (self.lasting and 0 <= self.at < number):
            self.act(name)


class _Halves:
    """A file whose writes can end in their middle."""

    def __init__(self, file, injector: Injector) -> None:
        self._file, self._injector = file, injector

    def write(self, data) -> int:
        half = len(data) // 2
        self._file.write(data[:half])
        self._file.flush()
        self._injector.reach("write")
        return half + self._file.write(data[half:])

    def __getattr__(self, name: str):
        return getattr(self._file, name)

    def __enter__(self) -> _Halves:
        return self

    def __exit__(self, *error) -> None:
        self._file.close()


def kill(name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def failing(number: int, names: tuple[str, ...] = ()) -> Callable[[str], None]:
    """The call fails with that errno; where ``names`` are given, only those calls do."""

    def fail(name: str) -> None:
        if not names or name in names:
            raise OSError(number, os.strerror(number))

    return fail


FAULTS: dict[str, tuple[Callable[[str], None], bool]] = {  # what happens, and whether it lasts
    "SIGKILL": (kill, False),
    "EIO": (failing(errno.EIO), False),
    "ENOSPC": (failing(errno.ENOSPC, ("open", "write", "fsync", "mkdir")), True),  # a full disk still takes removals
    "EROFS": (failing(errno.EROFS), True),
}
