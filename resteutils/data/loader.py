"""Worker processes that fill batches, in memory which they share with the training process from the start.

Each batch has its place in one block of anonymous shared memory, made before the workers are. Nothing is put into
/dev/shm but the queues' semaphores, a page each: containers often have 64 MB there, and a loader that shares its
batches one by one waits for ever once they are full.
"""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from resteutils.system.cores import usable_cores

__all__ = ["Refused", "batches", "worker_count"]

PREFETCH = 2  # batches that each worker has under way
GROUP_SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, n)]
MOST_WORKERS = 32  # that -1 stands for: each has some batches under way, and ImageNet's are 38 MB
LONGEST_STEP = 60  # seconds that a worker outlives a SIGTERM, for the training process to save meanwhile


class Refused(str):
    """What is wrong with which image: a value, because an exception leaves a worker wrapped in its traceback."""


def worker_count(asked: int) -> int:
    """How many workers to start: at most as many as this process may use cores; -1 is as many as are its share where
    torchrun started several processes on this machine, up to 32.
    """
    cores = usable_cores()
    if asked >= 0:
        return min(asked, cores)
    return min(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))), MOST_WORKERS)


def batches(
    image: Callable[[int], tuple[Tensor, int] | Refused], shares: list[np.ndarray], size: int, workers: int
) -> Iterator[tuple[Tensor, Tensor] | Refused]:
    """The images of each share, stacked: uint8 (B, 3, ``size``, ``size``) and int64 (B,), in order; or what ``image``
    says is wrong with one of them.

    A batch is valid until the next one is asked for: its memory is then filled again. Raises ``RuntimeError`` where
    /dev/shm has no room for the workers' semaphores, and where a worker was killed.
    """
    if not shares:
        return
    workers = min(workers, len(shares))
    # One batch is being looked at, the others are under way; batch n + places is asked for after n was left.
    places = _room((min(PREFETCH * workers + 1, len(shares)), max(map(len, shares)), 3, size, size), bool(workers))
    loader = DataLoader(
        _Filling(image, places),
        batch_size=None,
        sampler=list(enumerate(shares)),
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        multiprocessing_context=_context() if workers else None,
        collate_fn=_as_it_is,
        worker_init_fn=_outlive_signals,
        generator=torch.Generator(),  # the loader draws a number from it, else from the global one
    )
    if workers:
        _check_room(workers)
    with _signals_held():  # a worker is born deaf to them, and listens once it knows what to do
        delivered = iter(loader)
    try:
        for number, labels in enumerate(delivered):
            if isinstance(labels, Refused):
                yield labels
                return
            yield places[number % len(places), : len(labels)], torch.from_numpy(labels)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise RuntimeError(
            f"a worker that decodes images was killed, by the system if memory ran out ({error}); the same call goes "
            f"on from the last checkpoint; fewer workers than {workers} (--set workers=N) take less memory"
        ) from error


@dataclass(frozen=True)
class _Filling(Dataset):
    """Puts the images of a numbered share into the place of that number; its labels are what is sent."""

    image: Callable[[int], tuple[Tensor, int] | Refused]
    places: Tensor

    def __getitem__(self, task: tuple[int, np.ndarray]) -> np.ndarray | Refused:
        number, share = task
        place, labels = self.places[number % len(self.places)], np.empty(len(share), dtype=np.int64)
        for position, index in enumerate(share):
            sample = self.image(index)
            if isinstance(sample, Refused):
                return sample
            place[position].copy_(sample[0])
            labels[position] = sample[1]
        return labels


def _as_it_is(labels: np.ndarray | Refused) -> np.ndarray | Refused:
    return labels


def _context() -> str | None:
    """Forked on Linux, whatever Python's default: workers inherit the block, and the signals that wait."""
    return "fork" if sys.platform == "linux" else None


def _room(shape: tuple[int, ...], shared: bool) -> Tensor:
    """An empty uint8 tensor; ``shared`` with the processes that are forked later. Pages are taken when written to."""
    if not shared:
        return torch.empty(shape, dtype=torch.uint8)
    if _context() == "fork":
        return torch.frombuffer(mmap.mmap(-1, int(np.prod(shape))), dtype=torch.uint8).view(shape)
    return torch.empty(shape, dtype=torch.uint8).share_memory_()


def _check_room(workers: int) -> None:
    """Make what the workers' queues will need, and let it go: a loader that fails half made says nothing of use."""
    context = multiprocessing.get_context(_context())
    try:
        made = [context.Queue() for _ in range(workers + 2)]  # one for each, theirs for results, and an event
    except OSError as error:
        free = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0
        raise RuntimeError(
            f"{workers} worker(s) that decode images cannot be started ({error.strerror or error}): /dev/shm has "
            f"{free:,} bytes free; start the container with --shm-size=1g, or train with --set workers=0"
        ) from error
    for queue in made:
        queue.close()


def _outlive_signals(worker: int) -> None:
    """Ctrl-C, torchrun and Slurm signal a whole group of processes; the training process then still needs the workers
    to finish its step and save, and sends them home itself. An alarm ends those that nobody sends home.
    """
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(LONGEST_STEP))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Signals wait until the end of the block; processes that are started in it inherit that."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
