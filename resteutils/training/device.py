"""How a recipe is executed on the machine at hand: device, precision, memory layout, compilation.

Nothing here changes what is computed beyond rounding; what was resolved is recorded with the run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resteutils import kernels
from resteutils.recipes import Recipe
from resteutils.system.settings import cache_dir

__all__ = [
    "autocast",
    "compiled",
    "environment",
    "memory_advice",
    "numerics",
    "place",
    "resolve_compile",
    "resolve_device",
    "resolve_packed",
]

# Compiling ResNet-20 took 50 to 90 s here and repaid itself after some 20,000 images of 32x32 (162 against 400 images/s
# on one thread; `make bench` measures it again). Below twice that, "auto" does not compile.
IMAGES_WORTH_COMPILING = 50_000


def resolve_device(device: str = "auto") -> torch.device:
    """ "auto" is the GPU if there is one, else the CPU. Raises ``ValueError`` for an unknown or an absent device."""
    if device in ("", "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device = {device!r}, expected auto, cpu, cuda or cuda:N") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device = {device!r}, expected auto, cpu, cuda or cuda:N")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device = {device!r}, but this torch ({torch.__version__}) sees no GPU; use device=cpu, or install a CUDA "
            "build of torch and check `nvidia-smi`"
        )
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device = {device!r}, but there are {torch.cuda.device_count()} GPU(s), from cuda:0 on")
    return chosen


@contextlib.contextmanager
def numerics(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """The recipe's precision and determinism, for the length of the block; torch's switches are then put back."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32, torch.are_deterministic_algorithms_enabled())
    cudnn.benchmark = device.type == "cuda" and not recipe.deterministic
    cudnn.allow_tf32 = matmul.allow_tf32 = recipe.precision != "fp32"
    if recipe.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before[:3]
        torch.use_deterministic_algorithms(before[3])


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """bfloat16 autocast where the recipe's precision says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")


def place(thing: Tensor | nn.Module, recipe: Recipe, device: torch.device, mode: str = "off") -> Tensor | nn.Module:
    """Images or a network on the device, in the recipe's memory layout. "auto" is channels last on GPUs and where the
    step is compiled (``mode``): there it is faster.
    """
    wins = device.type == "cuda" or mode != "off"
    last = recipe.channels_last == "on" or (recipe.channels_last == "auto" and wins)
    return thing.to(device=device, memory_format=torch.channels_last if last else torch.preserve_format)


def resolve_compile(recipe: Recipe, device: torch.device, images: int, say: Callable[[str], None] = print) -> str:
    """The recipe's ``compile`` with "auto" decided: "off" or a mode of ``torch.compile``.

    "auto" compiles where the run is long enough to repay it and the machine has what that takes.
    Raises ``RuntimeError`` where compilation is asked for and something is lacking.
    """
    if recipe.compile == "off":
        return "off"
    lacking = _lacking(device)
    if recipe.compile != "auto":
        if lacking:
            raise RuntimeError(f"compile = {recipe.compile!r} needs {lacking}; without it use compile=off")
        return recipe.compile
    if not _worth_compiling(recipe, images):
        return "off"
    if lacking:
        say(f"training without torch.compile, which would be faster: it needs {lacking}")
        return "off"
    return "default"


def _lacking(device: torch.device) -> str:
    """What ``torch.compile`` needs on this device and does not find, with the remedy; "" where all is there."""
    if device.type == "cpu":
        compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
        return "" if compiler else "a C++ compiler (install g++)"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "a C compiler, for Triton (install gcc)"
    if importlib.util.find_spec("triton") is None:
        return "Triton (pip install triton)"
    if torch.cuda.get_device_capability(device) < (7, 0):
        return "a GPU of compute capability 7.0 or later"
    return ""


def resolve_packed(recipe: Recipe, device: torch.device, images: int) -> bool:
    """The recipe's ``packed_forward`` with None decided: packed bits on an x86 CPU with vector instructions for them,
    in runs worth compiling: that is what was measured (`make bench`: 1.1 to 1.4 times faster than on floats).
    """
    if recipe.bits != "1/1":
        return False
    if recipe.packed_forward is not None:
        return recipe.packed_forward
    wanted = device.type == "cpu" and _worth_compiling(recipe, images)
    return wanted and kernels.available() and kernels.paths()[0] in ("avx512", "avx2")


def _worth_compiling(recipe: Recipe, images: int) -> bool:
    """Whether a run is long enough to repay what compiling anything costs."""
    return images * recipe.epochs * (recipe.image_size / 32) ** 2 >= IMAGES_WORTH_COMPILING


def environment(device: torch.device, mode: str, packed: bool) -> dict[str, Any]:
    """What decides how a run is rounded, and nothing else of its result: for its checkpoints and its record."""
    return {
        "torch": str(torch.__version__),
        "numpy": np.__version__,  # draws the order of the images
        "device": device.type,
        "threads": torch.get_num_threads(),
        "compile": mode,
        "packed_forward": packed,
        "kernels": device.type == "cpu" and kernels.ready(),
    }


@contextlib.contextmanager
def memory_advice(recipe: Recipe) -> Iterator[None]:
    """Turns running out of memory, the GPU's or the CPU's, into a ``RuntimeError`` that names what takes less."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "allocate memory" not in str(error):
            raise
        raise RuntimeError(
            f"{recipe.run_id}: out of memory with batches of {recipe.batch_size} in {recipe.accumulate} part(s), "
            f"{recipe.eval_batch_size} in evaluation; --set accumulate={2 * recipe.accumulate} or --set "
            f"eval_batch_size={max(recipe.eval_batch_size // 2, 1)} takes less "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error


def compiled(network: Callable, mode: str) -> Callable:
    """``torch.compile`` with a cache that is kept between runs; the network itself for "off"."""
    if mode == "off":
        return network
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "inductor"))
    # Dynamo keeps at most eight graphs of one forward(): the ninth network of a process would run uncompiled, unsaid.
    torch.compiler.reset()
    return torch.compile(network, dynamic=False, mode=None if mode == "default" else mode)
