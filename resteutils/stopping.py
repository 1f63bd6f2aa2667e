"""SIGINT and SIGTERM as a wish to stop: noted, and honoured by the loop where everything can be saved."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

__all__ = ["StopSignals", "stop_signals"]

SAME_WISH = 2.0  # seconds: srun and systemd signal every process, and torchrun then passes on what it got itself


class StopSignals:
    """The signal that asked this process to stop, or 0."""

    caught: int = 0
    since: float = 0.0

    def note(self, signum: int, frame) -> None:
        if not self.caught:
            self.caught, self.since = signum, time.monotonic()
        elif time.monotonic() - self.since > SAME_WISH:  # asked twice: no patience left for a checkpoint
            raise KeyboardInterrupt


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Note SIGINT and SIGTERM for the length of the block. Only the main thread may; another one uses ``stop``."""
    signals = StopSignals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.signal(number, signals.note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
