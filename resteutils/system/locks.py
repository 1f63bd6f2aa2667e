"""One process at a time: lock files, which the system lets go when their process ends, however it ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["locked"]


@contextlib.contextmanager
def locked(path: Path, taken: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file ``path`` for the length of the block; it and its folder are made if need be.

    Where another process holds it, ``taken`` is called, which may raise; then it is waited for. Where no lock can be
    had (Windows, a network file system without them, a folder that cannot be written) the block runs without one, and
    all but Windows say so.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with contextlib.ExitStack() as held:
        free = True
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(open(path, "a"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
        except OSError as error:
            without = f"{path} cannot be locked ({error.strerror}); going on without: do not start the same work twice"
            print(without, file=sys.stderr, flush=True)
        if not free:
            taken()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
