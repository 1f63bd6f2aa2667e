"""Many runs at once: local processes or a Slurm cluster, through submitit.

Whoever works takes the next run that nobody has finished or is training, so a launch can be killed, repeated or started
twice: finished runs count, broken ones go on.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from resteutils.recipes import Recipe, item_recipes
from resteutils.runs import Busy, load_or_train
from resteutils.settings import runs_dir as runs_folder
from resteutils.stopping import Interrupted, NonFinite

__all__ = ["Worker", "launch"]

FOREVER = 1_000_000  # minutes for a local worker, times that an unfinished run may be queued again (submitit's own: 3)


@dataclass
class Worker:
    """Trains recipes one after the other. A callable object, so that submitit can send it to another machine."""

    recipes: list[Recipe]
    options: dict[str, Any]
    threads: int = 0
    gpus: str = ""  # what CUDA_VISIBLE_DEVICES is to say; empty: what it says already

    def __call__(self) -> list[str]:
        """Returns the run ids that failed, each with its reason printed; one failure does not stop the others."""
        import torch

        if self.gpus:  # read when CUDA starts, at its first use
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus
        if self.threads:
            torch.set_num_threads(self.threads)
        failed, left = [], list(self.recipes)
        for wait in (False, True):  # first what is free, then wait for what another worker had in hand
            busy = []
            for recipe in left:
                try:
                    run = load_or_train(recipe, **self.options, wait=wait)
                    print(f"{recipe.name}, seed {recipe.seed}: top-1 {run.result['top1']:.2f} %", flush=True)
                except Busy:
                    busy.append(recipe)
                except NonFinite as error:  # recorded: an outcome, not a failure of the launch
                    print(f"{recipe.name}, seed {recipe.seed}: DIVERGED, no result. {error}", flush=True)
                except Interrupted:
                    raise
                except Exception:  # noqa: BLE001 - one run's failure is reported and the campaign goes on
                    traceback.print_exc()
                    failed.append(recipe.run_id)
            left = busy
        sys.stdout.flush()
        return failed

    def checkpoint(self) -> Any:
        """Called by submitit before a time limit or a preemption: queue the same work again, to go on where it was."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def check(on: str, parallel: int, threads: int, minutes: int, cluster: dict[str, Any]) -> None:
    """Raise ``ValueError``, naming the value, for what :func:`launch` does not take."""
    if on not in ("local", "slurm"):
        raise ValueError(f"on = {on!r}, expected local or slurm")
    if cluster and on == "local":
        raise ValueError(f"{', '.join(cluster)}: settings of a cluster, expected on = slurm")
    for name, value, least in (("parallel", parallel, 1), ("threads", threads, 0), ("minutes", minutes, 1)):
        if value < least:
            raise ValueError(f"{name} = {value}, expected at least {least}")


def gpu_shares(device: str, workers: int) -> list[str]:
    """The GPUs of each local worker, as CUDA_VISIBLE_DEVICES names them: one each, in turn, or all where ``device`` is
    one by number. Empty where there are none. submitit by itself hides every GPU from its local processes.
    """
    import torch

    count = torch.cuda.device_count() if device.startswith(("auto", "cuda")) else 0
    said = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = said.split(",")[:count] if said else [str(number) for number in range(count)]
    if not names:
        return [""] * workers
    return [",".join(names) if ":" in device else names[worker % len(names)] for worker in range(workers)]


def launch(
    item: str,
    profile: str = "short",
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
    by_seed: bool = True,
    minutes: int = 24 * 60,
    wait: bool = True,
    **cluster: Any,
) -> list[str]:
    """Train every run of an item; returns the ids of the runs that failed (``wait=False``: none, at once).

    Arguments:
        rows, seeds, epochs, overrides: see :func:`resteutils.recipes.item_recipes`.
        on: "local" (``parallel`` processes here, the GPUs shared out among them in turn) or "slurm" (one job per run,
            at most ``parallel`` at a time).
        threads: of torch in each process; 0 leaves it to torch.
        by_seed: finish all rows of the first seed before the second, so that a broken-off launch is balanced.
        minutes: time limit of a Slurm job; an unfinished run is queued again.
        cluster: passed on to submitit, e.g. ``slurm_partition="gpu", gpus_per_node=1, cpus_per_task=8``.

    Raises ``ValueError`` for unknown names and wrong numbers, ``RuntimeError`` where submitit is missing.
    """
    check(on, parallel, threads, minutes, cluster)
    recipes = item_recipes(item, profile, rows, seeds, epochs, overrides)
    if by_seed:
        recipes.sort(key=lambda recipe: recipe.seed)
    options = {"device": device, "data_dir": data_dir, "runs_dir": runs_dir, "results_dir": results_dir}
    try:
        import submitit
    except ImportError as error:
        raise RuntimeError("launch needs submitit: pip install 'resteutils[cluster]'") from error
    logs = runs_folder(runs_dir) / "launch"
    if on == "local":
        executor = submitit.LocalExecutor(folder=logs)
        executor.update_parameters(timeout_min=FOREVER)
        workers = min(parallel, len(recipes))
        jobs = [executor.submit(Worker(recipes, options, threads, gpus)) for gpus in gpu_shares(device, workers)]
    else:
        executor = submitit.AutoExecutor(folder=logs, cluster="slurm", slurm_max_num_timeout=FOREVER)
        executor.update_parameters(
            timeout_min=minutes, slurm_array_parallelism=parallel, name=f"reste-{item}", **cluster
        )
        with executor.batch():  # one job array
            jobs = [executor.submit(Worker([recipe], options, threads)) for recipe in recipes]
    print(f"{len(recipes)} runs in {len(jobs)} job(s); logs in {logs}", flush=True)
    if not wait:
        return []
    return sorted({run_id for job in jobs for run_id in _failed(job)})


def _failed(job: Any) -> list[str]:
    """The runs that failed in a job; the job itself where it came to no end, its last words printed."""
    try:
        return job.result()
    except Exception as error:  # noqa: BLE001 - whatever it died of, the other jobs' outcomes are wanted too
        print(f"job {job.job_id}: {error}", file=sys.stderr, flush=True)
        return [f"job {job.job_id}"]
