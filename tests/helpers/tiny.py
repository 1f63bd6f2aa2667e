"""The smallest training run that has everything: two epochs of three steps on a few digits."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from resteutils.recipes import Recipe, recipe
from resteutils.runs.store import Run, load_or_train
from resteutils.training.loop import train

TIMES = ("seconds", "images_per_second")


def tiny(name: str = "table3/reste", **overrides: Any) -> Recipe:
    fields = {"train_size": 48, "test_size": 20, "batch_size": 16, "epochs": 2, "compile": "off"}
    return recipe(name, profile="smoke", **(fields | overrides))


def untimed(rows: list[dict[str, float]]) -> list[dict[str, str]]:
    """A history without its clock; as text, so that NaN equals NaN and everything else must be the same bits."""
    return [{key: repr(value) for key, value in row.items() if key not in TIMES} for row in rows]


RECIPE = tiny()


def run(recipe: Recipe, folder: Path, **options):
    """``train`` on the CPU in ``folder``, saying nothing: (network, history, environment)."""
    return train(recipe, folder, "cpu", **({"say": lambda line: None, "show": False} | options))


def paused_training(recipe: Recipe, folder: str) -> None:
    """What a process of its own runs. ``stop`` is asked after every step: a pause in it, so that no machine is done
    before the next kill. It stands here since another process cannot import a test's module by its path: where a
    package of the environment is called ``tests``, that one is found.
    """
    torch.set_num_threads(1)
    train(recipe, Path(folder), "cpu", stop=lambda: time.sleep(0.05), say=lambda line: None, show=False)


def call(folders: tuple[Path, Path], recipe: Recipe = RECIPE, **options) -> Run:
    """``load_or_train`` on the CPU with folders ``(runs, results)``, saying nothing."""
    runs, results = folders
    options = {"say": lambda line: None, "show": False} | options
    return load_or_train(recipe, runs, "cpu", results_dir=results, **options)


def record_path(folders: tuple[Path, Path], recipe: Recipe = RECIPE) -> Path:
    return folders[1] / recipe.profile / "runs" / f"{recipe.run_id}.json"
