"""torch's process-wide switches that decide numbers, as a run needs them, and as they were behind it."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from resteutils.recipes import Recipe

__all__ = ["numerics"]


@contextlib.contextmanager
def numerics(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """The recipe's precision and determinism, for the length of the block, whatever torch's switches said before;
    they and ``CUBLAS_WORKSPACE_CONFIG`` are then put back.

    oneDNN is used, numbers below float32's normal range are kept, and what is compiled is compiled. With
    ``deterministic`` a run repeats bit for bit on the same machine and versions. Without, a GPU may choose other
    algorithms the next time; a binary network then takes another course, since a last bit may turn a sign.
    """
    free = device.type == "cuda" and not recipe.deterministic
    backends = torch.backends
    with contextlib.ExitStack() as switched:
        switched.enter_context(_fp32_products("ieee" if recipe.precision == "fp32" else "tf32"))
        switched.enter_context(_set(backends.cudnn, benchmark=free, deterministic=recipe.deterministic, enabled=True))
        switched.enter_context(_set(backends.mkldnn, enabled=True))
        switched.enter_context(_deterministic(recipe.deterministic))
        if sys.float_info.min / 2 == 0:  # torch has no other way to ask
            torch.set_flush_denormal(False)
            switched.callback(torch.set_flush_denormal, True)
        if "torch._dynamo" in sys.modules:  # else nobody has told the compiler to stand aside
            switched.enter_context(torch.compiler.set_stance("default"))
        yield


@contextlib.contextmanager
def _set(owner: Any, **values: Any) -> Iterator[None]:
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


@contextlib.contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    before, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@contextlib.contextmanager
def _fp32_products(precision: str) -> Iterator[None]:
    """Products of float32 in "ieee" or "tf32" on GPUs, in "ieee" on CPUs, for the length of the block.

    torch keeps each switch twice and refuses to read the older where the two differ, so both are set. Only
    ``fp32_precision`` can always be read; where the older cannot, it is the opposite of what that says.
    """
    backends = torch.backends
    gpu = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    cpu = (backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn)
    before = [switch.fp32_precision for switch in (*gpu, *cpu)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Please use the new API settings to control TF32")  # torch 2.9, on reading
        products, convolutions = _older_products(), _older_convolutions()
        backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = precision == "tf32"
    for switch in (*gpu, *cpu):
        switch.fp32_precision = precision if switch in gpu else "ieee"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        backends.cudnn.allow_tf32 = convolutions
        for switch, value in zip((*gpu, *cpu), before, strict=True):
            switch.fp32_precision = value


def _older_products() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "highest" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "high"


def _older_convolutions() -> bool:
    try:
        return torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return torch.backends.cudnn.conv.fp32_precision != "tf32"
