"""Runs: a finished one is read, a broken one goes on, a missing one is trained. Nothing is computed twice.

A run lives in ``runs/<run_id>/``: ``recipe.json``, ``history.csv`` as it happens, checkpoints, ``model.safetensors``
and, once it has ended, ``record.json`` (:mod:`resteutils.runs.records`). The record's copy in
``results/<profile>/runs/`` counts on its own, where the folder is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from resteutils.recipes import Recipe, item_recipes
from resteutils.runs import records as record_files
from resteutils.runs.outlook import Outlook, cores_of
from resteutils.runs.provenance import now, provenance
from resteutils.runs.records import Diverged, Run, Runs, finished_runs
from resteutils.runs.weights import serialized, sha256
from resteutils.system.files import LEAST_FREE_BYTES, writable, write_atomic
from resteutils.system.locks import holder, locked
from resteutils.system.settings import Places
from resteutils.system.settings import data_dir as data_folder
from resteutils.system.settings import results_dir as results_folder
from resteutils.system.settings import runs_dir as runs_folder
from resteutils.training.loop import train
from resteutils.training.processes import first_process, together
from resteutils.training.stopping import Interrupted, NonFinite
from resteutils.training.tracking import Tracker, open_tracker

__all__ = ["Busy", "Diverged", "Run", "Runs", "finished_runs", "load_or_train", "run_item"]

RECORDS_BYTES = 5_000_000  # a record of a thousand epochs is 0.3 MB
AGAIN = "again"  # the file that marks a run under way by force


class Busy(RuntimeError):
    """Another process is training this run."""


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
        runs_dir, data_dir, results_dir: folders; empty means the settings of :mod:`resteutils.system.settings`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        force: train again from the start, whatever is there.
        wait: wait for a process that trains the same run; otherwise raise ``Busy``.
        stop: also ends the wait for another process.
        stop, on_epoch, say, show: see :func:`resteutils.training.loop.train`.

    Raises what training raises: ``Interrupted``, ``NonFinite`` (at once where the run is recorded as diverged), missing
    or damaged data; ``OSError`` for a full disk; ``TypeError`` for what is no recipe.
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(f"{recipe!r}: expected a recipe, e.g. ru.recipe('table1/resnet20-1w1a')")
    folder, records = runs_folder(runs_dir) / recipe.run_id, results_folder(results_dir)
    force = force and not (folder / AGAIN).exists()  # a forced run that was interrupted goes on
    again = force or (folder / AGAIN).exists()
    leads = first_process()
    if not again and (run := _ended(recipe, folder, records, data_dir, leads, say)):
        return run
    writable(folder, "RUNS_DIR")
    with _only_one(folder, wait, say, stop) if leads else contextlib.nullcontext():
        if not again and leads and (run := _ended(recipe, folder, records, data_dir, leads, say)):
            if together() <= 1:
                return run
            # The other processes are waiting for this one to train: fail, so that torchrun ends them all.
            raise Busy(f"{recipe.run_id} was finished by another process meanwhile; the same call reads it")
        if leads:
            _check_room(folder, LEAST_FREE_BYTES, "RUNS_DIR")  # now, not when everything is trained
            _check_room(writable(records / recipe.profile / "runs", "RESULTS_DIR"), RECORDS_BYTES, "RESULTS_DIR")
            _prepare(folder, recipe, force)
        return _train(recipe, folder, records, device, data_dir, leads, stop, on_epoch, say, show)


def run_item(
    item: str,
    profile: str = "demo",
    rows: str | Iterable[str] = "",
    seeds: str | Iterable[int] = "",
    epochs: int = 0,
    device: str = "auto",
    overrides: str = "",
    places: Places | None = None,
    say: Callable[[str], None] = print,
) -> Runs:
    """Every run of an item, row by row and seed by seed, read or trained: the shortest first, so that something is seen
    soon. Arguments as in :func:`item_recipes`; ``places`` are the folders, by default those of the settings.

    A run whose loss stops being finite is reported and kept in ``Runs.diverged``, so that one estimator that diverges
    does not take the others' results with it.
    """
    recipes, runs, began = item_recipes(item, profile, rows, seeds, epochs, overrides), Runs(), now()
    places = places or Places.of()
    ended = [r.run_id for r in recipes if record_files.find(r, places.runs / r.run_id, places.results, lambda _: None)]
    outlook = Outlook(recipes, ended, cores_of(device))
    if outlook.to_train:
        say(outlook.before())
    for number, recipe in enumerate(outlook.shortest_first(), 1):
        start = time.monotonic()
        label = f"[{number}/{len(recipes)}] {recipe.row}, seed {recipe.seed}"
        try:
            run = load_or_train(recipe, places.runs, device, str(places.data), places.results, say=say, show=True)
        except NonFinite as error:
            say(f"{label}: DIVERGED, no result. {error}")
            found = record_files.find(recipe, places.runs / recipe.run_id, places.results, say)
            runs.diverged.append(found)
            outlook.after(recipe, time.monotonic() - start)
            continue
        read = "" if run.provenance.get("created", "") >= began else f" (read from its record: {run.origin})"
        page = f", {run.provenance['wandb']}" if run.provenance.get("wandb") else ""
        whole = outlook.after(recipe, time.monotonic() - start)
        say(f"{label}: top-1 {run.result['top1']:.2f} %{read}{page}{whole and f'  {whole}'}")
        runs.append(run)
    place = {recipe.run_id: number for number, recipe in enumerate(recipes)}
    for part in (runs, runs.diverged):
        part.sort(key=lambda run: place[run.recipe.run_id])
    return runs


def _ended(recipe: Recipe, folder: Path, records: Path, data_dir: str, leads: bool, say: Callable) -> Run | None:
    """The finished run; ``NonFinite`` where it is known to diverge, ``ValueError`` where it saw other images."""
    found = record_files.find(recipe, folder, records, say)
    if found and leads:
        record_files.keep(found, records, say)
        _tidy(recipe, folder, records)
    if found and recipe.dataset == "imagenet" and not recipe.num_classes:  # whatever folder DATA_DIR was
        from resteutils.data.folder import folder_digest

        root, seen = data_folder(data_dir), found.provenance.get("files", "")
        if seen and folder_digest(root) not in ("", seen):
            raise ValueError(
                f"{recipe.run_id} is finished, on other images than those in {root} (names or sizes differ): give each "
                "folder of images a RUNS_DIR and a RESULTS_DIR of its own, or train it again with --force"
            )
    if isinstance(found, Diverged):
        raise NonFinite(
            f"{recipe.run_id}: {found.reason} (so its record says; `resteutils train ... --force` trains it again)",
            found.reason,
        )
    return found


def _check_room(folder: Path, least: int, variable: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < least:
        raise OSError(f"{folder}: {free / 1e6:.0f} MB free, {least / 1e6:.0f} MB needed; set {variable} elsewhere")


def _prepare(folder: Path, recipe: Recipe, force: bool) -> None:
    for stray in folder.glob(".*.tmp"):  # half-written files of a killed process; the lock is ours
        stray.unlink(missing_ok=True)
    if force:
        made = (*folder.glob("checkpoint*.pt*"), *folder.glob("wandb/*.id"))
        for path in (*made, folder / "record.json", folder / "history.csv"):
            path.unlink(missing_ok=True)
        write_atomic(folder / AGAIN, "older records of this run do not count until it is finished again\n")
    write_atomic(folder / "recipe.json", json.dumps(recipe.to_dict(), indent=1) + "\n")


def _train(recipe, folder, records, device, data_dir, leads, stop, on_epoch, say, show) -> Run:
    tracker = _tracked(recipe, folder, say) if leads else None
    started, failed, summary, files = now(), True, {}, []
    try:
        model, history, environment = train(recipe, folder, device, data_dir, tracker, stop, on_epoch, say, show)
        if not leads:
            return Run(recipe, folder, {"history": {}, "result": {}, "provenance": environment})
        data = serialized(model, recipe, history[-1]["test_top1"], environment["num_classes"])
        write_atomic(folder / record_files.MODEL_FILE, data)
        source = {**provenance(), **environment, "started": started, "finished": now()}
        source |= {"wandb": tracker.url} if tracker.url else {}
        record = record_files.finished(recipe, history, source, sha256(data))
        record_files.write(record, recipe, folder, records)
        (folder / AGAIN).unlink(missing_ok=True)  # first: what is finished is not to be trained again
        for path in folder.glob("checkpoint*.pt*"):  # model and record replace them
            path.unlink(missing_ok=True)
        summary = {**record["result"], "files": environment["files"]}
        files = [folder / name for name in ("record.json", "history.csv", record_files.MODEL_FILE)]
        failed = False
        return Run(recipe, folder, record, records)
    except NonFinite as error:
        if leads:
            source = {**provenance(), **error.environment, "started": started, "finished": now()}
            record = record_files.diverged(recipe, error.what, error.history, source)
            record_files.write(record, recipe, folder, records)
            (folder / AGAIN).unlink(missing_ok=True)
        raise
    finally:
        if tracker is not None:
            tracker.finish(summary, files, failed)


def _tracked(recipe: Recipe, folder: Path, say: Callable[[str], None]) -> Tracker:
    config = {**recipe.to_dict(), "identity": recipe.identity, **provenance()}
    estimator = recipe.estimator.name if recipe.estimator else "float"
    tags = [recipe.item, recipe.profile, recipe.dataset, recipe.model, estimator]
    return open_tracker(recipe.run_id, recipe.item or "runs", config, folder, tags=filter(None, tags), say=say)


def _tidy(recipe: Recipe, folder: Path, records: Path) -> None:
    """Remove what a kill or a broken disk left at the end, unless another process has begun to train the run again."""
    copy = record_files.committed(recipe, records)
    left = [*folder.glob("checkpoint*.pt*"), *folder.glob(".*.tmp"), *copy.parent.glob(f".{copy.name}.*.tmp")]
    if not left or not (folder / "record.json").exists():
        return
    with contextlib.suppress(Busy, OSError), _only_one(folder, wait=False, say=print):
        if (folder / "record.json").exists() and not (folder / AGAIN).exists():
            for path in left:
                path.unlink(missing_ok=True)


def _only_one(
    folder: Path, wait: bool, say: Callable[[str], None], stop: Callable[[], bool] | None = None
) -> contextlib.AbstractContextManager:
    """Hold the run's lock. Raises ``Busy`` where another process has it, unless that is to be waited for, and
    ``Interrupted`` where ``stop`` ends the wait.
    """
    lock = folder / "lock"

    def taken() -> None:
        if not wait:
            raise Busy(f"{folder.name} is being trained by another process ({holder(lock)})")
        say(f"{folder.name} is being trained by another process ({holder(lock)}); waiting for it")

    def patience() -> None:
        if stop is not None and stop():
            raise Interrupted(f"{folder.name} stopped before it began; the same call begins it")

    return locked(lock, taken, patience if stop else None)
