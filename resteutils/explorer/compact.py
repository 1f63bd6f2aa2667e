"""Finished runs as the compact JSON that travels in the page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from resteutils.estimators import ReSTE
from resteutils.evidence.names import method
from resteutils.explorer.shelf import apart, method_label, overridden
from resteutils.runs.store import Run

__all__ = ["MOST_BYTES", "compact", "compact_run"]

MOST_BYTES = 100_000
COLUMNS = {
    "epoch": "epoch",
    "train_loss": "train_loss",
    "test_loss": "test_loss",
    "test_top1": "test_top1",
    "o": "o",
    "error": "error_definition",
    "instability": "instability_definition",
    "spread": "spread",
}


def compact_run(run: Run, own: bool = False) -> dict[str, Any]:
    """What the page draws of one run: who it is, its last figures, and its history to four digits."""
    r, history = run.recipe, run.history
    columns = {key: _column(history[name]) for key, name in COLUMNS.items() if name in history}
    finished = math.isfinite(run.result.get("top1", math.nan))
    made = {
        "id": run.path.name.removesuffix(".json"),
        "row": r.row,
        "method": method_label(r),
        "name": ", ".join([method(r.row), *overridden(r)]),
        "paired": r.input_estimator is not None,
        "o": r.estimator.o if isinstance(r.estimator, ReSTE) else None,
        "dataset": r.dataset,
        "model": r.model,
        "bits": r.bits,
        "epochs": r.epochs,
        "seed": r.seed,
        "top1": round(run.result["top1"], 2) if finished else None,
        "error": _last(columns, "error"),
        "instability": _last(columns, "instability"),
        "history": columns,
    }
    flags = {"own": own, "changed": bool(apart(r)) or r.standardize}  # only what holds travels
    return made | {name: True for name, holds in flags.items() if holds}


def compact(runs: Iterable[Run], most_bytes: int = MOST_BYTES) -> list[dict[str, Any]]:
    """As many runs, in their order, as ``most_bytes`` of JSON hold."""
    kept, size = [], 2
    for run in runs:
        made = compact_run(run)
        size += len(dumps(made).encode()) + 1
        if size > most_bytes:
            break
        kept.append(made)
    return kept


def dumps(value: Any) -> str:
    """Dense JSON that may stand inside a ``<script>`` element; not a number is refused with ``ValueError``."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")


def _column(values: Iterable[Any]) -> list[float | int | None]:
    return [_four_digits(value) for value in values]


def _four_digits(value: Any) -> float | int | None:
    if value is None or not math.isfinite(value):
        return None
    value = float(f"{float(value):.4g}")
    return int(value) if value.is_integer() and abs(value) < 1e9 else value


def _last(columns: dict[str, list], name: str) -> float | None:
    return columns[name][-1] if columns.get(name) else None
