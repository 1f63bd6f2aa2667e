"""How long until something can be done: imports and the command line, each in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from benchmarks.ratios import Row, row
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


def _python(*arguments: str) -> Callable[[], None]:
    def run() -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return run
