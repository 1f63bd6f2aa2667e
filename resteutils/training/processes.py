"""One process or many: rank, size and the few exchanges that training needs, with torchrun's environment or without."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from resteutils.training.syncbn import synchronised

__all__ = ["Processes", "first_process", "parts_of_batch", "processes", "together", "without_sync"]


PATIENCE = timedelta(hours=1)  # the leading process may check 1.3 million files while the others wait


def together() -> int:
    """How many processes ``torchrun`` started together with this one, itself included; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first_process() -> bool:
    """Whether this is the first of them, which reads and writes the records; also without ``torchrun``."""
    return int(os.environ.get("RANK", "0")) == 0


def parts_of_batch(images: int, accumulate: int, world: int) -> int:
    """How many parts each of ``world`` processes makes of its share of a batch of so many images, at most
    ``accumulate``: as many in every process, which SyncBatchNorm waits for, and of two images or more, since BatchNorm
    has no statistics of one.
    """
    return max(1, min(accumulate, images // world // 2))


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; every method is free where there is only one."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Only the leading process writes files and prints."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def largest(self, values: Tensor) -> Tensor:
        """The largest of each value over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(values, dist.ReduceOp.MAX)
        return values

    def copy_from_leader(self, tensors: Iterable[Tensor]) -> None:
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()

    def sync_batchnorm(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model with BatchNorm over the images of all processes, as on the authors' one GPU. On CPUs each process
        normalises with its own images, and the leading one's running statistics count.
        """
        return model if self.world == 1 or device.type == "cpu" else synchronised(model)

    def wrap(self, model: nn.Module, fast: Callable, device: torch.device) -> nn.Module:
        """``(images, whole) -> logits``: ``fast`` for whole batches, else the model itself; in both, gradients are
        averaged over processes.
        """
        network = _Network(model, fast)
        if self.world == 1:
            return network
        local = [self.local_rank] if device.type == "cuda" else None
        # SyncBatchNorm keeps the buffers equal. Without it the leading process's count, in every forward pass.
        synced = any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
        ddp = nn.parallel.DistributedDataParallel
        newer = "forward_sync_buffers" in inspect.signature(ddp).parameters  # torch's name for it since 2.14
        return ddp(network, local, **{"forward_sync_buffers" if newer else "broadcast_buffers": not synced})


class _Network(nn.Module):
    """A model and its compiled form, as the one module that DistributedDataParallel takes.

    What is compiled lies inside: DistributedDataParallel's own forward pass would break the graph, and behind the break
    a compiler takes an ``nn.Sequential`` layer by layer.
    """

    def __init__(self, model: nn.Module, fast: Callable) -> None:
        super().__init__()
        self.model, self._fast = model, (fast,)  # in a tuple it is no second part with the same parameters

    def forward(self, images: Tensor, whole: bool) -> Tensor:
        return self._fast[0](images) if whole else self.model(images)


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, for the length of the block; alone, a world of one.

    NCCL on GPUs, gloo on CPUs. A group that exists already is used and left as it is. Raises ``ValueError`` where the
    machine has no GPU of its own for this process.
    """
    if together() <= 1:
        yield Processes()
        return
    ours = not dist.is_initialized()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cuda":
        if device.index is not None or local >= torch.cuda.device_count():
            raise ValueError(
                f"device = {device}, but torchrun gives each process the GPU of its number: use device=cuda, and at "
                f"most --nproc-per-node={torch.cuda.device_count()} here"
            )
        torch.cuda.set_device(local)
    if ours:
        gpu = torch.device("cuda", local) if device.type == "cuda" else None
        dist.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE, device_id=gpu)
    try:
        with _whole_graphs():
            yield Processes(dist.get_rank(), dist.get_world_size(), local)
    finally:
        if ours:
            dist.destroy_process_group()


def _whole_graphs() -> AbstractContextManager:
    """Let ``torch.compile`` take a network whole. It would cut it where DistributedDataParallel's buckets of gradients
    end, to exchange them sooner; older versions of torch refuse to cut networks with autograd functions.
    """
    from torch._dynamo import config  # DistributedDataParallel loads it too

    return config.patch(optimize_ddp=False)


def without_sync(network: nn.Module, skip: bool):
    """Leave gradients unsynchronised, for all but the last part of an accumulated batch."""
    return network.no_sync() if skip and hasattr(network, "no_sync") else nullcontext()
