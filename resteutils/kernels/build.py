"""Compiles the C++ sources on first use and keeps the library in a cache.

Nothing here runs at import. The cache is ``$TORCH_EXTENSIONS_DIR``, else ``~/.cache/resteutils``; the file's name holds
the torch version, the sources' hash and the machine type, so a stale library is never loaded.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

from resteutils.system.locks import locked
from resteutils.system.settings import cache_dir

_HERE = Path(__file__).parent
# Instruction sets are chosen per function, at run time: the library runs anywhere. Products and sums are fused only
# where the source says so, so that every path gives the same integers and thresholds (reste_backward, whose paths
# compute the power differently, agrees to 1e-6).
# Apple's compiler has no OpenMP: there the kernels run on one thread.
_FLAGS = ("-O3", "-ffp-contract=off", "-w", *(() if sys.platform == "darwin" else ("-fopenmp",)))
_SETTING = "RESTEUTILS_KERNEL"


class CannotBuild(RuntimeError):
    """Why the compiled kernels cannot be had, and what to install."""


@functools.cache
def library_path() -> Path:
    """Where the compiled library is, or would be."""
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or cache_dir()
    sources = b"".join(path.read_bytes() for path in _sources(".cpp") + _sources(".h"))
    text = f"{torch.__version__} {platform.system()} {platform.machine()} {' '.join(_FLAGS)}".encode()
    key = hashlib.sha256(text + sources).hexdigest()[:12]
    return Path(root).expanduser() / f"resteutils_kernels-torch{torch.__version__.split('+')[0]}-{key}.so"


def _sources(suffix: str) -> list[Path]:
    return sorted(_HERE.glob(f"*{suffix}"))


@functools.cache
def load() -> str:
    """Load the library, compiling it first if need be; "" on success, else the reason why not."""
    if os.environ.get(_SETTING, "").lower() == "off":
        return f"the compiled kernels are switched off ({_SETTING}=off)"
    path = library_path()

    def wait() -> None:
        print("Another process is compiling the 1-bit kernels; waiting for it.", file=sys.stderr, flush=True)

    try:
        with contextlib.nullcontext() if path.is_file() else locked(path.with_suffix(".lock"), wait):
            if path.is_file():  # by now: another process may just have compiled it
                torch.ops.load_library(path)
            else:
                _compile(path)
    except (CannotBuild, OSError) as error:
        return str(error)
    from resteutils.kernels import fakes

    fakes.register()
    return ""


@functools.cache
def was_built() -> bool:
    """Whether the library was there when this process first asked."""
    return library_path().is_file()


def tried() -> bool:
    """Whether this process has called :func:`load`."""
    return load.cache_info().currsize > 0


def _compile(path: Path) -> None:
    """Compile in a folder of our own and move the library into place, so that processes cannot disturb each other."""
    _check_tools()
    print("Compiling the 1-bit kernels (once, about half a minute) ...", end=" ", file=sys.stderr, flush=True)
    start = time.perf_counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="building-") as folder:
        try:
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a missing GPU
            from torch.utils import cpp_extension

            cpp_extension.load(
                name="resteutils_kernels",
                sources=[str(source) for source in _sources(".cpp")],
                extra_cflags=list(_FLAGS),
                build_directory=folder,
                is_python_module=False,
            )
        except (RuntimeError, ImportError, OSError) as error:
            print("failed.", file=sys.stderr)
            raise CannotBuild(f"compiling the kernels failed; everything else works without them.\n{error}") from error
        os.replace(Path(folder) / "resteutils_kernels.so", path)
    print(f"done in {time.perf_counter() - start:.0f} s: {path}", file=sys.stderr)


def _check_tools() -> None:
    if sys.platform == "win32":
        raise CannotBuild(
            "the compiled kernels need Linux or macOS; on Windows use WSL. Everything else works without them."
        )
    beside = str(Path(sys.executable).parent)  # ninja from this environment, activated or not
    if beside not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.environ.get("PATH", "") + os.pathsep + beside
    compiler = os.environ.get("CXX", "c++")
    missing = []
    if not shutil.which(compiler):
        missing.append(
            f"a C++ compiler ({compiler!r} not found; Debian and Ubuntu: apt-get install g++; conda: cxx-compiler)"
        )
    if not shutil.which("ninja"):
        missing.append("ninja (pip install ninja)")
    if missing:
        raise CannotBuild(f"the compiled kernels need {' and '.join(missing)}. Everything else works without them.")
