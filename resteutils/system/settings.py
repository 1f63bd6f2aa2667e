"""Where things live on disk, and what is set by name.

Every folder is a setting: an argument wins, then the environment (``DATA_DIR``, ``RUNS_DIR``, ``RESULTS_DIR``), then a
folder of the project. What is set by name on a command line, ``NAME=VALUE``, is parsed here too. Nothing is read or
created when this module is imported.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Places", "cache_dir", "data_dir", "project_root", "results_dir", "runs_dir", "setting", "settings"]


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


def cache_dir() -> Path:
    """The user's folder for what can be made again, of all projects: ``$XDG_CACHE_HOME/resteutils``, else
    ``~/.cache/resteutils``.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "resteutils"


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
