"""Durations as people say them."""

from __future__ import annotations

__all__ = ["about"]


def about(seconds: float) -> str:
    """``about 6 minutes``; nothing finer than a minute, since machines differ.

    >>> about(20), about(350), about(9000), about(300_000)
    ('about a minute', 'about 6 minutes', 'about 2.5 hours', 'about 3.5 days')
    """
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            count = seconds / size
            return f"about {count:.{int(count < 10 and unit != 'minutes')}f} {unit}"
    return "about a minute"
