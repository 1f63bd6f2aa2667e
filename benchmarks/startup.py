"""How long until something can be done: imports, the command line, a notebook's first line, each in a new process."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from benchmarks.ratios import Row, row, steady
from resteutils.onebit.timing import interleaved

__all__ = ["rows"]

TORCH = "import torch"


def rows(full: bool) -> Iterator[Row]:
    variants = {
        TORCH: _python("-c", "import torch"),
        "import resteutils": _python("-c", "import resteutils"),
        "resteutils --help": _python("-m", "resteutils", "--help"),
        "resteutils list": _python("-m", "resteutils", "list"),
    }
    samples = interleaved(variants, repeats=15 if full else 7, warmup=1, budget=90)
    for name in list(variants)[1:]:
        target = 1.3 if name == "import resteutils" else None
        yield row("startup", "a fresh interpreter", samples, name, TORCH, target=target, unit="s", scale=1)
    seconds = (first_line(), samples[TORCH].median)
    case = "resteutils reproduce table1, profile demo, kernels compiled before"
    yield steady("startup", case, "first line", TORCH, seconds, "s")
    processor = (compiling_kernels(), processor_seconds("import torch"))
    yield steady("startup", "processor time, kernels not in the cache", "compiling the kernels", TORCH, processor, "s")


def first_line() -> float:
    """Seconds from the command to the first line about an epoch or a run, a notebook's start and the data included."""
    with tempfile.TemporaryDirectory() as folder:
        folders = ["--runs-dir", f"{folder}/runs", "--results-dir", f"{folder}/results"]
        command = [sys.executable, "-m", "resteutils", "reproduce", "table1", "--profile", "demo", "--seeds", "0"]
        begun = time.monotonic()
        with subprocess.Popen([*command, *folders], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
            for line in run.stdout:
                if ": epoch " in line or line.startswith("[1/"):
                    run.terminate()
                    return time.monotonic() - begun
    raise RuntimeError(f"python {' '.join(command[1:])} ended without a line about an epoch or a run")


def compiling_kernels() -> float:
    """Processor seconds until the 1-bit kernels can be called where no cache holds them."""
    with tempfile.TemporaryDirectory() as folder:
        return processor_seconds("from resteutils.kernels import build; assert not build.load()", folder)


def processor_seconds(program: str, extensions: str | None = None) -> float:
    """Those of a new Python that runs ``program``, its compiler's included."""
    environment = os.environ | ({"TORCH_EXTENSIONS_DIR": extensions} if extensions else {})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _python(*arguments: str) -> Callable[[], None]:
    def run() -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return run
