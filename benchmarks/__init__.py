"""`make bench`: what a step, an epoch and a batch cost, always as a ratio measured side by side on this machine.

    python -m benchmarks                    the ratios of docs/speed.md, about half an hour
    python -m benchmarks --full             everything
    python -m benchmarks --rows step,data   some groups only

Each group is a module with ``rows(full) -> Iterator[Row]``. Results go to results/bench/.
"""

from __future__ import annotations

import importlib
import os
import time
import traceback

__all__ = ["GROUPS", "main", "measure"]

# In the order of the report; each names a module of this package.
GROUPS = (
    "estimator",
    "step",
    "gradients",
    "compiling",
    "epoch",
    "data",
    "evaluation",
    "memory",
    "startup",
    "scaling",
    "peers",
    "onebit",
    "int8",
    "gpu.roofline",
)


FAILED = "stopped by"


def measure(groups: list[str], full: bool) -> tuple[list, dict[str, str]]:
    """The rows of these groups, and the groups that could not be measured with the reason why.

    A group that fails says so with its traceback and leaves the rows of the others whole.
    """
    import torch

    rows, skipped = [], {}
    for group in groups:
        begun, before = time.monotonic(), len(rows)
        torch.compiler.reset()  # of one forward() torch keeps eight graphs in a process: the ninth runs uncompiled
        try:
            module = importlib.import_module(f"benchmarks.{group}")
        except ModuleNotFoundError as error:
            skipped[group] = f"{error.name} is not installed"
        else:
            try:
                for row in module.rows(full):
                    print(f"  {row}", flush=True)
                    rows.append(row)
            except Exception as error:  # minutes of measuring are behind it, whatever went wrong in this one
                traceback.print_exc()
                skipped[group] = f"{FAILED} {type(error).__name__}: {error}"
            if len(rows) == before and group not in skipped:
                skipped[group] = getattr(module, "WHY_EMPTY", "nothing to measure here")
        note = f", skipped: {skipped[group]}" if group in skipped else ""
        print(f"{group}: {time.monotonic() - begun:.0f} s{note}", flush=True)
    return rows, skipped


def _settle() -> None:
    """Settings for the whole run: numbers too small to matter are zero, and compiled code is kept between runs."""
    import torch

    from resteutils.system.settings import runs_dir

    torch.set_flush_denormal(True)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(runs_dir() / "inductor-bench"))


def main(full: bool = False, rows: str = "", out: str = "") -> None:
    """Measure the groups named in ``rows`` (comma-separated; all when empty) and write them to ``out``, by default
    results/bench. Raises ``ValueError`` for an unknown group, ``SystemExit`` at the end where one failed."""
    from benchmarks.report import write
    from resteutils.system.settings import results_dir

    groups = [name.strip() for name in rows.split(",") if name.strip()] or list(GROUPS)
    for name in groups:
        if name not in GROUPS:
            raise ValueError(f"no rows {name!r}; the groups are: {', '.join(GROUPS)}")
    begun = time.monotonic()
    _settle()
    found, skipped = measure(groups, full)
    folder = write(found, skipped, out or results_dir() / "bench", full=full, seconds=time.monotonic() - begun)
    print(f"{len(found)} rows in {time.monotonic() - begun:.0f} s: {folder}")
    if failed := [group for group, why in skipped.items() if why.startswith(FAILED)]:
        raise SystemExit(f"{', '.join(failed)} failed, see above; the other rows are written")
