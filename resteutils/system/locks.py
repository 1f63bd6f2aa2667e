"""One process at a time: lock files, which the system lets go when their process ends, however it ends.

flock itself, not the library filelock: that one polls, takes 0.2 s to import, does not say who holds a lock, and on
a file system without flock leaves marker files that outlive a killed process.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["holder", "host", "locked"]

SECONDS_BETWEEN_TRIES = 0.5


@contextlib.contextmanager
def locked(
    path: Path, taken: Callable[[], None] = lambda: None, patience: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold the lock file ``path`` for the length of the block; it and its folder are made if need be, and it says who
    holds it. A folder can be held too; nothing is written then.

    Where another process holds it, ``taken`` is called, which may raise; then it is waited for. ``patience`` is called
    again and again meanwhile and may raise, too: without it only an exception of a signal's handler ends the wait.
    Where no lock can be had (Windows, a network file system without them, a folder that cannot be written) the block
    runs without one, and for a file all but Windows say so.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with contextlib.ExitStack() as held:
        folder = path.is_dir()
        try:
            if not folder:
                path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            held.callback(os.close, file)
            free = _free(fcntl, file)
        except OSError as error:
            if not folder:
                without = f"{path} cannot be locked ({error.strerror}); going on without"
                print(f"{without}: do not start the same work twice", file=sys.stderr, flush=True)
            yield
            return
        if not free:
            taken()
            while patience and not _free(fcntl, file):
                patience()
                time.sleep(SECONDS_BETWEEN_TRIES)
            fcntl.flock(file, fcntl.LOCK_EX)
        if not folder:
            with contextlib.suppress(OSError):  # a full disk: the lock holds, without a name
                os.ftruncate(file, 0)
                os.write(file, f"{os.getpid()}@{host()}\n".encode())
        yield


def _free(fcntl: Any, file: int) -> bool:
    """Take the lock where nobody holds it; whether that worked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder(path: Path) -> str:
    """Who holds the lock file or held it last, in words: ``process 4711 on node3``."""
    try:
        process, at, machine = path.read_text(encoding="utf-8").strip().partition("@")
    except (OSError, ValueError):
        process = at = machine = ""
    return f"process {process} on {machine}" if process.isdigit() and at else "another process"


def host() -> str:
    """This machine or container: the processes of another one, which may share the folder, cannot be seen."""
    return socket.gethostname().replace(".", "-")
