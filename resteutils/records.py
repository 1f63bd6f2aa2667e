"""Records: what a run leaves behind, finished or diverged, and how it is read back.

A record is JSON: schema, run_id, identity, recipe, history by column and provenance, with ``result`` where the run
finished and ``diverged``, the reason, where its loss or gradients stopped being finite. It lies in the run's folder as
``record.json`` and as ``results/<profile>/runs/<run_id>.json``, which survives where ``runs/`` does not.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resteutils.recipes import Recipe
from resteutils.settings import results_dir as results_folder
from resteutils.settings import runs_dir as runs_folder
from resteutils.settings import write_atomic

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import nn

__all__ = ["Diverged", "Run", "Runs", "diverged_runs", "finished_runs"]

SCHEMA = 1


@dataclass(frozen=True)
class Run:
    """A finished run.

    ``record`` is its JSON: recipe, history by column, result, provenance. ``path`` is its folder, which may be gone
    where only the committed record survives.
    """

    recipe: Recipe
    path: Path
    record: dict[str, Any]

    @property
    def history(self) -> DataFrame:
        """One row per epoch; the columns are described in :mod:`resteutils.epoch`."""
        import pandas

        return pandas.DataFrame(self.record["history"], dtype=float).astype({"epoch": int})

    @property
    def result(self) -> dict[str, Any]:
        """Figures of the finished run: ``top1``, ``top5`` of the last epoch in %, ``best_top1``, ``train_loss``, ..."""
        return {name: math.nan if value is None else value for name, value in self.record["result"].items()}

    @property
    def provenance(self) -> dict[str, Any]:
        return self.record["provenance"]

    def model(self, device: str = "cpu") -> nn.Module:
        """The trained network in evaluation mode, loaded strictly.

        Raises ``FileNotFoundError`` where only the record survives.
        """
        from safetensors.torch import load_file

        from resteutils.construct import build_model

        path = self.path / "model.safetensors"
        if not path.exists():
            recipe = self.recipe
            raise FileNotFoundError(
                f"{path} is not there: only the record of {recipe.run_id} survives. Train it again with "
                f"`resteutils train {recipe.name} --profile {recipe.profile} --seed {recipe.seed} --force`"
            )
        network = build_model(self.recipe, self.record["result"]["num_classes"])
        network.load_state_dict(load_file(path))
        return network.to(device).eval()


@dataclass(frozen=True)
class Diverged:
    """A run that ended in numbers that are not finite: a result too, with a record, but without an accuracy."""

    recipe: Recipe
    path: Path
    record: dict[str, Any]

    @property
    def reason(self) -> str:
        """Step, learning rate and estimator of the first bad number."""
        return self.record["diverged"]

    @property
    def history(self) -> DataFrame:
        """One row per epoch that it finished before; may be empty."""
        import pandas

        return pandas.DataFrame(self.record["history"] or {"epoch": [], "train_loss": []}, dtype=float)

    @property
    def provenance(self) -> dict[str, Any]:
        return self.record["provenance"]


class Runs(list[Run]):
    """Finished runs, and in ``diverged`` those that were asked for and have no accuracy."""

    def __init__(self, runs: Iterable[Run] = (), diverged: Iterable[Diverged] = ()) -> None:
        super().__init__(runs)
        self.diverged = list(diverged)

    @classmethod
    def of(cls, runs: Iterable[Run]) -> Runs:
        """The same object if it is one already: whatever diverged is not lost on the way to a table."""
        return runs if isinstance(runs, cls) else cls(runs)


# --- reading ---------------------------------------------------------------------------------------------------------


def finished_runs(
    runs_dir: str | os.PathLike = "", results_dir: str | os.PathLike = "", say: Callable[[str], None] = print
) -> list[Run]:
    """Every finished run on this disk, in ``runs/`` or as a committed record, by run id."""
    return [run for run in _every(runs_dir, results_dir, say) if isinstance(run, Run)]


def diverged_runs(
    runs_dir: str | os.PathLike = "", results_dir: str | os.PathLike = "", say: Callable[[str], None] = print
) -> list[Diverged]:
    """Every run on this disk that is recorded as diverged, by run id."""
    return [run for run in _every(runs_dir, results_dir, say) if isinstance(run, Diverged)]


def _every(runs_dir: str | os.PathLike, results_dir: str | os.PathLike, say: Callable) -> list[Run | Diverged]:
    runs = runs_folder(runs_dir)
    paths = [*results_folder(results_dir).glob("*/runs/*.json"), *runs.glob("*/record.json")]
    found = {}
    for path in sorted(paths):
        if record := _read(path, say):
            found[record["run_id"]] = _outcome(Recipe.from_dict(record["recipe"]), runs / record["run_id"], record)
    return [found[run_id] for run_id in sorted(found)]


def find(recipe: Recipe, folder: Path, records: Path, say: Callable[[str], None]) -> Run | Diverged | None:
    """What became of a run, if it has a valid record, in its own folder or among the committed ones of any profile."""
    kept = records / recipe.profile / "runs" / f"{recipe.run_id}.json"
    others = sorted(records.glob(f"*/runs/{recipe.run_id}.json"))
    for path in dict.fromkeys([folder / "record.json", kept, *others]):
        if not path.exists():
            continue
        record = _read(path, say)
        if record is None or (record["identity"], record["recipe"]["seed"]) != (recipe.identity, recipe.seed):
            continue
        if not kept.exists():
            write_atomic(kept, path.read_bytes())
        return _outcome(recipe, folder, record)
    return None


def _outcome(recipe: Recipe, folder: Path, record: dict[str, Any]) -> Run | Diverged:
    return (Diverged if "diverged" in record else Run)(recipe, folder, record)


def _read(path: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """A record, or ``None`` with a word about why it does not count."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        recipe = Recipe.from_dict(record["recipe"])
        if record["schema"] == SCHEMA and record["identity"] == recipe.identity and _complete(record, recipe):
            return record
        reason = "it is incomplete or from another version of the recipe"
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
    say(f"{path} does not count as a finished run ({reason})")
    return None


