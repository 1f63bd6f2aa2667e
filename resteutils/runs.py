"""Runs: a finished one is read, a broken one goes on, a missing one is trained. Nothing is computed twice.

A run lives in ``runs/<run_id>/``: ``recipe.json``, ``history.csv`` as it happens, checkpoints, ``model.safetensors``
and, once it is finished, ``record.json``. The record is copied to ``results/<profile>/runs/<run_id>.json``, which
survives where ``runs/`` does not and counts as finished on its own.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from resteutils.provenance import now, provenance
from resteutils.recipes import Recipe, item_recipes
from resteutils.settings import results_dir as results_folder
from resteutils.settings import runs_dir as runs_folder
from resteutils.settings import write_atomic
from resteutils.tracking import open_tracker
from resteutils.training import NonFinite, build_model, train

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Busy", "Run", "finished_runs", "load_or_train", "run_item"]

SCHEMA = 1
AGAIN = "again"  # the file that marks a run under way by force
LEAST_FREE_BYTES = 300_000_000


class Busy(RuntimeError):
    """Another process is training this run."""


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


def load_or_train(
    recipe: Recipe,
    runs_dir: str | os.PathLike = "",
    device: str = "auto",
    data_dir: str = "",
    results_dir: str | os.PathLike = "",
    force: bool = False,
    wait: bool = True,
    stop: Callable[[], bool] | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    say: Callable[[str], None] = print,
    show: bool = True,
) -> Run:
    """The finished run of ``recipe``: read, resumed or trained, whichever it takes.

    Arguments:
        runs_dir, data_dir, results_dir: folders; empty means the settings of :mod:`resteutils.settings`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        force: train again from the start, whatever is there.
        wait: wait for a process that trains the same run; otherwise raise ``Busy``.
        stop, on_epoch, say, show: see :func:`resteutils.training.train`.

    Raises what training raises: ``Interrupted``, ``NonFinite``, missing or damaged data; ``OSError`` for a full disk.
    """
    folder, records = runs_folder(runs_dir) / recipe.run_id, results_folder(results_dir)
    force = force and not (folder / AGAIN).exists()  # a forced run that was interrupted goes on
    again = force or (folder / AGAIN).exists()
    if not again and (run := _finished(recipe, folder, records, say)):
        return run
    leads, alone = int(os.environ.get("RANK", "0")) == 0, int(os.environ.get("WORLD_SIZE", "1")) <= 1
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder, wait, say) if leads else contextlib.nullcontext():
        if not again and leads and (run := _finished(recipe, folder, records, say)):
            if alone:
                return run
            # The other processes are waiting for this one to train: fail, so that torchrun ends them all.
            raise Busy(f"{recipe.run_id} was finished by another process meanwhile; the same call reads it")
        if leads:
            _prepare(folder, recipe, force)
        return _train(recipe, folder, records, device, data_dir, leads, stop, on_epoch, say, show)


def run_item(
    item: str,
    profile: str = "demo",
    rows: str | Iterable[str] = "",
    seeds: str | Iterable[int] = "",
    epochs: int = 0,
    device: str = "auto",
    data_dir: str = "",
    runs_dir: str | os.PathLike = "",
    results_dir: str | os.PathLike = "",
    say: Callable[[str], None] = print,
    on_broken: Callable[[Recipe, NonFinite], None] | None = None,
) -> list[Run]:
    """Every run of an item, row by row and seed by seed, read or trained. Arguments as in :func:`item_recipes`.

    A run whose loss stops being finite is reported and left out, so that one estimator that diverges does not take the
    others' results with it. ``on_broken`` gets its recipe and error; without it, ``NonFinite`` is raised where no run
    is left.
    """
    recipes = item_recipes(item, profile, rows, seeds, epochs)
    runs, broken = [], None
    for number, recipe in enumerate(recipes, 1):
        label = f"[{number}/{len(recipes)}] {recipe.row}, seed {recipe.seed}"
        try:
            run = load_or_train(recipe, runs_dir, device, data_dir, results_dir, say=say, show=True)
        except NonFinite as error:
            broken = error
            if on_broken is not None:
                on_broken(recipe, error)
            say(f"{label}: DIVERGED, no result. {error}")
            continue
        say(f"{label}: top-1 {run.result['top1']:.2f} %")
        runs.append(run)
    if not runs and broken is not None and on_broken is None:
        raise broken
    return runs


def finished_runs(
    runs_dir: str | os.PathLike = "", results_dir: str | os.PathLike = "", say: Callable[[str], None] = print
) -> list[Run]:
    """Every finished run on this disk, in ``runs/`` or as a committed record, by run id."""
    runs = runs_folder(runs_dir)
    paths = [*results_folder(results_dir).glob("*/runs/*.json"), *runs.glob("*/record.json")]
    found = {}
    for path in sorted(paths):
        if record := _read_record(path, say):
            recipe = Recipe.from_dict(record["recipe"])
            found[record["run_id"]] = Run(recipe, runs / record["run_id"], record)
    return [found[run_id] for run_id in sorted(found)]


def _finished(recipe: Recipe, folder: Path, records: Path, say: Callable[[str], None]) -> Run | None:
    """The run, if it has a valid record, in its own folder or among the committed ones of any profile."""
    kept = records / recipe.profile / "runs" / f"{recipe.run_id}.json"
    others = sorted(records.glob(f"*/runs/{recipe.run_id}.json"))
    for path in dict.fromkeys([folder / "record.json", kept, *others]):
        if not path.exists():
            continue
        record = _read_record(path, say)
        if record is None or (record["identity"], record["recipe"]["seed"]) != (recipe.identity, recipe.seed):
            continue
        if not kept.exists():
            write_atomic(kept, path.read_bytes())
        return Run(recipe, folder, record)
    return None


def _read_record(path: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """A record, or ``None`` with a word about why it does not count."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        recipe = Recipe.from_dict(record["recipe"])
        whole = record["schema"] == SCHEMA and len(record["history"]["epoch"]) == recipe.epochs
        if whole and record["identity"] == recipe.identity and "top1" in record["result"]:
            return record
        reason = "it is incomplete or from another version of the recipe"
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
    say(f"{path} does not count as a finished run ({reason})")
    return None


