"""Archives of datasets: fetched into the cache, checked, and unpacked beside their place before they take it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from resteutils.system.files import nearest, replaced
from resteutils.system.locks import locked
from resteutils.system.settings import cache_dir

__all__ = ["downloading", "fetch", "unpack"]


@contextlib.contextmanager
def downloading(target: Path) -> Iterator[Path]:
    """Hold, for the length of the block, the lock on what is to become the folder ``target``; a folder in the cache for
    the archive, which is removed at the end. Nothing is written beside ``target``.
    """
    place = cache_dir() / "downloads" / hashlib.sha256(os.fsencode(target)).hexdigest()[:32]
    with locked(place.with_suffix(".lock")):
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def fetch(url: str, md5: str, target: Path, place: Path) -> None:
    """Download the archive of the folder ``target`` to ``place`` and unpack it; one of its name beside ``target`` that
    has its md5 is taken instead.

    Raises ``OSError`` where that cannot be written or the network fails, ``RuntimeError`` for an archive of another md5
    and what :func:`unpack` refuses. No part of it stays then.
    """
    from torchvision.datasets.utils import check_integrity, download_url

    existing = nearest(target.parent)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):  # now, not after the download
        raise OSError(errno.EACCES, f"{existing} cannot be written")
    archive = target.parent / Path(url).name
    if not check_integrity(archive, md5):
        archive = place / archive.name
        download_url(url, place, archive.name, md5)
    unpack(archive, target)


def unpack(archive: Path, target: Path) -> None:
    """Unpack a tar archive of one folder, called like ``target``, to ``target``: whole or not at all.

    Raises ``RuntimeError``, naming archive and member, for a path outside that folder and for anything but files and
    folders: links, devices.
    """
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            for member in members:
                parts = member.name.split("/")
                if parts[0] != target.name or ".." in parts or not (member.isreg() or member.isdir()):
                    raise RuntimeError(f"{archive} is refused: {member.name!r} is no file in {target.name}/")
                member.name = "/".join(parts[1:]) or "."
            rules = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4 and later
            with replaced(target) as beside:
                tar.extractall(beside, members, **rules)
    except (tarfile.TarError, EOFError) as error:
        raise RuntimeError(f"{archive} is no whole tar archive ({error})") from error
