"""How a training ends before its time: by a wish to stop, which the loop honours where everything can be saved, or by
numbers that are not finite.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Interrupted", "NonFinite", "StopSignals", "handling", "stop_signals"]

SAME_WISH = 2.0  # seconds: srun and systemd signal every process, and torchrun then passes on what it got itself


class Interrupted(Exception):
    """Training was asked to stop (a signal, or ``stop``); its state is saved and the same call continues it."""

    def __init__(self, message: str, signum: int = 0) -> None:
        super().__init__(message)
        self.signum = signum


class NonFinite(RuntimeError):
    """The loss or the gradients stopped being finite numbers. ``what`` says where, without run and advice;
    ``environment`` is what the training had resolved, for its record.
    """

    def __init__(self, message: str, what: str = "", environment: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.what, self.environment = what or message, environment or {}


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
    """Note SIGINT and SIGTERM for the length of the block, in the main thread; another one uses ``stop``."""
    signals = StopSignals()
    with handling(signals.note):
        yield signals


@contextlib.contextmanager
def handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Let ``handler`` have SIGINT and SIGTERM for the length of the block. Only the main thread may; in another one
    nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
