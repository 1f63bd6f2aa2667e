"""Records: what a run leaves behind, finished or diverged, and how it is read back.

A record is JSON: schema, run_id, identity, recipe, history by column and provenance, with ``result`` where the run
finished and ``diverged``, the reason, where its loss or gradients stopped being finite; ``model_sha256``, of the file
of its network, and ``sha256``, of its own content (:mod:`resteutils.runs.validity`). It lies in the run's folder as
``record.json`` and as ``results/<profile>/runs/<run_id>.json``, which survives where ``runs/`` does not.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from resteutils.estimators import Unregistered
from resteutils.recipes import Recipe
from resteutils.recipes.build import build_model
from resteutils.runs import validity
from resteutils.runs.weights import loaded
from resteutils.system.files import write_atomic
from resteutils.system.settings import results_dir as results_folder
from resteutils.system.settings import runs_dir as runs_folder

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import nn

__all__ = ["Diverged", "Run", "Runs", "ended_runs", "finished_runs"]

SCHEMA = 1
MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class Ended:
    """A run that has ended, one way or the other.

    ``record`` is its JSON: recipe, history by column, provenance, and the result or the reason. ``path`` is its folder,
    which may be gone where only the committed record survives.
    """

    recipe: Recipe
    path: Path
    record: dict[str, Any]
    results: Path | None = None  # the results folder, whose models/ may hold the network where ``path`` does not

    @property
    def history(self) -> DataFrame:
        """One row per finished epoch; the columns are described in :mod:`resteutils.training.epoch`."""
        import pandas

        columns = self.record["history"] or {"epoch": [], "train_loss": []}
        return pandas.DataFrame(columns, dtype=float).astype({"epoch": int})

    @property
    def provenance(self) -> dict[str, Any]:
        """Commit, versions, machine, and what the training resolved (threads, compilation, kernels)."""
        return self.record["provenance"]

    @property
    def origin(self) -> str:
        """When and on what it was trained, e.g. ``trained 2026-11-25 on AMD EPYC``."""
        machine = self.provenance.get("machine", {})
        on = machine.get("gpu") or machine.get("cpu") or "an unknown machine"
        return f"trained {self.provenance.get('created', 'at an unknown time')[:10]} on {on}"

    def under(self, item: str, row: str, profile: str) -> Self:
        """The run by the name that an item knows it by: runs are shared between items."""
        return replace(self, recipe=replace(self.recipe, item=item, row=row, profile=profile))


class Run(Ended):
    """A finished run."""

    @property
    def result(self) -> dict[str, Any]:
        """Figures of the finished run: ``top1``, ``top5`` of the last epoch in %, ``best_top1``, ``train_loss``, ..."""
        return {name: math.nan if value is None else value for name, value in self.record["result"].items()}

    @property
    def model_file(self) -> Path | None:
        """The trained network's weights: in the run's folder, else among the published ones; None where neither is."""
        path = self.path / MODEL_FILE
        if path.is_file():
            return path
        published = (self.results or self.path) / "models" / f"{self.recipe.run_id}.safetensors"
        try:
            card, known = _card(published), self.record.get("model_sha256")
            same = card["commit"] == self.provenance["commit"] and abs(card["top1"] - self.result["top1"]) < 0.05
            same = same and known in (None, card["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return published if same and published.is_file() else None  # the same training, not another of its recipe

    def model(self, device: str = "cpu") -> nn.Module:
        """The trained network in evaluation mode, loaded strictly.

        Raises ``FileNotFoundError`` where only the record survives, ``RuntimeError`` where the file is damaged.
        """
        recipe = self.recipe
        again = f"resteutils train {recipe.name} --profile {recipe.profile} --seed {recipe.seed} --force"
        if not (file := self.model_file):
            raise FileNotFoundError(
                f"{self.path / MODEL_FILE} is not there: only the record of {recipe.run_id} survives. Train it again "
                f"with `{again}`"
            )
        network = build_model(recipe, self.record["result"]["num_classes"])
        own = file == self.path / MODEL_FILE
        known = self.record.get("model_sha256", "") if own else _card(file)["sha256"]
        try:
            return loaded(network, file, known).to(device).eval()
        except RuntimeError as error:
            raise RuntimeError(f"{error}; train again: `{again}`") from error


def _card(published: Path) -> dict[str, Any]:
    return json.loads(published.with_suffix(".json").read_text(encoding="utf-8"))


class Diverged(Ended):
    """A run that ended in numbers that are not finite: a result too, with a record, but without an accuracy."""

    @property
    def reason(self) -> str:
        """Step, learning rate and estimator of the first bad number."""
        return self.record["diverged"]


class Runs(list[Run]):
    """Finished runs, and in ``diverged`` those that were asked for and have no accuracy."""

    def __init__(self, runs: Iterable[Run] = (), diverged: Iterable[Diverged] = ()) -> None:
        super().__init__(runs)
        self.diverged = list(diverged)

    @classmethod
    def of(cls, runs: Iterable[Run]) -> Runs:
        """The same object if it is one already: whatever diverged is not lost on the way to a table."""
        return runs if isinstance(runs, cls) else cls(runs)

    @property
    def every(self) -> list[Run | Diverged]:
        """Those that finished, then those that diverged."""
        return [*self, *self.diverged]


# --- reading ---------------------------------------------------------------------------------------------------------


def finished_runs(
    runs_dir: str | os.PathLike = "", results_dir: str | os.PathLike = "", say: Callable[[str], None] = print
) -> list[Run]:
    """Every finished run on this disk, in ``runs/`` or as a committed record, by run id."""
    return list(ended_runs(runs_dir, results_dir, say))


def ended_runs(
    runs_dir: str | os.PathLike = "", results_dir: str | os.PathLike = "", say: Callable[[str], None] = print
) -> Runs:
    """Every run on this disk that has ended, finished or diverged, by run id; a record in ``runs/`` goes before a
    committed one.
    """
    runs, results, found = runs_folder(runs_dir), results_folder(results_dir), {}
    unknown: dict[tuple[str, str], set[str]] = {}
    known: dict[tuple[str, str], tuple[dict[str, Any], Recipe]] = {}
    for path in [*sorted(results.glob("*/runs/*.json")), *sorted(runs.glob("*/record.json"))]:
        if read := _read(path, say, unknown, known):
            record, recipe = read
            found[recipe.run_id] = _ended(recipe, runs / recipe.run_id, record, results)
    for (what, name), run_ids in unknown.items():
        article = "an" if what[0] in "aeiou" else "a"
        say(
            f"{len(run_ids)} run(s) with {article} {what} {name!r}, which is not registered here, are left out: "
            "RESTEUTILS_IMPORT=MODULE names the module that defines it"
        )
    ended = [found[run_id] for run_id in sorted(found)]
    return Runs((r for r in ended if isinstance(r, Run)), (r for r in ended if isinstance(r, Diverged)))


def find(recipe: Recipe, folder: Path, records: Path, say: Callable[[str], None]) -> Run | Diverged | None:
    """What became of a run, if it has a valid record, in its own folder or among the committed ones of any profile."""
    others = sorted(records.glob(f"*/runs/{recipe.run_id}.json"))
    for path in dict.fromkeys([folder / "record.json", committed(recipe, records), *others]):
        if not path.exists():
            continue
        if read := _read(path, say):
            return _ended(recipe, folder, read[0], records)
    return None


def committed(recipe: Recipe, records: Path) -> Path:
    """Where the record lies that is committed."""
    return records / recipe.profile / "runs" / f"{recipe.run_id}.json"


def _ended(recipe: Recipe, folder: Path, record: dict[str, Any], results: Path) -> Run | Diverged:
    return (Diverged if "diverged" in record else Run)(recipe, folder, record, results)


def _read(
    path: Path,
    say: Callable[[str], None],
    unknown: dict[tuple[str, str], set[str]] | None = None,
    known: dict[tuple[str, str], tuple[dict[str, Any], Recipe]] | None = None,
) -> tuple[dict[str, Any], Recipe] | None:
    """A record and its recipe, or ``None`` with a word about why it does not count; run ids whose estimator, model or
    dataset is not registered go to ``unknown`` instead, where it is given. A text that is in ``known`` counts as it did
    before: most records lie in two places.
    """
    run_id = path.parent.name if path.name == "record.json" else path.stem
    try:
        if not path.is_file():  # a pipe would be waited for without end
            raise ValueError("it is no file" if path.exists() else "it is a link to nothing")
        text = path.read_text(encoding="utf-8")
        if known and (run_id, text) in known:
            return known[run_id, text]
        record = validity.parsed(text)
        reason = validity.fields_problem(record, validity.REQUIRED, validity.OPTIONAL)
        if not reason and (record["schema"], record["run_id"]) != (SCHEMA, run_id):
            reason = f"it is schema {record['schema']!r} of {record['run_id']!r}, expected {SCHEMA} of {run_id!r}"
        if not reason:
            recipe = Recipe.from_dict(record["recipe"])
            reason = validity.problem(record, recipe)
        if not reason:
            if known is not None:
                known[run_id, text] = record, recipe
            return record, recipe
    except Unregistered as error:
        if unknown is not None:
            unknown.setdefault((error.what, error.name), set()).add(run_id)
            return None
        reason = str(error)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:  # others count
        reason = f"{type(error).__name__}: {error}"
    say(f"{path} does not count as a finished run ({reason})")
    return None


# --- writing ---------------------------------------------------------------------------------------------------------


def write(record: dict[str, Any], recipe: Recipe, folder: Path, records: Path) -> None:
    """Into the run's folder, and to the records that are committed."""
    write_atomic(folder / "record.json", _text(record))
    write_atomic(committed(recipe, records), _text(record))


def keep(found: Run | Diverged, records: Path, say: Callable[[str], None]) -> None:
    """Put a record that was found elsewhere to those that are committed too; a folder that cannot be written is said
    and does not stop the reading.
    """
    path = committed(found.recipe, records)
    if path.exists():
        return
    try:
        write_atomic(path, _text(found.record))
    except OSError as error:
        say(f"the record of {found.recipe.run_id} was read, and not kept with the results: {error.strerror or error}")


def _text(record: dict[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def finished(
    recipe: Recipe, history: list[dict[str, float]], source: dict[str, Any], model_sha256: str
) -> dict[str, Any]:
    """The record of a finished run. ``source`` is its provenance, ``model_sha256`` that of its network's file."""
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
    return validity.sealed({**_common(recipe, history, source), "result": plain, "model_sha256": model_sha256})


def diverged(
    recipe: Recipe, reason: str, history: Sequence[dict[str, float]], source: dict[str, Any]
) -> dict[str, Any]:
    """The record of a run that ended in numbers that are not finite, with the epochs that it finished before."""
    return validity.sealed({**_common(recipe, history, source), "diverged": reason})


def _common(recipe: Recipe, history: Sequence[dict[str, float]], source: dict[str, Any]) -> dict[str, Any]:
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
