"""How fast 1-bit arithmetic could be on one core of this machine: its instructions on registers, nothing else."""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

from resteutils import kernels

__all__ = ["macs_a_second"]

ROUNDS = 500_000
# Multiply-accumulates of a round: eight tables of 4 inputs for 32 outputs; or four times two words of 512.
MACS = {"lookups": 8 * 4 * 32, "popcounts": 4 * 2 * 512}


@functools.cache
def macs_a_second() -> float:
    """The best of several tries, one thread; NaN on machines other than x86."""
    path = kernels.paths()[0]
    if path not in ("avx2", "avx512"):
        return float("nan")
    name = "popcounts" if path == "avx512" else "lookups"
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "bound.so"
        source = Path(__file__).with_name("bound.cpp")
        compiler = shlex.split(os.environ.get("CXX") or "c++")  # CXX may be "ccache g++"
        command = [*compiler, "-O3", "-shared", "-fPIC", str(source), "-o", str(library)]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        function = getattr(ctypes.CDLL(str(library)), name)
    function.argtypes, function.restype = [ctypes.c_int64], ctypes.c_int64
    seconds = []
    for _ in range(50):
        begun = time.perf_counter()
        function(ROUNDS)
        seconds.append(time.perf_counter() - begun)
    return ROUNDS * MACS[name] / min(seconds)
