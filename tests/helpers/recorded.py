"""A CUDA graph's stand-in on a CPU: operations are noted with the tensors that they read, and computed again later."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Recorded(TorchDispatchMode):
    """What happens in the block, as a graph would record it: afterwards nothing has happened, until :meth:`replay`.

    Numbers of Python are kept as they were; tensors are read and written where they lie.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []
        self.overwritten: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, arguments = kwargs or {}, function._schema.arguments
        named = dict(zip((argument.name for argument in arguments), args, strict=False)) | kwargs
        written = [argument.name for argument in arguments if argument.alias_info and argument.alias_info.is_write]
        written += ["running_mean", "running_var"] * (function is torch.ops.aten.native_batch_norm.default)  # unsaid
        for tensor in tree_leaves([named.get(name) for name in written]):
            if isinstance(tensor, Tensor):
                self.overwritten.append((tensor, tensor.clone()))
        out = function(*args, **kwargs)
        self.calls.append((function, args, kwargs, out))
        return out

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        with torch.no_grad():
            for tensor, before in reversed(self.overwritten):
                tensor.copy_(before)

    @torch.no_grad()
    def replay(self) -> None:
        for function, args, kwargs, out in self.calls:
            again = function(*args, **kwargs)
            for kept, fresh in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(kept, Tensor) and kept.data_ptr() != fresh.data_ptr():
                    kept.copy_(fresh)


def recorded(work: Callable[[], None]) -> Callable[[], None]:
    """``GraphedUpdate._captured`` on a CPU."""
    with Recorded() as found:
        work()
    return found.replay
