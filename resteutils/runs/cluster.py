"""A run as a Slurm job: how it is queued, torchrun's environment from Slurm's, and what a preemption or a time limit
asks of it.

Slurm announces a time limit by the signal that submitit chose (SIGUSR2), and a preemption or a requeue by SIGTERM. In
both cases the training saves its state first. The job then leaves without a result: submitit queues it again after a
time limit, Slurm itself after a preemption, and the next life goes on from the checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from resteutils.training.stopping import Interrupted, StopSignals, handling, stop_signals

__all__ = ["FOREVER", "follow", "in_slurm", "job_settings", "join_tasks", "queue", "require_submitit", "stopping"]

FOREVER = 1_000_000  # minutes for a local worker, times that an unfinished run may be queued again (submitit's own: 3)
GPUS = ("gpus_per_node", "num_gpus")  # settings that count a job's


def require_submitit() -> Any:
    """Return the module ``submitit``. Raises ``RuntimeError``, saying what to install, where it is missing."""
    try:
        import submitit
    except ImportError as error:
        raise RuntimeError(
            "several runs at a time, and Slurm, need submitit: pip install 'resteutils[cluster]' "
            "(in a checkout: pip install -e '.[cluster]')"
        ) from error
    return submitit


def job_settings(device: str, gpus_per_run: int, nodes: int, minutes: int, cluster: dict[str, Any]) -> dict[str, Any]:
    """What submitit is told of a job that trains one run; ``cluster`` is the user's part, and wins."""
    together: dict[str, Any] = {}
    if gpus_per_run or nodes > 1:
        tasks = max(gpus_per_run, 1)
        together = {"tasks_per_node": tasks, "nodes": nodes} | ({} if device == "cpu" else {"gpus_per_node": tasks})
    return {"timeout_min": minutes, **together, **cluster}


def queue(work: Sequence[Callable[[], Any]], logs: Path, settings: dict[str, Any], parallel: int) -> list[Any]:
    """Submit a job array, of which at most ``parallel`` jobs run at the same time; return the jobs."""
    if not work:  # submitit would warn of an array without jobs
        return []
    executor = _executor(logs, settings | {"slurm_array_parallelism": parallel})
    with executor.batch():
        return [executor.submit(each) for each in work]


def follow(then: Callable[[], Any], jobs: Sequence[Any], logs: Path, settings: dict[str, Any]) -> Any:
    """Queue ``then`` behind the jobs, however they end: what is missing, it trains or names itself. It is one task
    with at most one GPU; the jobs' other ``settings`` hold for it, too. Returns its job.
    """
    one = {"nodes": 1, "tasks_per_node": 1}
    one |= {name: min(1, count) for name, count in settings.items() if name.removeprefix("slurm_") in GPUS}
    others = dict(settings.get("slurm_additional_parameters", {}))
    if jobs:
        others["dependency"] = ":".join(["afterany", *(job.job_id for job in jobs)])
    return _executor(logs, settings | one | {"slurm_additional_parameters": others}).submit(then)


def _executor(logs: Path, settings: dict[str, Any]) -> Any:
    """An executor of submitit's; what it was told once stays with it, so that each kind of job has one of its own."""
    executor = require_submitit().AutoExecutor(folder=logs, cluster="slurm", slurm_max_num_timeout=FOREVER)
    executor.update_parameters(**settings)
    return executor


def in_slurm() -> bool:
    """Whether this process is a task of a Slurm job of submitit's."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def join_tasks() -> None:
    """Set torchrun's variables from Slurm's where the job has several tasks, which train one run together."""
    from submitit.helpers import TorchDistributedEnvironment

    if in_slurm() and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)


def _time_limit() -> int:
    """The signal by which submitit has Slurm announce a time limit."""
    from submitit import JobEnvironment

    return int(JobEnvironment._usr_sig())


@contextlib.contextmanager
def stopping() -> Iterator[StopSignals]:
    """Note SIGINT and SIGTERM for the length of the block, under Slurm the signal of a time limit too; there
    ``Interrupted``, by when everything is saved, ends the job so that it is queued again.
    """
    if not in_slurm() or threading.current_thread() is not threading.main_thread():
        with stop_signals() as signals:
            yield signals
        return
    number = _time_limit()
    queue_again: Any = signal.getsignal(number)  # submitit's own handler
    signals = StopSignals()
    try:
        with handling(signals.note, (signal.SIGINT, signal.SIGTERM, number)):
            yield signals
    except Interrupted as stopped:
        caught = signals.caught or stopped.signum  # while it trains, the loop hears SIGTERM itself
        if caught == number and callable(queue_again):
            queue_again(number, None)  # the first task leaves by SystemExit, the others come back
        # No result is written, so that the job counts as unfinished. Status 0 keeps srun from ending the first task.
        others = os.environ.get("SLURM_PROCID", "0") != "0"
        raise SystemExit(0 if others else 128 + caught) from stopped
