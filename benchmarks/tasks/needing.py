"""What a task takes beside its own lines; apart from material.py, since larq's environment has no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["needs"]


def needs(*written: str) -> Callable[[Any], Any]:
    """Mark a task for which a user also writes these functions and classes of its module."""

    def mark(function: Any) -> Any:
        function.needs = written
        return function

    return mark