def _complete(record: dict[str, Any], recipe: Recipe) -> bool:
    """Whether a record says how its run ended and where it comes from."""
    if "diverged" in record:
        ended = isinstance(record["diverged"], str)
    else:
        ended = len(record["history"]["epoch"]) == recipe.epochs and isinstance(record["result"]["top1"], float)
    return ended and isinstance(record["provenance"], dict)


# --- writing ---------------------------------------------------------------------------------------------------------


def write(record: dict[str, Any], recipe: Recipe, folder: Path, records: Path) -> None:
    """Into the run's folder, and to the records that are committed."""
    text = json.dumps(record, allow_nan=False) + "\n"
    write_atomic(folder / "record.json", text)
    write_atomic(records / recipe.profile / "runs" / f"{recipe.run_id}.json", text)


def finished(recipe: Recipe, history: list[dict[str, float]], source: dict[str, Any]) -> dict[str, Any]:
    """The record of a finished run. ``source`` is its provenance."""
    best = max(history, key=lambda row: row["test_top1"])
    last = history[-1]
    result = {
        "top1": last["test_top1"],
        "top5": last["test_top5"],
        "best_top1": best["test_top1"],
        "best_epoch": best["epoch"],
        "epochs": len(history),
        "seconds": sum(row["seconds"] for row in history),
        **{k: v for k, v in last.items() if k not in ("epoch", "progress", "seconds", "lr", "test_top1", "test_top5")},
        "num_classes": source["num_classes"],
    }
    plain = {name: _plain(value) for name, value in result.items()}
    return {**_common(recipe, history, source), "result": plain}


def diverged(recipe: Recipe, reason: str, folder: Path, source: dict[str, Any]) -> dict[str, Any]:
    """The record of a run that ended in numbers that are not finite, with the epochs that it finished before."""
    history, path = [], folder / "history.csv"
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return {**_common(recipe, history, source), "diverged": reason}


def _common(recipe: Recipe, history: list[dict[str, float]], source: dict[str, Any]) -> dict[str, Any]:
    names = history[-1] if history else ()
    return {
        "schema": SCHEMA,
        "run_id": recipe.run_id,
        "identity": recipe.identity,
        "recipe": recipe.to_dict(),
        "history": {name: [_plain(row[name]) for row in history] for name in names},
        "provenance": source,
    }


def _plain(value: float) -> float | None:
    """JSON has no NaN; null stands for it. Seven digits are more than any figure here is worth."""
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
