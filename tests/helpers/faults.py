"""Faults that tests inject, counted by kind: what `make test-faults` prints."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

__all__ = ["FULL", "counted", "lines", "noted"]

FULL = os.environ.get("FAULTS") == "full"  # set by `make test-faults`; otherwise few tries of each kind


def counted(item: pytest.Item, kind: str, survived: int, tried: int, difference: float | None = None) -> None:
    """Note what a test found of a kind of fault: how many tries survived, and the largest difference after resuming."""
    item.user_properties.append(("fault", (kind, survived, tried, difference)))


def noted(report: pytest.TestReport, kinds: Iterable[str]) -> None:
    """Note a test that is one try itself, as its marker ``faults`` says: survived where it passed."""
    for kind in kinds:
        report.user_properties.append(("fault", (kind, int(report.passed), int(not report.skipped), None)))


def lines(reports: Iterable[pytest.TestReport]) -> list[str]:
    """One line a kind: survived / tried, and what was skipped."""
    kinds: dict[str, list] = {}
    for report in reports:
        for name, value in report.user_properties:
            if name == "fault":
                kind, survived, tried, difference = value
                kinds.setdefault(kind, [0, 0, 0, []])
                for place, count in enumerate((survived, tried, int(report.skipped))):
                    kinds[kind][place] += count
                kinds[kind][3] += [] if difference is None else [difference]
    found = []
    for kind, (survived, tried, skipped, differences) in kinds.items():
        largest = f", largest difference after resuming {max(differences)}" if differences else ""
        found.append(f"{kind}: survived {survived} / {tried}{f', skipped {skipped}' if skipped else ''}{largest}")
    return found