def _prepare(folder: Path, recipe: Recipe, force: bool) -> None:
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        raise OSError(
            f"{folder}: {free / 1e6:.0f} MB free, {LEAST_FREE_BYTES / 1e6:.0f} MB needed; set RUNS_DIR elsewhere"
        )
    if force:
        for path in (*folder.glob("checkpoint*.pt*"), folder / "record.json", folder / "history.csv"):
            path.unlink(missing_ok=True)
        write_atomic(folder / AGAIN, "older records of this run do not count until it is finished again\n")
    write_atomic(folder / "recipe.json", json.dumps(recipe.to_dict(), indent=1) + "\n")


def _train(recipe, folder, records, device, data_dir, leads, stop, on_epoch, say, show) -> Run:
    config = {**recipe.to_dict(), "identity": recipe.identity}
    tracker = open_tracker(recipe.run_id, recipe.item or "runs", config, folder, say=say) if leads else None
    started, failed, summary, files = now(), True, {}, []
    try:
        model, history, environment = train(recipe, folder, device, data_dir, tracker, stop, on_epoch, say, show)
        if not leads:
            return Run(recipe, folder, {"history": {}, "result": {}, "provenance": environment})
        _save_model(folder / "model.safetensors", model, recipe, history[-1]["test_top1"])
        record = _record(recipe, history, {**provenance(), **environment, "started": started, "finished": now()})
        text = json.dumps(record, allow_nan=False) + "\n"
        write_atomic(folder / "record.json", text)
        write_atomic(records / recipe.profile / "runs" / f"{recipe.run_id}.json", text)
        for path in (*folder.glob("checkpoint*.pt*"), folder / AGAIN):  # the model and the record replace them
            path.unlink(missing_ok=True)
        summary, files, failed = record["result"], [folder / "record.json", folder / "history.csv"], False
        return Run(recipe, folder, record)
    finally:
        if tracker is not None:
            tracker.finish(summary, files, failed)


def _record(recipe: Recipe, history: list[dict[str, float]], source: dict[str, Any]) -> dict[str, Any]:
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
    columns = {name: [_plain(row[name]) for row in history] for name in last}
    return {
        "schema": SCHEMA,
        "run_id": recipe.run_id,
        "identity": recipe.identity,
        "recipe": recipe.to_dict(),
        "history": columns,
        "result": {name: _plain(value) for name, value in result.items()},
        "provenance": source,
    }


def _plain(value: float) -> float | None:
    """JSON has no NaN; null stands for it. Seven digits are more than any figure here is worth."""
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def _save_model(path: Path, model: nn.Module, recipe: Recipe, top1: float) -> None:
    from safetensors.torch import save

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {"recipe": json.dumps(recipe.to_dict()), "run_id": recipe.run_id, "top1": f"{top1:.4f}"}
    write_atomic(path, save(state, metadata))


@contextlib.contextmanager
def _only_one(folder: Path, wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the run's lock, which the system lets go when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows: no lock, so do not train one run twice at a time there
        yield
        return
    with open(folder / "lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise Busy(f"{folder.name} is being trained by another process") from None
            say(f"{folder.name} is being trained by another process; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
