"""The command line: ``resteutils COMMAND ...`` or ``python -m resteutils COMMAND ...``.

Exit status: 0 done; 1 failed; 2 wrong usage; 3 the training loss was no longer finite; 130 (Ctrl-C) or 143 (SIGTERM)
stopped with everything saved, so that the same command continues. An error is one line; RESTEUTILS_DEBUG=1 shows the
traceback.

Commands import what they need when they run: ``--help`` loads torch, as the package does, and none of pandas,
matplotlib, wandb and papermill.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata as metadata
import io
import os
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import tyro

from resteutils.cli import launch, models, reproduce, results
from resteutils.cli.options import DataDir, ResultsDir, RunsDir, UsageError, fail, status_of, usage
from resteutils.system import extensions
from resteutils.system.files import write_atomic
from resteutils.system.settings import project_root

__all__ = ["main"]

JUPYTER = ".jupyter/jupyter_server_config.py"  # as the Makefile has it


def doctor(data_dir: DataDir = "", runs_dir: RunsDir = "", results_dir: ResultsDir = "") -> None:
    """Is this machine ready? Each line says ok, warning or problem, and what to do; status 1 if there is a problem.

    Example: resteutils doctor --data-dir /data
    """
    from resteutils.cli.doctor import examine
    from resteutils.cli.doctor import report as print_findings

    if print_findings(examine(data_dir, runs_dir, results_dir)):
        raise SystemExit(1)


def explore() -> None:
    """Open the explorer, sliders over the estimators, in JupyterLab; Ctrl-C ends it.

    Example: resteutils explore

    Outside a checkout its notebook, explore_reste.ipynb, is written to the working directory first.
    """
    from resteutils.results.reproduce import find_notebook

    notebook = find_notebook("explore_reste")
    if notebook.parent != project_root() / "notebooks":  # the installed package's own is not the user's to change
        mine = Path(notebook.name).absolute()
        notebook = mine if mine.exists() else write_atomic(mine, notebook.read_bytes())
    lab, config = [sys.executable, "-m", "jupyterlab", str(notebook)], project_root() / JUPYTER
    lab += [f"--config={config}"] if config.is_file() else []
    done = subprocess.run(lab + (["--allow-root"] if getattr(os, "geteuid", lambda: 1)() == 0 else []), check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


DESCRIPTION = (
    "ReSTE (ICCV 2023) reproduced: every table and figure from one command. "
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 the loss was no longer finite, "
    "130 or 143 stopped with everything saved."
)
COMMANDS = {
    **reproduce.COMMANDS,
    "list": results.list_,
    **launch.COMMANDS,
    "report": results.report,
    **models.COMMANDS,
    "explore": explore,
    "doctor": doctor,
}
UNFINISHED = {*reproduce.COMMANDS, *launch.COMMANDS, *models.COMMANDS} - {"predict"}  # where nobody reads on


def main(arguments: list[str] | None = None) -> None:
    """Entry point; leaves with the status that the module's docstring lists."""
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> int:
    """Call the command and turn what it raises into a status and one line on stderr."""
    for stream in (sys.stdout, sys.stderr):  # a log file grows line by line, as a terminal would; any name is printed
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        with usage():
            extensions.load()
        if arguments[:1] == ["--version"]:
            print(f"resteutils {metadata.version('resteutils')}")
            return 0
        _parsed(arguments)()
    except SystemExit as error:  # --help, and the commands that say themselves what is wrong
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        return fail(KeyboardInterrupt("stopped by Ctrl-C; the same command continues"), 130)
    except BrokenPipeError as error:
        if not _unread():  # another pipe, as that to a worker
            return fail(error, 1)
        if arguments[0] not in UNFINISHED:  # resteutils list | head
            return 0
        return fail(RuntimeError("nobody reads the output any more; the same command continues"), 1)
    except Exception as error:  # the last resort: every other error becomes one line
        return fail(error, status_of(error))
    return 0


def _unread() -> bool:
    """Whether the reader of our output has left; what is still to be written then goes nowhere."""
    left = False
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError):  # closed, or no file
            asked = select.poll()
            asked.register(stream.fileno(), select.POLLOUT)
            if any(event & select.POLLERR for _, event in asked.poll(0)):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                left = True
    return left


def _parsed(arguments: list[str]) -> Callable[[], None]:
    """The command with what was given to it, not called yet. Raises ``UsageError``: the parser's box as one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.extras.subcommand_cli_from_dict(
                {name: _later(command) for name, command in COMMANDS.items()},
                prog="resteutils",
                description=DESCRIPTION,
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as error:
        if error.code in (None, 0):
            raise
        raise UsageError(_one_line(said.getvalue(), arguments)) from None


def _one_line(box: str, arguments: list[str]) -> str:
    """What tyro says in a box of several parts: the first part, an option of the same command that it suggests, and
    where the help is.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m|[\u2502\u256d-\u2570|+]", " ", box)
    _, first, *others = (" ".join(part.split()) for part in re.split(r"[\u2500-]{3,}", f"{plain} --- wrong usage"))
    command = f" {arguments[0]}" if arguments and arguments[0] in COMMANDS else ""
    options = [option for part in others for option in re.split(r" (?=--[\w-]+ [{A-Z])", part)[1:]]
    suggested = [option.split()[0] for option in options if f"in resteutils{command} --help" in option]
    meant = f"; did you mean {suggested[0]}?" if suggested else ""
    known = [part for part in others if part.startswith("Available")]
    first = re.sub(r" \(applied to [^)]*\)| Arguments are applied to.*", "", first)
    said = ". ".join([first.rstrip("."), *known])
    return f"{said}{meant or '.'} See resteutils{command} --help"


def _later(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    @functools.wraps(command)
    def bound(*args: object, **options: object) -> Callable[[], None]:
        return functools.partial(command, *args, **options)

    return bound
