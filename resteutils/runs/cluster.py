"""A run as a Slurm job: torchrun's environment from Slurm's, and what a preemption or a time limit asks of it.

Slurm announces a time limit by the signal that submitit chose (SIGUSR2), and a preemption or a requeue by SIGTERM. In
both cases the training saves its state first. The job then leaves without a result: submitit queues it again after a
time limit, Slurm itself after a preemption, and the next life goes on from the checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from resteutils.training.stopping import Interrupted, StopSignals, handling, stop_signals

__all__ = ["in_slurm", "join_tasks", "stopping"]


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
