"""Files and folders that are old or new, never half: written beside, flushed, renamed.

Linux exchanges two folders in one step. Elsewhere it takes two renames: a kill between them leaves the old folder under
its backup's name, and :func:`heal`, which every reader and writer calls first, puts it back. Whoever exchanges or heals
holds a lock on the folder above meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from resteutils.system.locks import host, locked

__all__ = ["LEAST_FREE_BYTES", "heal", "nearest", "replaced", "writable", "write_atomic"]

LEAST_FREE_BYTES = 300_000_000  # below that no run begins, and the doctor calls the disk a problem


def write_atomic(path: str | os.PathLike, content: str | bytes) -> Path:
    """Write ``content`` beside ``path``, flush it to the disk and rename it over ``path``.

    A reader sees the old file or the new one, never a part of it; a process killed at any moment leaves at most a stray
    ``.tmp`` file. Raises ``OSError``, naming the file, when the disk is full or read-only, or where something stands
    that is no file, as ``/dev/stdout``; what stood there is intact.
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
    if path.exists() and not path.is_file():  # a rename would take the place of a device or a pipe
        raise OSError(errno.EISDIR if path.is_dir() else errno.EEXIST, f"a {'folder' if path.is_dir() else 'device'}")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _allowed(0o666))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _allowed(mode: int) -> int:
    """``mode`` less what the umask forbids, as ``open`` and ``mkdir`` have it: a group with ``umask 002`` shares its
    runs. The files of ``tempfile`` are their owner's alone.
    """
    with _ASKING:  # a umask is read by setting one
        forbidden = os.umask(0o077)
        os.umask(forbidden)
    return mode & ~forbidden


_ASKING = threading.Lock()


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Windows cannot open a folder; there the rename itself is all that can be had."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- folders --------------------------------------------------------------------------------------------------------


def nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that is there for this user: one behind a closed folder is not."""
    return next(each for each in (folder, *folder.parents) if os.path.exists(each))


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


@contextlib.contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` to write to; on leaving without an error it takes the place of ``target``.

    After an error the new folder is removed and ``target`` is untouched. Abandoned folders of processes that are gone
    are removed first.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    heal(target)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.{os.getpid()}@{host()}.", suffix=".tmp"))
    folder.chmod(stat.S_IMODE(folder.stat().st_mode) | _allowed(0o777))  # a group handed down by the folder above stays
    try:
        yield folder
        _exchange(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exchange(folder: Path, target: Path) -> None:
    """Put the folder in the place of ``target``; the caller removes what then stands under the folder's name."""
    backup = _backup(target)
    with locked(target.parent):
        if not target.exists():
            os.rename(folder, target)
        elif not _swap(folder, target):
            os.rename(target, backup)
            os.rename(folder, target)
            shutil.rmtree(backup, ignore_errors=True)


def _swap(one: Path, other: Path) -> bool:
    """Exchange two names in one step, where the system and the file system can."""
    if not sys.platform.startswith("linux"):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:  # a C library from before 2018
        return False
    return rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def heal(target: Path) -> None:
    """Undo what a kill left: put the backup back where no folder took its place, remove folders that processes of this
    machine have abandoned."""
    target = target.absolute()
    backup = _backup(target)
    if backup.exists():
        with locked(target.parent):  # not while its writer is between two renames
            if target.exists():
                shutil.rmtree(backup, ignore_errors=True)
            elif backup.exists():
                os.rename(backup, target)
    for abandoned in target.parent.glob(f".{target.name}.*.tmp"):
        process, _, machine = abandoned.name.removeprefix(f".{target.name}.").split(".")[0].partition("@")
        if machine == host() and process.isdigit() and not _alive(int(process)):
            shutil.rmtree(abandoned, ignore_errors=True)


def _backup(target: Path) -> Path:
    return target.with_name(f".{target.name}.previous")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
