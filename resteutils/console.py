"""What the commands share: reading settings, exit statuses, and errors as one line."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator

__all__ = ["UsageError", "fail", "setting", "status_of", "usage"]


class UsageError(ValueError):
    """A value on the command line that the package refuses."""


@contextlib.contextmanager
def usage() -> Iterator[None]:
    """What the package refuses while a command line is being read is wrong usage, not a failure."""
    try:
        yield
    except (ValueError, KeyError) as error:
        raise UsageError(_message(error)) from error


def status_of(error: Exception) -> int:
    """The exit status of an error. Only a loaded training module can have raised its own two."""
    training = sys.modules.get("resteutils.training")
    if training is not None and isinstance(error, training.Interrupted):
        return 128 + error.signum if error.signum else 1
    if training is not None and isinstance(error, training.NonFinite):
        return 3
    return 2 if isinstance(error, UsageError) else 1


def fail(error: BaseException, status: int) -> int:
    """Print the error as one line on stderr and return the status; with RESTEUTILS_DEBUG=1 raise it as it came."""
    if os.environ.get("RESTEUTILS_DEBUG", "") not in ("", "0"):
        raise error
    # Ours and these speak for themselves; of any other error the type is part of what went wrong.
    ours = type(error).__module__.startswith("resteutils.")
    plain = ours or isinstance(error, (ValueError, OSError, RuntimeError, KeyboardInterrupt))
    print(f"resteutils: {'' if plain else type(error).__name__ + ': '}{_message(error)}", file=sys.stderr)
    return status


def _message(error: BaseException) -> str:
    """str() of a KeyError is the repr of its argument; everything else says what it means."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error) or type(error).__name__


def setting(text: str) -> tuple[str, object]:
    """``lr=0.05`` as ``("lr", 0.05)``: a value that reads as JSON is taken as that, any other as text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"{text!r}, expected NAME=VALUE such as lr=0.05")
    try:
        return name.strip().replace("-", "_"), json.loads(value)
    except json.JSONDecodeError:
        return name.strip().replace("-", "_"), value.strip()
