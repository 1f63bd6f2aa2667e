"""What compiling a network costs, in a process of its own, and after how many images it has paid for itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.networks import CASES, VARIANTS, Case, training_step
from benchmarks.ratios import Row, steady
from resteutils.onebit.timing import interleaved

__all__ = ["rows"]

TURNS = 7


def rows(full: bool) -> Iterator[Row]:
    case = CASES[0]
    yield _row(case, "warm cache", os.environ.get("TORCHINDUCTOR_CACHE_DIR", ""))
    if full:
        with tempfile.TemporaryDirectory() as empty:
            yield _row(case, "empty cache", empty)


def _row(case: Case, label: str, cache: str) -> Row:
    """``cache`` is filled by this process or another first where it is to be warm."""
    environment = dict(os.environ, **({"TORCHINDUCTOR_CACHE_DIR": cache} if cache else {}))
    code = "from benchmarks.compiling import in_a_fresh_process; in_a_fresh_process()"
    runs = 2 if label == "warm cache" else 1  # the first one warms it
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=900
        )
    first, eager, compiled = json.loads(done.stdout.splitlines()[-1])
    gain = (eager - compiled) / case.batch
    when = f"repaid after {first / gain:,.0f} images" if gain > 0 else "never repaid: the compiled step is no faster"
    return steady(
        "compiling", f"{case}, {label}", "first compiled step", "an eager step", (first, eager), "s",
        note=f"{when} ({case.batch / eager:.0f} images/s eager, {case.batch / compiled:.0f} compiled)",
    )  # fmt: skip


def in_a_fresh_process() -> None:
    """Print seconds of the first compiled step, beyond a later one, and of later steps, eager and compiled."""
    import time

    case = CASES[0]
    eager, compiled = (training_step(case, VARIANTS[name]) for name in ("ours, eager", "ours, compiled"))
    start = time.perf_counter()
    compiled()
    first = time.perf_counter() - start
    samples = interleaved({"eager": eager, "compiled": compiled}, TURNS)
    print(json.dumps([first - samples["compiled"].median, samples["eager"].median, samples["compiled"].median]))
