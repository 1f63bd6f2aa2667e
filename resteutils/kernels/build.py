"""Compiles the C++ sources on first use and keeps the library in a cache.

Nothing here runs at import. The cache is ``$TORCH_EXTENSIONS_DIR``, else ``~/.cache/resteutils``; the file's name holds
the torch version, the sources' hash and the machine type, so a stale library is never loaded. Beside it lies its
SHA-256: a library that was damaged is compiled again, and one that another user may write is not loaded.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path

import torch

from resteutils.system.files import write_atomic
from resteutils.system.locks import holder, locked
from resteutils.system.settings import cache_dir, expanded, user_cache

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
    sources = b"".join(path.read_bytes() for path in _sources(".cpp") + _sources(".h"))
    text = f"{torch.__version__} {platform.system()} {platform.machine()} {' '.join(_FLAGS)}".encode()
    key = hashlib.sha256(text + sources).hexdigest()[:12]
    name = f"resteutils_kernels-torch{torch.__version__.split('+')[0]}-{key}.so"
    if chosen := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return expanded(chosen, "TORCH_EXTENSIONS_DIR") / name
    compiled = user_cache() / name  # a cache that cannot be written may hold it all the same
    return compiled if os.path.isfile(compiled) else cache_dir() / name


def _sources(suffix: str) -> list[Path]:
    return sorted(_HERE.glob(f"*{suffix}"))


@functools.cache
def load() -> str:
    """Load the library, compiling it first if need be; "" on success, else the reason why not."""
    if os.environ.get(_SETTING, "").lower() == "off":
        return f"the compiled kernels are switched off ({_SETTING}=off)"
    path = library_path()

    def wait() -> None:
        by = holder(path.with_suffix(".lock"))
        print(f"Another process is compiling the 1-bit kernels ({by}); waiting for it.", file=sys.stderr, flush=True)

    try:
        if not (_whole(path) and _loaded(path)):
            with locked(path.with_suffix(".lock"), wait):
                if not (_whole(path) and _loaded(path)):  # another process may just have compiled it
                    _compile(path)
    except CannotBuild as error:
        return str(error)
    except OSError as error:
        return f"the compiled kernels cannot be kept in {path.parent} ({error}); set TORCH_EXTENSIONS_DIR elsewhere"
    from resteutils.kernels import fakes

    fakes.register()
    return ""


def _loaded(path: Path) -> bool:
    """Load the library; False where it was compiled for another system, which shares the cache."""
    try:
        torch.ops.load_library(path)
    except OSError as error:
        print(f"{path} cannot be loaded here and is compiled again ({error})", file=sys.stderr, flush=True)
        return False
    return True


def _whole(path: Path) -> bool:
    """Whether the library is there and is what was compiled. Raises ``CannotBuild`` where another user may change it:
    what is loaded runs with the rights of this one.
    """
    try:
        content, known = path.read_bytes(), _digest(path).read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return False
    for each in (path, path.parent):
        _check_owner(each)
    return hashlib.sha256(content).hexdigest() == known


def _check_owner(path: Path) -> None:
    if not hasattr(os, "getuid"):  # Windows
        return
    found = path.stat()
    shared = found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid != found.st_uid)
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:  # as /tmp: nobody may replace another's file
        shared = False
    foreign = found.st_uid not in (os.getuid(), 0)
    if shared or foreign:
        who = f"user {found.st_uid} owns it" if foreign else "others may write it"
        reason = (
            f"{path} is not used for the compiled kernels: {who}, and its code would run as you. Set "
            "TORCH_EXTENSIONS_DIR to a folder of your own, or `chmod go-w` it; everything else works without them"
        )
        print(reason, file=sys.stderr, flush=True)
        raise CannotBuild(reason)


def _digest(path: Path) -> Path:
    """Where the library's SHA-256 stands."""
    return path.with_suffix(".sha256")


@functools.cache
def was_built() -> bool:
    """Whether the library was there and whole when this process first asked."""
    try:
        return _whole(library_path())
    except (CannotBuild, OSError):
        return False


def tried() -> bool:
    """Whether this process has called :func:`load`."""
    return load.cache_info().currsize > 0


def _compile(path: Path) -> None:
    """Compile and load it in a folder of our own, then move it into place: processes cannot disturb each other."""
    _check_tools()
    print("Compiling the 1-bit kernels (once, about half a minute) ...", end=" ", file=sys.stderr, flush=True)
    start = time.perf_counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = f"building-{path.stem}-"
    for left in path.parent.glob(f"{mark}*"):  # by a process that was killed: the lock says that none builds now
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=mark) as folder:
        try:
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a missing GPU
            from torch.utils import cpp_extension

            cpp_extension.load(
                name="resteutils_kernels",
                sources=_units(Path(folder)),
                extra_cflags=list(_FLAGS),
                build_directory=folder,
                is_python_module=False,
            )
            content = (Path(folder) / "resteutils_kernels.so").read_bytes()
        except (RuntimeError, ImportError, OSError) as error:
            print("failed.", file=sys.stderr)
            raise CannotBuild(
                "compiling or loading the kernels failed; everything else works without them. Check the compiler "
                f"(Debian and Ubuntu: apt-get install g++ libgomp1), the room in {path.parent} and that it is not "
                f"mounted noexec; TORCH_EXTENSIONS_DIR names another folder.\n{error}"
            ) from error
        try:
            write_atomic(_digest(path), hashlib.sha256(content).hexdigest() + "\n")
            write_atomic(path, content)
        except OSError as error:  # this process has them all the same
            print(f"done, and not kept: {error}; set TORCH_EXTENSIONS_DIR elsewhere", file=sys.stderr)
            return
    print(f"done in {time.perf_counter() - start:.0f} s: {path}", file=sys.stderr)


def _units(folder: Path) -> list[str]:
    """What the compiler is given: the sources that read torch's headers as one file written into ``folder``, because
    those headers take ten of the twelve seconds that each such source takes alone; the others as they are.
    """
    with_torch = [path for path in _sources(".cpp") if "<torch/" in path.read_text(encoding="utf-8")]
    together = folder / "with_torch.cpp"
    write_atomic(together, "".join(f'#include "{path.as_posix()}"\n' for path in with_torch))
    return [str(together), *(str(path) for path in _sources(".cpp") if path not in with_torch)]


def program_of(command: str) -> str:
    """The program of a command with arguments, as CXX may be: "ccache g++"; the whole where it names none."""
    try:
        return (shlex.split(command) or [command])[0]
    except ValueError:  # a quotation that does not end
        return command


def _check_tools() -> None:
    if sys.platform == "win32":
        raise CannotBuild(
            "the compiled kernels need Linux or macOS; on Windows use WSL. Everything else works without them."
        )
    beside = str(Path(sys.executable).parent)  # ninja from this environment, activated or not
    if beside not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.environ.get("PATH", "") + os.pathsep + beside
    compiler = os.environ.get("CXX") or "c++"
    missing = []
    if not shutil.which(program_of(compiler)):
        missing.append(
            f"a C++ compiler ({compiler!r} not found; Debian and Ubuntu: apt-get install g++; conda: cxx-compiler)"
        )
    if not shutil.which("ninja"):
        missing.append("ninja (pip install ninja)")
    if missing:
        raise CannotBuild(f"the compiled kernels need {' and '.join(missing)}. Everything else works without them.")
