"""One CUDA graph for a whole update: forward and backward pass, loss, the check of its numbers, the optimizer.

A GPU computes small networks faster than a host launches their kernels. The graph is recorded once and launched as one
kernel is. What moves from step to step lies in tensors that keep their place: the batch, the learning rate, the step's
number, the estimators' coefficients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = ["GraphedUpdate"]

WARM_UPS = 3  # updates before the recording: a compiler compiles, cuDNN chooses, the optimizer makes its buffers


class GraphedUpdate:
    """``update(images, labels)`` as one CUDA graph, for batches of one shape on one GPU.

    The first three calls are made as they are, the fourth is recorded, and from then on each copies its batch and the
    optimizer's learning rate to where the graph reads them, and launches it. What it returns is overwritten by the next
    call. Gradients stay where the graph writes them: between its calls they may be zeroed, but not released.
    """

    def __init__(self, update: Callable[[Tensor, Tensor], tuple[Tensor, ...]], optimizer: torch.optim.Optimizer):
        self.update, self.optimizer = update, optimizer
        self.calls = 0
        self.launch: Callable[[], None] | None = None

    @property
    def recorded(self) -> bool:
        """Whether the graph is there, and gradients belong to it."""
        return self.launch is not None

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        if self.calls <= WARM_UPS:
            with self._aside():
                return self.update(images, labels)
        if self.launch is None:
            self._record(images, labels)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.rate.fill_(self.optimizer.param_groups[0]["lr"])
        self.launch()
        return self.found

    def _record(self, images: Tensor, labels: Tensor) -> None:
        """Record the update of copies of this batch, with a learning rate that is read from the device."""
        self.images, self.labels = images.clone(), labels.clone()
        self.rate = torch.zeros((), device=images.device)
        groups = self.optimizer.param_groups
        before = [dict(group) for group in groups]
        for group in groups:
            group["lr"] = self.rate
            if "capturable" in group:  # Adam's word for it; SGD needs none
                group["capturable"] = True
        try:
            self.launch = self._captured(self._work)
        finally:
            for group, values in zip(groups, before, strict=True):
                group.update(values)

    def _work(self) -> None:
        self.found = self.update(self.images, self.labels)

    def _captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """What repeats on the GPU all that ``work`` launches, which is not computed now."""
        graph = torch.cuda.CUDAGraph()
        # Threads that bring the next images may go on, as while torch.compile records.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            work()
        return graph.replay

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """On the stream of the recording, since what autograd keeps of a stream must not be another's."""
        current = torch.cuda.current_stream()
        if self.calls == 1:
            self._stream = torch.cuda.Stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)
