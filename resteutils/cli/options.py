"""What the commands share: options and their help, reading settings, exit statuses, and errors as one line."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg

from resteutils.system.extensions import ExtensionError, debugging
from resteutils.training.stopping import Interrupted, NonFinite

__all__ = ["UsageError", "check_machine", "command", "fail", "status_of", "usage"]

# An option that is empty until it is given says so in its help: a default of '' or () tells a reader nothing.
Profile = Annotated[
    Literal["smoke", "demo", "short", "paper"],
    arg(
        help="smoke: a test, seconds; demo: small digits, minutes; short: CIFAR-10, 10 epochs; "
        "paper: the authors' recipe, GPU-days"
    ),
]
Rows = Annotated[str, arg(metavar="A,B", help="rows of the item; all when empty", help_behavior_hint="")]
Seeds = Annotated[str, arg(metavar="0,1", help="seeds; the profile's own when empty", help_behavior_hint="")]
Assignments = Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME=VALUE", help_behavior_hint="")]
Overrides = Annotated[
    Assignments,
    arg(help="a field of every recipe, e.g. --set accumulate=2 or --set scale_order=before; repeat it for more"),
]
Epochs = Annotated[int, arg(metavar="N", help="epochs of each run; 0: the profile's own")]
Device = Annotated[str, arg(metavar="DEVICE", help="auto, cpu, cuda or cuda:N")]
DataDir = Annotated[
    str, arg(metavar="DIR", help="folder of the datasets; empty: $DATA_DIR, else data/", help_behavior_hint="")
]
RunsDir = Annotated[
    str, arg(metavar="DIR", help="folder of the training runs; empty: $RUNS_DIR, else runs/", help_behavior_hint="")
]
ResultsDir = Annotated[
    str,
    arg(
        metavar="DIR",
        help="folder of tables and pictures; empty: $RESULTS_DIR, else results/",
        help_behavior_hint="",
    ),
]

On = Annotated[Literal["local", "slurm"], arg(help="processes of this machine, or jobs of a Slurm cluster")]
Minutes = Annotated[int, arg(metavar="N", help="time limit of a Slurm job; an unfinished run is queued again")]
GpusPerRun = Annotated[
    int,
    arg(metavar="N", help="of each node of a Slurm job, whose processes train one run together; 0 is one process"),
]
Nodes = Annotated[int, arg(metavar="N", help="of a Slurm job that trains one run")]
Cluster = Annotated[
    Assignments, arg(help="a setting of submitit's executor, e.g. --cluster slurm_partition=gpu; repeat it for more")
]


class UsageError(ValueError):
    """A value on the command line that the package refuses."""


@contextlib.contextmanager
def usage() -> Iterator[None]:
    """What the package refuses while a command line is being read is wrong usage, not a failure."""
    try:
        yield
    except (ValueError, KeyError, ExtensionError) as error:
        raise UsageError(_message(error)) from error


def check_machine(device: str, here: bool = True) -> None:
    """Refuse, before anything is begun, a device that this machine lacks (unless the work is done elsewhere, not
    ``here``) and a WANDB_MODE that is none.
    """
    from resteutils.training.device import resolve_device
    from resteutils.training.tracking import wandb_mode

    if here:
        resolve_device(device)
    wandb_mode()


def command(*words: str, **options: object) -> str:
    """A command of ours as it is typed, without the options that are empty."""
    given = ((f"--{name.replace('_', '-')}", value) for name, value in options.items() if value)
    listed = ((name, each) for name, value in given for each in (value if isinstance(value, tuple) else (value,)))
    return shlex.join(["resteutils", *words, *(str(word) for option in listed for word in option)])


def status_of(error: Exception) -> int:
    """The exit status of an error."""
    if isinstance(error, Interrupted):
        return 128 + error.signum if error.signum else 1
    if isinstance(error, NonFinite):
        return 3
    return 2 if isinstance(error, UsageError) else 1


def fail(error: BaseException, status: int) -> int:
    """Print the error as one line on stderr and return the status; with RESTEUTILS_DEBUG=1 raise it as it came."""
    if debugging():
        raise error
    # Ours and these speak for themselves; of any other error the type is part of what went wrong.
    ours = type(error).__module__.startswith("resteutils.")
    plain = ours or isinstance(error, (ValueError, OSError, RuntimeError, KeyboardInterrupt))
    print(f"resteutils: {'' if plain else type(error).__name__ + ': '}{_message(error)}", file=sys.stderr)
    return status


def _message(error: BaseException) -> str:
    """str() of a KeyError is the repr of its argument; everything else says what it means."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error) or type(error).__name__
