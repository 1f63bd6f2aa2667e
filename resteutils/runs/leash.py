"""How the workers of a launch learn that it is gone: it holds a lock file as long as it lives and wants them to work.

The system lets the lock go however the launch ends, SIGKILL included, so that there is nothing to forward and nothing
to miss: a worker that is still starting finds the lock free.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from resteutils.system.locks import locked
from resteutils.training.stopping import StopSignals, handling

__all__ = ["Leash", "followed"]


class Leash(StopSignals):
    """The signal that asked a launch to stop, and the lock that its workers watch."""

    def __init__(self) -> None:
        handle, name = tempfile.mkstemp(prefix="resteutils-launch-", suffix=".lock")
        os.close(handle)
        self.path, self._held = Path(name), contextlib.ExitStack()

    def note(self, signum: int, frame) -> None:
        """Let the workers go; a second signal later on raises ``KeyboardInterrupt``."""
        super().note(signum, frame)
        self._held.close()

    @contextlib.contextmanager
    def held(self) -> Iterator[Leash]:
        """Hold it, SIGINT and SIGTERM included, for the length of the block."""
        try:
            with handling(self.note), self._held:
                self._held.enter_context(locked(self.path))
                yield self
        finally:
            self.path.unlink(missing_ok=True)


def followed(path: str) -> None:
    """Send this process SIGTERM, once, as soon as nobody holds the lock ``path``; "" follows nothing. A thread waits
    for that, and does not keep the process alive.
    """

    def wait() -> None:
        try:
            with open(path, encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
        except FileNotFoundError:
            pass  # the launch was over before this worker began
        except OSError:
            return  # no locks here: nothing can be known of the launch
        os.kill(os.getpid(), signal.SIGTERM)

    if not path:
        return
    try:
        import fcntl
    except ImportError:  # Windows: a launch that is killed leaves its workers working
        return
    threading.Thread(target=wait, name="leash", daemon=True).start()
