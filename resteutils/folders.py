"""A folder of files that is replaced as a whole.

The new folder is completed beside the old one and takes its place by renaming. Renaming one folder over another is two
steps on most systems: a kill between them leaves the old folder under its backup's name, and :func:`heal`, which every
reader and writer calls first, puts it back.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["heal", "replaced"]


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` to write to; on leaving without an error it takes the place of ``target``.

    After an error the new folder is removed and ``target`` is untouched. Abandoned folders of processes that are gone
    are removed first.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    heal(target)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.{os.getpid()}@{_host()}.", suffix=".tmp"))
    folder.chmod(0o755)
    try:
        yield folder
        _exchange(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exchange(folder: Path, target: Path) -> None:
    backup = _backup(target)
    if target.exists():
        os.rename(target, backup)
    os.rename(folder, target)
    shutil.rmtree(backup, ignore_errors=True)


def heal(target: Path) -> None:
    """Undo what a kill left: put the backup back where no folder took its place, remove folders that processes of this
    machine have abandoned."""
    target = target.absolute()
    backup = _backup(target)
    if backup.exists():
        if target.exists():
            shutil.rmtree(backup, ignore_errors=True)
        else:
            os.rename(backup, target)
    for abandoned in target.parent.glob(f".{target.name}.*.tmp"):
        process, _, host = abandoned.name.removeprefix(f".{target.name}.").split(".")[0].partition("@")
        if host == _host() and process.isdigit() and not _alive(int(process)):
            shutil.rmtree(abandoned, ignore_errors=True)


def _backup(target: Path) -> Path:
    return target.with_name(f".{target.name}.previous")


def _host() -> str:
    """This machine or container: the processes of another one, which may share the folder, cannot be seen."""
    return socket.gethostname().replace(".", "-")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
