"""How a training ends before its time: by a wish to stop, which the loop honours where everything can be saved, or by
numbers that are not finite.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

__all__ = ["Interrupted", "NonFinite", "StopSignals", "handling", "repeated", "stop_signals"]

Result = TypeVar("Result")
MOST_GLITCHES = 3  # of one training, at steps of their own

SAME_WISH = 2.0  # seconds: srun and systemd signal every process, and torchrun then passes on what it got itself


class Interrupted(Exception):
    """Training was asked to stop (a signal, or ``stop``); its state is saved and the same call continues it."""

    def __init__(self, message: str, signum: int = 0) -> None:
        super().__init__(message)
        self.signum = signum


class NonFinite(RuntimeError):
    """The loss or the gradients stopped being finite numbers. ``what`` says where, without run and advice;
    ``environment`` is what the training had resolved and ``history`` the epochs finished before, for its record;
    ``step`` is the first bad one.
    """

    def __init__(
        self,
        message: str,
        what: str = "",
        environment: dict[str, Any] | None = None,
        step: int = -1,
        history: Sequence[dict[str, float]] = (),
    ) -> None:
        super().__init__(message)
        self.what, self.environment, self.step, self.history = what or message, environment or {}, step, history


def repeated(attempt: Callable[[], Result], run_id: str, exact: bool, say: Callable[[str], None]) -> Result:
    """What ``attempt`` returns, which goes on from the last checkpoint at every call.

    Raises ``NonFinite`` where numbers stop being finite at the same step again (``exact`` is False where steps need
    not repeat to the bit, as on GPUs: then at whatever step). What does not repeat is the machine's fault and is said;
    at the fourth time ``RuntimeError`` ends it, which leaves no record.
    """
    earlier: list[int] = []
    while True:
        try:
            return attempt()
        except NonFinite as error:
            if earlier and (not exact or error.step in earlier):
                raise
            earlier.append(error.step)
            if len(earlier) > MOST_GLITCHES:
                steps = ", ".join(map(str, earlier))
                raise RuntimeError(
                    f"{run_id}: numbers were not finite at steps {steps}, each time another one: this machine computes "
                    "wrongly (memory, processor, overclocking?). What is saved is from before; train on another one"
                ) from error
            say(
                f"{run_id}: {error.what}; computing that again from the last checkpoint. If the numbers are finite "
                f"then, this machine failed at step {error.step}, not the recipe"
            )


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
def handling(
    handler: Callable[[int, Any], None], numbers: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
) -> Iterator[None]:
    """Let ``handler`` have these signals for the length of the block. Only the main thread may; in another one nothing
    is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
