"""Many runs at once: local processes or a Slurm cluster, through submitit.

Whoever works takes the next run that nobody has finished or is training, so a launch can be killed, repeated or started
twice: finished runs count, broken ones go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from resteutils.recipes import Recipe, item_recipes
from resteutils.runs.cluster import FOREVER, job_settings, join_tasks, queue, require_submitit, stopping
from resteutils.runs.leash import Leash, followed
from resteutils.runs.store import Busy, load_or_train
from resteutils.system.cores import usable_cores
from resteutils.system.settings import runs_dir as runs_folder
from resteutils.training.processes import first_process
from resteutils.training.stopping import Interrupted, NonFinite, StopSignals

__all__ = ["Outcome", "Worker", "check", "counted", "launch", "logs_folder", "told"]


STATES = ("finished", "diverged", "failed")
OURS = {
    "timeout_min": "--minutes",
    "slurm_array_parallelism": "--parallel",
    "nodes": "--nodes",
}  # settings of submitit's with an option
COMPOSED = {"slurm_additional_parameters": dict, "slurm_setup": list, "slurm_teardown": list}


@dataclass(frozen=True)
class Outcome:
    """What became of one run: one of ``STATES``; unless it finished, why, in one line, and where the log of it is."""

    recipe: Recipe
    state: str
    reason: str = ""
    log: str = ""


@dataclass
class Worker:
    """Trains recipes one after the other. A callable object, so that submitit can send it to another machine."""

    recipes: list[Recipe]
    options: dict[str, Any]
    threads: int = 0
    gpus: str = ""  # what CUDA_VISIBLE_DEVICES is to say; empty: what it says already
    leash: str = ""  # the lock of the launch: once it is free, this worker saves and leaves

    def __call__(self) -> list[Outcome]:
        """What became of each run; one failure, its traceback printed, does not stop the others. Raises
        ``Interrupted`` where SIGINT, SIGTERM or the end of the launch asks it to stop, everything being saved; under
        Slurm ``SystemExit``, so that the job is queued again and goes on.
        """
        with stopping() as signals:
            followed(self.leash)
            join_tasks()
            return self._train(signals)

    def _train(self, signals: StopSignals) -> list[Outcome]:
        if self.gpus:  # read when CUDA starts, at its first use
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus
        if self.threads:
            torch.set_num_threads(self.threads)
        ended, left = [], list(self.recipes)
        for wait in (False, True):  # first what is free, then wait for what another worker had in hand
            busy = []
            for recipe in left:
                if signals.caught:  # between two runs
                    raise Interrupted("this worker stopped before its next run; everything is saved", signals.caught)
                try:
                    run = load_or_train(recipe, **self.options, wait=wait, stop=lambda: bool(signals.caught))
                    if first_process():  # of several that train together, only this one has the result
                        print(f"{recipe.name}, seed {recipe.seed}: top-1 {run.result['top1']:.2f} %", flush=True)
                    ended.append(Outcome(recipe, "finished"))
                except Busy:
                    busy.append(recipe)
                except NonFinite as error:  # recorded: an outcome, not a failure of the launch
                    print(f"{recipe.name}, seed {recipe.seed}: DIVERGED, no result. {error}", flush=True)
                    ended.append(Outcome(recipe, "diverged", error.what))
                except Interrupted:
                    raise
                except Exception as error:  # noqa: BLE001 - one run's failure is reported and the campaign goes on
                    traceback.print_exc()
                    ended.append(Outcome(recipe, "failed", f"{type(error).__name__}: {' '.join(str(error).split())}"))
            left = busy
        sys.stdout.flush()
        return ended

    def checkpoint(self) -> Any:
        """Called by submitit before a time limit or a preemption: queue the same work again, to go on where it was."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def check(
    on: str, parallel: int, threads: int, minutes: int, cluster: dict[str, Any], gpus_per_run: int = 0, nodes: int = 1
) -> None:
    """Raise ``ValueError``, naming the value, for what :func:`launch` does not take."""
    if on not in ("local", "slurm"):
        raise ValueError(f"on = {on!r}, expected local or slurm")
    if cluster and on == "local":
        raise ValueError(f"{', '.join(cluster)}: settings of a cluster, expected on = slurm")
    if on == "local" and (gpus_per_run or nodes != 1):
        raise ValueError(
            "gpus_per_run and nodes belong to on = slurm; here `torchrun --nproc-per-node N -m resteutils train "
            "ITEM/ROW` trains one run on many GPUs"
        )
    numbers = {"parallel": (parallel, 1), "threads": (threads, 0), "minutes": (minutes, 1), "nodes": (nodes, 1)}
    for name, (value, least) in (numbers | {"gpus_per_run": (gpus_per_run, 0)}).items():
        if value < least:
            raise ValueError(f"{name} = {value}, expected at least {least}")
    if on == "slurm":
        _check_cluster(cluster)


