"""Where things live on disk, and how a file is written without ever being half-written.

Every folder is a setting: an argument wins, then the environment (``DATA_DIR``, ``RUNS_DIR``, ``RESULTS_DIR``), then a
folder of the project. What is set by name on a command line, ``NAME=VALUE``, is parsed here too. Nothing is read or
created when this module is imported.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import tempfile
from pathlib import Path

__all__ = ["data_dir", "project_root", "results_dir", "runs_dir", "setting", "settings", "writable", "write_atomic"]


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
    return Path(chosen).expanduser().absolute() if chosen else project_root() / default


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


def write_atomic(path: str | os.PathLike, content: str | bytes) -> Path:
    """Write ``content`` beside ``path``, flush it to the disk and rename it over ``path``.

    A reader sees the old file or the new one, never a part of it; a process killed at any moment leaves at most a stray
    ``.tmp`` file. Raises ``OSError``, naming the file, when the disk is full or read-only; the old file is intact.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        _write(path, data)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror or error}: {path} could not be written, what stood there before is intact; make room, or "
            "choose another place (RUNS_DIR, RESULTS_DIR, --out)",
        ) from error
    return path


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def writable(folder: Path, variable: str) -> Path:
    """The folder, made if need be. Raises ``OSError`` where it cannot be made or written, naming the setting that
    chooses another.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: {folder} cannot be made; set {variable} elsewhere") from error
    if not os.access(folder, os.W_OK):
        raise OSError(errno.EACCES, f"{folder} cannot be written; set {variable} elsewhere")
    return folder


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Windows cannot open a folder; there the rename itself is all that can be had."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
