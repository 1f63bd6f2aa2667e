"""Modules of the reader's own, which ``RESTEUTILS_IMPORT`` names: estimators and rows that every command, notebook and
worker is to know. And torch, where a command cannot import it.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from itertools import pairwise

__all__ = ["ExtensionError", "debugging", "import_torch", "load", "started_by_command"]


class ExtensionError(ImportError):
    """A module that ``RESTEUTILS_IMPORT`` names could not be imported; what it raised is the cause."""


def load() -> None:
    """Import them; those that are imported already stay as they are. Raises :class:`ExtensionError`, one line that
    names the module, the error and its place.
    """
    for module in os.environ.get("RESTEUTILS_IMPORT", "").replace(",", " ").split():
        try:
            importlib.import_module(module)
        except Exception as error:
            raise ExtensionError(f"RESTEUTILS_IMPORT={module}: {_reason(error, module)}", name=module) from error


def _reason(error: Exception, module: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == module:
        return "Python does not find it; put its folder on PYTHONPATH"
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, SyntaxError):  # says its place itself, and has no frame in the module
        return said
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    return f"{said} ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else said


def import_torch() -> None:
    """Import torch for a command. Raises ``SystemExit`` with one line, the error and what to do, where torch is missing
    or does not load; with RESTEUTILS_DEBUG=1 the error itself.
    """
    try:
        importlib.import_module("torch")
    except (ImportError, OSError) as error:
        if debugging():
            raise
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            raise SystemExit(f"resteutils: torch is not installed in {sys.prefix}: pip install torch") from None
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        remedy = "install it again, in a build for this machine: pip install --force-reinstall torch torchvision"
        raise SystemExit(f"resteutils: torch in {sys.prefix} does not load ({said}); {remedy}") from None


def debugging() -> bool:
    """Whether RESTEUTILS_DEBUG asks for an error as it came, with its traceback, instead of one line."""
    return os.environ.get("RESTEUTILS_DEBUG", "") not in ("", "0")


def started_by_command() -> bool:
    """Whether ``resteutils ...`` or ``python -m resteutils ...`` is what imports the package. Its :func:`load` comes
    when the command line can turn an error into one line: Python would show a traceback of one that a package raises.
    """
    program = "".join(sys.argv[:1])  # "-m" while Python looks for the module to run
    as_module = program == "-m" and ("-m", "resteutils") in pairwise(sys.orig_argv)
    return as_module or os.path.splitext(os.path.basename(program))[0] == "resteutils"
