"""The processor cores that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["usable_cores"]


def usable_cores(system: Path = Path("/")) -> int:
    """Count the cores of this process's affinity, which a Slurm job, a container or ``taskset`` may have narrowed; no
    more, rounded up, than the CPU time that a container may use (``docker run --cpus``). Where the system has no
    affinities, count those of the machine. ``system`` is the folder that holds ``proc`` and ``sys``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min([cores, *_quotas(system)]))


def _quotas(system: Path) -> Iterator[float]:
    """The limits on CPU time, in cores, of this process's control group and of those above it, cgroup v2 and v1."""
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return
    mounted = system / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = mounted / "cpu" if controllers else mounted
        own = base / path.lstrip("/")
        for folder in (own, *own.parents):
            if (quota := _quota(folder)) is not None:
                yield quota
            if folder == base:
                break


def _quota(folder: Path) -> float | None:
    """The limit that a control group has by itself; None where it has none."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
            )
    except OSError:  # not there, or closed to this user
        return None
    limited = quota != "max" and int(quota) > 0
    return int(quota) / int(period) if limited else None
