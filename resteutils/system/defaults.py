"""torch's global switches, as results need them, whatever the caller has set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["torch_defaults"]


@contextlib.contextmanager
def torch_defaults() -> Iterator[None]:
    """Compute in float32 on the CPU, with gradients and without autocast, for the length of the block or function.

    A default dtype, a default device (``torch.set_default_device`` or ``with torch.device``), ``torch.no_grad``,
    ``torch.inference_mode`` and ``torch.autocast`` of the caller are then as they were. What is set as it should be is
    not touched: torch calls every function through Python while a default device is set.
    """
    dtype = torch.get_default_dtype()
    with contextlib.ExitStack() as switched:
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            switched.callback(torch.set_default_dtype, dtype)
        # torch 2.9's get_default_device() fails after set_default_device(None)
        if torch.empty(0).device.type != "cpu":
            switched.enter_context(torch.device("cpu"))
        if torch.is_inference_mode_enabled():
            switched.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            switched.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                switched.enter_context(torch.autocast(kind, enabled=False))
        yield
