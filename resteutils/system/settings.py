"""Where things live on disk, and what is set by name.

Every folder is a setting: an argument wins, then the environment (``DATA_DIR``, ``RUNS_DIR``, ``RESULTS_DIR``), then a
folder of the project. What is set by name on a command line, ``NAME=VALUE``, is parsed here too. Nothing is read or
created when this module is imported.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from resteutils.system.files import nearest

__all__ = [
    "Places",
    "cache_dir",
    "data_dir",
    "expanded",
    "project_root",
    "refuse_unknown",
    "results_dir",
    "runs_dir",
    "setting",
    "settings",
    "user_cache",
]


def project_root() -> Path:
    """The checkout: the nearest folder above the working directory, or above this package, that holds
    ``pyproject.toml`` and ``notebooks/``. Without one (an installed wheel), the working directory.
    """
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir():
                return folder
    return Path.cwd()


def _folder(value: str | os.PathLike, variable: str, default: str) -> Path:
    chosen = os.fspath(value) or os.environ.get(variable, "")
    return expanded(chosen, variable) if chosen else project_root() / default


def expanded(folder: str, variable: str) -> Path:
    """The folder, absolute, ``~`` being the home of its user. Raises ``ValueError``, naming the ``variable`` that sets
    it, where nobody knows that home.
    """
    try:
        return Path(folder).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{variable}: the home in {folder!r} is not known here; write the folder out") from error


def data_dir(value: str | os.PathLike = "") -> Path:
    """The folder of the datasets: ``value``, else ``$DATA_DIR``, else ``data/`` in the project."""
    return _folder(value, "DATA_DIR", "data")


def runs_dir(value: str | os.PathLike = "") -> Path:
    """The folder of the training runs: ``value``, else ``$RUNS_DIR``, else ``runs/`` in the project."""
    return _folder(value, "RUNS_DIR", "runs")


def results_dir(value: str | os.PathLike = "") -> Path:
    """The folder of tables, pictures and records: ``value``, else ``$RESULTS_DIR``, else ``results/`` in the
    project."""
    return _folder(value, "RESULTS_DIR", "results")


@dataclass(frozen=True)
class Places:
    """The three folders of a reproduction, resolved: datasets, training runs, results."""

    data: Path
    runs: Path
    results: Path

    @classmethod
    def of(
        cls, data_dir: str | os.PathLike = "", runs_dir: str | os.PathLike = "", results_dir: str | os.PathLike = ""
    ) -> Places:
        """Resolve each folder: the argument, else its environment variable, else the project's folder."""
        folders = (
            (data_dir, "DATA_DIR", "data"),
            (runs_dir, "RUNS_DIR", "runs"),
            (results_dir, "RESULTS_DIR", "results"),
        )
        return cls(*(_folder(*each) for each in folders))


def user_cache() -> Path:
    """The user's folder for what can be made again, of all projects: ``$XDG_CACHE_HOME/resteutils``, else
    ``~/.cache/resteutils``; it may be missing, or closed to writing.
    """
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")).absolute() / "resteutils"


def cache_dir() -> Path:
    """:func:`user_cache` where it can be written, else a folder of this user's below the temporary ones, which is said
    once a process. Raises ``OSError``, naming ``XDG_CACHE_HOME``, where there is neither.
    """
    chosen = user_cache()
    return chosen if _roomy(chosen) else _temporary_cache(chosen)


def _roomy(folder: Path) -> bool:
    """Whether the folder, or the nearest above it that is there, takes new files."""
    existing = nearest(folder)
    known = not any(part.startswith("~") for part in folder.parts)  # without a home "~" stays as it is
    takes = known and existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return takes and shutil.disk_usage(existing).free > 1_000_000


@functools.cache
def _temporary_cache(instead_of: Path) -> Path:
    try:
        folder = Path(tempfile.gettempdir()) / f"resteutils-{os.getuid() if hasattr(os, 'getuid') else 0}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():  # another user's: one for this process
            folder = Path(tempfile.mkdtemp(prefix="resteutils-"))
    except OSError as error:
        raise OSError(
            error.errno, f"no cache in {instead_of} nor in a temporary folder ({error}); set XDG_CACHE_HOME elsewhere"
        ) from error
    said = f"{instead_of} cannot be written: the cache is {folder}, which may not last; XDG_CACHE_HOME names another"
    print(said, file=sys.stderr, flush=True)
    return folder


def setting(text: str) -> tuple[str, object]:
    """``lr=0.05`` as ``("lr", 0.05)``: a value that reads as JSON is taken as that, any other as text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"{text!r}, expected NAME=VALUE such as lr=0.05")
    try:
        return name.strip().replace("-", "_"), json.loads(value)
    except json.JSONDecodeError:
        return name.strip().replace("-", "_"), value.strip()


def settings(text: str) -> dict[str, object]:
    """``accumulate=2, scale_order=before`` by name; a comma parts two where NAME= follows it.

    >>> settings("accumulate=2, estimator=reste(o=5,t=1)")
    {'accumulate': 2, 'estimator': 'reste(o=5,t=1)'}
    """
    commas = r",(?=\s*[A-Za-z_][\w-]*\s*=)(?![^()]*\))"  # none of those within an estimator's parentheses
    return dict(setting(part) for part in re.split(commas, text) if part.strip())


def refuse_unknown(given: Iterable[str], known: Sequence[str]) -> None:
    """Raise ``ValueError`` where a parameter is not among ``known``, naming the nearest of them."""
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, 1)
            meant = f": did you mean {near[0]}?" if near else ""
            raise ValueError(f"unknown parameter {name!r}{meant}; known: {', '.join(known)}")
