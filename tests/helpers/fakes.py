"""Finished runs made by hand: what `runs.Run` offers, without a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from resteutils.recipes import Recipe, item_recipes


@dataclass(frozen=True)
class FakeRun:
    recipe: Recipe
    result: dict[str, Any]
    history: pd.DataFrame
    provenance: dict[str, Any]


def fake_run(recipe: Recipe, top1: float, seconds: float = 2.0, **result: Any) -> FakeRun:
    history = pd.DataFrame({"epoch": range(1, recipe.epochs + 1), "seconds": seconds})
    values = {"top1": top1, "top5": min(top1 + 20, 100.0), "best_top1": top1 + 0.5, "best_epoch": recipe.epochs}
    values |= {"train_loss": 0.7, "epochs": recipe.epochs, "seconds": seconds * recipe.epochs} | result
    machine = {"cpu": "a processor", "cores": 2, "threads": 1, "gpu": ""}
    return FakeRun(recipe, values, history, {"commit": "0" * 40, "created": "2026-01-01", "machine": machine})


def fake_runs(
    item: str, profile: str = "short", score: Callable[[str, int], float] | None = None, **asked: Any
) -> list:
    """A run for every recipe of the item; ``score(row, seed)`` gives its top-1, 70 + seed by default."""
    score = score or (lambda row, seed: 70.0 + seed)
    return [fake_run(r, score(r.row, r.seed)) for r in item_recipes(item, profile, **asked)]
