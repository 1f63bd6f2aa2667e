"""SIGINT and SIGTERM as a wish to stop: noted, and honoured by the loop where everything can be saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["StopSignals", "stop_signals"]


class StopSignals:
    """The signal that asked this process to stop, or 0."""

    caught: int = 0

    def note(self, signum: int, frame) -> None:
        if self.caught:  # asked twice: no patience left for a checkpoint
            raise KeyboardInterrupt
        self.caught = signum


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
