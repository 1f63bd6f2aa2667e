"""The processor cores that this process may use."""

from __future__ import annotations

import os

__all__ = ["usable_cores"]


def usable_cores() -> int:
    """Count the cores of this process's affinity, which a Slurm job, a container or ``taskset`` may have narrowed.
    Where the system has no affinities, count those of the machine.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
