"""Runs of which only the record survives, made by hand: real `runs.Run` objects, without a training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from resteutils.recipes import Recipe, item_recipes
from resteutils.runs.records import Diverged, Run


def record_only(recipe, top1: float = 70.0, **columns: float) -> Run:
    """A finished run of which only the record survives, with a plain history; ``columns`` override the last epoch."""
    n = recipe.epochs
    o = getattr(recipe.estimator, "o", 1.0)
    history = {
        "epoch": list(range(1, n + 1)),
        "train_loss": [2.3 * 0.8**i for i in range(n)],
        "error_code": [1800.0 / o] * n,
        "error_definition": [480.0 / o] * n,
        "instability_code": [1e-4 * o**2] * n,
        "instability_definition": [1e-6 * o**2] * n,
        "spread": [2.0 + 0.1 * o] * n,
        "plateau": [0.85] * n,
        "power": [0.15] * n,
        "clipped": [0.0] * n,
        "seconds": [1.0] * n,
    }
    for name, value in columns.items():
        history[name] = history[name][:-1] + [value]
    result = {"top1": top1, "top5": 99.0, "best_top1": top1, "best_epoch": n, "num_classes": 10, "seconds": 1.0 * n}
    result |= {"train_loss": history["train_loss"][-1], "epochs": n}
    made = {"commit": "0" * 40, "created": "2026-01-01T00:00:00+00:00", "machine": {"cpu": "a processor", "cores": 2}}
    record = {"history": history, "result": result, "provenance": made}
    return Run(recipe, Path("nowhere") / recipe.run_id, record)


def fake_run(recipe: Recipe, top1: float, **result: Any) -> Run:
    """A finished run whose history is a clock alone."""
    history = {"epoch": list(range(1, recipe.epochs + 1)), "seconds": [2.0] * recipe.epochs}
    values = {"top1": top1, "top5": min(top1 + 20, 100.0), "best_top1": top1 + 0.5, "best_epoch": recipe.epochs}
    values |= {"train_loss": 0.7, "epochs": recipe.epochs, "seconds": 2.0 * recipe.epochs} | result
    machine = {"cpu": "a processor", "cores": 2, "threads": 1, "gpu": ""}
    made = {"commit": "0" * 40, "created": "2026-01-01", "machine": machine}
    return Run(recipe, Path("nowhere") / recipe.run_id, {"history": history, "result": values, "provenance": made})


def fake_runs(
    item: str, profile: str = "short", score: Callable[[str, int], float] | None = None, **asked: Any
) -> list[Run]:
    """A run for every recipe of the item; ``score(row, seed)`` gives its top-1, 70 + seed by default."""
    score = score or (lambda row, seed: 70.0 + seed)
    return [fake_run(r, score(r.row, r.seed)) for r in item_recipes(item, profile, **asked)]


def diverged(recipe, train_loss: list[float]) -> Diverged:
    """A run that finished as many epochs as there are losses, and then diverged."""
    history = {"epoch": list(range(1, len(train_loss) + 1)), "train_loss": train_loss}
    record = {"history": history, "diverged": "the loss is not finite", "provenance": {}}
    return Diverged(recipe, Path("nowhere") / recipe.run_id, record)


def records(item: str, profile: str = "short", **asked) -> list[Run]:
    return [
        record_only(r, 70.0 + r.seed + getattr(r.estimator, "o", 0.0)) for r in item_recipes(item, profile, **asked)
    ]
