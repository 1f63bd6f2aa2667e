"""The Python side of fakecuda.c: build it, start a process under it, and read what was counted there.

In a process under it (``LD_PRELOAD``), :func:`watched` returns what happened in a block: copies and waits by the
line of the project that caused them, kernels by name.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def build(folder: Path) -> Path:
    """Compile the library; a second or so. Needs gcc and the headers that triton brings."""
    include = Path(importlib.util.find_spec("triton").origin).parent / "backends" / "nvidia" / "include"
    library = Path(folder) / "libcuda.so.1"
    library.parent.mkdir(parents=True, exist_ok=True)
    if not library.exists() or library.stat().st_mtime < (HERE / "fakecuda.c").stat().st_mtime:
        subprocess.run(
            ["gcc", "-std=gnu17", "-shared", "-fPIC", "-O1", "-w", "-Wl,-soname,libcuda.so.1", f"-I{include}",
             str(HERE / "fakecuda.c"), "-o", str(library), "-ldl", "-lpthread"], check=True)  # fmt: skip
    return library


def loaded() -> bool:
    """Whether this process runs on it."""
    return "libcuda" in os.environ.get("LD_PRELOAD", "")


def environment(library: Path, devices: int = 1) -> dict[str, str]:
    """The variables of a process on ``devices`` GPUs that compute nothing; the checkout's modules are importable."""
    root = str(HERE.parents[2])
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "LD_PRELOAD": str(library),
        "TRITON_LIBCUDA_PATH": str(library.parent),
        "FAKECUDA_DEVICES": str(devices),
        "WANDB_MODE": "disabled",
    }


def run(script: list[str], devices: int = 1, **options) -> subprocess.CompletedProcess:
    """Run Python with these arguments on it."""
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run([sys.executable, *script], env=environment(build(Path(folder)), devices), **options)


# --- inside such a process -------------------------------------------------------------------------------------------

_HOOK = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_long)
_lib = None


def lib():
    global _lib
    if _lib is None:
        _lib = ctypes.CDLL("libcuda.so.1")
        _lib.fc_report.restype = ctypes.c_long
    return _lib


def counted() -> dict[str, tuple[int, int]]:
    size = lib().fc_report(None, ctypes.c_long(0)) + 65536
    room = ctypes.create_string_buffer(size)
    lib().fc_report(room, ctypes.c_long(size))
    found = {}
    for line in room.value.decode(errors="replace").splitlines():
        number, size, name = line.split("\t", 2)
        found[name] = (int(number), int(size))
    return found


def _who() -> str:
    """The innermost frame of the project, and what it called."""
    frame, inner = sys._getframe(), ""
    while frame is not None:
        name = frame.f_code.co_filename
        if "/resteutils/" in name:
            return f"{name.split('/resteutils/')[1]}:{frame.f_lineno}"
        if not inner and "/fakecuda/" not in name:
            inner = f"{'/'.join(name.split('/')[-3:])}:{frame.f_lineno}"
        frame = frame.f_back
    return inner or "autograd"


class Watched:
    def __init__(self):
        self.blame, self.sizes, self.counts = collections.Counter(), collections.Counter(), {}

    @property
    def kernels(self) -> int:
        return sum(n for name, (n, _) in self.counts.items() if name.startswith(("KERNEL", "memset")))

    @property
    def graphs(self) -> tuple[int, int]:
        return self.counts.get("GRAPH LAUNCH", (0, 0))

    def total(self, *words: str) -> int:
        return sum(n for name, (n, _) in self.counts.items() if all(word in name for word in words))


@contextlib.contextmanager
def watched(blame: bool = True):
    found = Watched()

    def note(what, size):
        key = (what.decode(), _who())
        found.blame[key] += 1
        found.sizes[key] += size

    callback = _HOOK(note)
    lib().fc_reset()
    if blame:
        lib().fc_hook(callback)
    try:
        yield found
    finally:
        lib().fc_hook(_HOOK())
        found.counts = counted()