def _check_cluster(cluster: dict[str, Any]) -> None:
    """submitit itself would refuse these only where it finds a Slurm, and with a NameError of many lines."""
    submitit = require_submitit()
    kinds = submitit.AutoExecutor._typed_parameters() | COMPOSED
    known = {*kinds, *(f"slurm_{name}" for name in submitit.SlurmExecutor._valid_parameters())}
    for name, value in cluster.items():
        if name in OURS:
            raise ValueError(f"{name}: {OURS[name]} says that")
        if name not in known:
            raise ValueError(f"no setting {name}; submitit takes {', '.join(sorted(known - set(OURS)))}")
        kind = kinds.get(name, object)
        if not isinstance(value, (int, float) if kind is float else kind):
            raise ValueError(f"{name} = {value!r}, expected {kind.__name__}")
        if name.removeprefix("slurm_") in ("tasks_per_node", "ntasks_per_node", "nodes") and value != 1:
            raise ValueError(
                f"{name} = {value}, expected 1: --gpus-per-run N --nodes M says how many tasks train a run together"
            )


def threads_each(asked: int, workers: int) -> int:
    """The threads of torch in each of so many processes of this machine: ``asked``; else ``OMP_NUM_THREADS``, which
    torch reads itself (0), as a single process does; else an equal share of the cores.
    """
    if asked or workers < 2 or os.environ.get("OMP_NUM_THREADS"):
        return asked
    return max(1, usable_cores() // workers)


def gpu_shares(device: str, workers: int) -> list[str]:
    """The GPUs of each local worker, as CUDA_VISIBLE_DEVICES names them: one each, in turn, or all where ``device`` is
    one by number. Empty where there are none. submitit by itself hides every GPU from its local processes.
    """
    count = torch.cuda.device_count() if device.startswith(("auto", "cuda")) else 0
    said = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = said.split(",")[:count] if said else [str(number) for number in range(count)]
    if not names:
        return [""] * workers
    return [",".join(names) if ":" in device else names[worker % len(names)] for worker in range(workers)]


def launch(
    item: str,
    profile: str = "demo",
    rows: str | Iterable[str] = "",
    seeds: str | Iterable[int] = "",
    epochs: int = 0,
    overrides: str = "",
    on: str = "local",
    parallel: int = 1,
    threads: int = 0,
    device: str = "auto",
    data_dir: str = "",
    runs_dir: str = "",
    results_dir: str = "",
    minutes: int = 24 * 60,
    wait: bool = True,
    gpus_per_run: int = 0,
    nodes: int = 1,
    **cluster: Any,
) -> list[Outcome]:
    """Train every run of an item; returns what became of each (``wait=False``: nothing, at once).

    Arguments:
        rows, seeds, epochs, overrides: see :func:`resteutils.recipes.item_recipes`.
        on: "local" (``parallel`` processes here, the GPUs shared out among them in turn) or "slurm" (one job per run,
            at most ``parallel`` at a time).
        threads: of torch in each process; 0: ``OMP_NUM_THREADS``, else an equal share of this machine's cores, and
            torch's own choice in a Slurm job.
        minutes: time limit of a Slurm job; an unfinished run is queued again.
        gpus_per_run, nodes: of a Slurm job that trains one run together, a process for each GPU of each node; with
            ``device="cpu"`` that many processes without GPUs.
        cluster: passed on to submitit, e.g. ``slurm_partition="gpu", gpus_per_node=1, cpus_per_task=8``.

    Raises ``ValueError`` for unknown names and wrong numbers, ``RuntimeError`` where submitit is missing,
    ``Interrupted`` after SIGINT or SIGTERM, once the local workers have saved their runs and left; they also do so
    where this process is killed.
    """
    check(on, parallel, threads, minutes, cluster, gpus_per_run, nodes)
    recipes = item_recipes(item, profile, rows, seeds, epochs, overrides)
    recipes.sort(key=lambda recipe: recipe.seed)  # all rows of a seed, then the next: broken off, it is balanced
    options = {"device": device, "data_dir": data_dir, "runs_dir": runs_dir, "results_dir": results_dir}
    settings = {"name": f"reste-{item}"} | job_settings(device, gpus_per_run, nodes, minutes, cluster)
    leash = Leash() if on == "local" and wait else None
    with leash.held() if leash else contextlib.nullcontext():
        return _launched(recipes, options, on, parallel, threads, wait, settings, leash)


def logs_folder(runs_dir: str = "") -> Path:
    """Where submitit writes what it sends and what the jobs print."""
    return runs_folder(runs_dir) / "launch"


def _launched(recipes, options, on, parallel, threads, wait, settings, leash: Leash | None):
    """:func:`launch`, once everything is checked."""
    submitit, logs = require_submitit(), logs_folder(options["runs_dir"])
    if on == "local":
        executor = submitit.LocalExecutor(folder=logs)
        executor.update_parameters(timeout_min=FOREVER)
        shares = gpu_shares(options["device"], min(parallel, len(recipes)))
        threads = threads_each(threads, len(shares))
        work = [Worker(recipes, options, threads, gpus, str(leash.path) if leash else "") for gpus in shares]
        with _deaf_to_ctrl_c():
            jobs = [executor.submit(worker) for worker in work]
    else:
        work = [Worker([recipe], options, threads) for recipe in recipes]
        jobs = queue(work, logs, settings, parallel)
    print(f"{counted(len(recipes), 'run')} in {counted(len(jobs), 'job')}; logs in {logs}", flush=True)
    if not wait:
        return []
    said = [outcome for job, worker in zip(jobs, work, strict=True) for outcome in _ended(job, worker.recipes, leash)]
    if leash and leash.caught:
        raise Interrupted(
            "the launch stopped, its workers have saved their runs; the same command goes on", leash.caught
        )
    # Of what several workers say of one run the best counts: another one may have finished what the first could not.
    best = {outcome.recipe: outcome for outcome in sorted(said, key=lambda o: STATES.index(o.state), reverse=True)}
    return [best[recipe] for recipe in recipes]


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that are started in the block ignore SIGINT until they choose: submitit's controller would answer
    Ctrl-C with SIGKILL after a second, when its worker is still saving.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _ended(job: Any, recipes: list[Recipe], leash: Leash | None) -> list[Outcome]:
    """What a job, of several tasks the first, says of its runs; where it came to no end, its last words for each."""
    try:
        said = job.results()[0]
    except Exception as error:  # noqa: BLE001 - whatever it died of, the other jobs' outcomes are wanted too
        if not (leash and leash.caught):
            print(f"job {job.job_id}: {error}", file=sys.stderr, flush=True)
        said = [Outcome(recipe, "failed", f"job {job.job_id} ended: {_last_words(error)}") for recipe in recipes]
    return [replace(outcome, log=str(job.paths.stderr)) for outcome in said]


def _last_words(error: Exception) -> str:
    """The end of the traceback that submitit frames with dashes, else the first line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    frames = [number for number, line in enumerate(lines) if not line.strip("-")]
    return lines[frames[-1] - 1] if len(frames) > 1 else lines[0]


def told(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """A line for each reason why runs have no result, then the count of all."""
    outcomes = list(outcomes)
    alike: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.state != "finished":
            alike.setdefault((outcome.state, outcome.reason), []).append(outcome)
    for (state, reason), (first, *others) in alike.items():
        more = f" and {len(others)} more" if others else ""
        yield f"{first.recipe.name}, seed {first.recipe.seed}{more} {state}: {reason}; log: {first.log}"
    count = [sum(outcome.state == state for outcome in outcomes) for state in STATES]
    yield f"{count[0]} of {len(outcomes)} finished, {count[1]} diverged, {count[2]} failed"


def counted(number: int, thing: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
