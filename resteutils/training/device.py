"""How a recipe is executed on the machine at hand: device, precision, memory layout, compilation.

Nothing here changes the mathematics, only its rounding; what was resolved is recorded with the run. But a binary
network is chaotic: an error of TF32's size in the stem turns signs in every later layer, and the run takes another
course. Results of different devices or precisions agree as those of different seeds do, and are not to be paired.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resteutils import kernels
from resteutils.recipes import Recipe
from resteutils.system.settings import cache_dir
from resteutils.training.gpu import gpu_environment
from resteutils.training.processes import together

__all__ = [
    "WHOLE_STEP",
    "Execution",
    "compiled",
    "memory_advice",
    "resolve_compile",
    "resolve_device",
    "resolve_packed",
    "resolve_tables",
]

# Compiling ResNet-20 took 50 to 90 s here and repaid itself after some 20,000 images of 32x32 (162 against 400 images/s
# on one thread; `make bench` measures it again). Below twice that, "auto" does not compile.
IMAGES_WORTH_COMPILING = 50_000
GRAPHED = ("reduce-overhead", "max-autotune")  # modes of torch.compile that record CUDA graphs
WHOLE_STEP = "whole-step"  # the network compiled, and one CUDA graph of the project's own around the update


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


@dataclass(frozen=True)
class Execution:
    """How one run is executed here: everything that a recipe leaves to the machine, decided once.

    ``compile`` is "off", a mode of ``torch.compile`` or :data:`WHOLE_STEP`; ``packed`` whether training computes 1/1
    layers on packed bits, ``tables`` whether it computes their gradients by tables of signed sums;
    ``packed_evaluation`` whether the test images of each epoch go through the packed network.
    """

    device: torch.device
    precision: str = "fp32"
    deterministic: bool = False
    channels_last: bool = False
    compile: str = "off"
    packed: bool = False
    tables: bool = False
    packed_evaluation: bool = False

    @classmethod
    def resolve(
        cls, recipe: Recipe, device: torch.device, images: int, say: Callable[[str], None] = print
    ) -> Execution:
        """Decide all for a run over ``images`` training images. Raises what :func:`resolve_compile`,
        :func:`resolve_packed` and :func:`resolve_tables` raise."""
        mode = resolve_compile(recipe, device, images, say)
        packed, tables = resolve_packed(recipe, device, images), resolve_tables(recipe, device, images)
        found = cls._of(recipe, device, mode, packed, tables)
        return replace(found, packed_evaluation=packed and recipe.precision != "bf16" and kernels.available())

    @classmethod
    def uncompiled(cls, recipe: Recipe, device: torch.device) -> Execution:
        """Decide for evaluation, which is neither compiled nor packed by the recipe."""
        return cls._of(recipe, device, "off", packed=False, tables=False)

    @classmethod
    def _of(cls, recipe: Recipe, device: torch.device, mode: str, packed: bool, tables: bool) -> Execution:
        wins = device.type == "cuda" or mode != "off"  # channels last is faster on GPUs and in compiled steps
        last = recipe.channels_last == "on" or (recipe.channels_last == "auto" and wins)
        return cls(device, recipe.precision, recipe.deterministic, last, mode, packed, tables)

    @property
    def layout(self) -> torch.memory_format:
        """The memory layout of images and networks."""
        return torch.channels_last if self.channels_last else torch.preserve_format

    def place(self, thing: Tensor | nn.Module) -> Tensor | nn.Module:
        """Move images or a network to the device, in the memory layout."""
        return thing.to(device=self.device, memory_format=self.layout)

    def autocast(self) -> torch.autocast:
        """Compute in bfloat16 where the precision says so."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def compiled(self, network: Callable) -> Callable:
        """Compile ``network``, with a cache that is kept between runs; the network itself for "off"."""
        return compiled(network, self.compile)

    def environment(self) -> dict[str, Any]:
        """Name what decides how a run is rounded, and nothing else of its result: for checkpoint and record."""
        here = {
            "torch": str(torch.__version__),
            "numpy": np.__version__,  # draws the order of the images
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "compile": self.compile,
            "packed_forward": self.packed,
            "table_gradients": self.tables,
            "packed_evaluation": self.packed_evaluation,
            "kernels": self.device.type == "cpu" and kernels.ready(),
        }
        return here | (gpu_environment(self.device, self.precision) if self.device.type == "cuda" else {})


def resolve_compile(recipe: Recipe, device: torch.device, images: int, say: Callable[[str], None] = print) -> str:
    """The recipe's ``compile`` with "auto" decided: "off", a mode of ``torch.compile`` or :data:`WHOLE_STEP`.

    "auto" compiles where the run is long enough to repay it and the machine has what that takes; on one GPU, with
    batches that are not accumulated, into CUDA graphs.
    Raises ``RuntimeError`` where compilation is asked for and something is lacking, ``ValueError`` for torch's CUDA
    graphs with an accumulated batch, and for a graph of the whole step elsewhere than on one GPU.
    """
    if recipe.compile == "off":
        return "off"
    if device.type == "cuda" and recipe.accumulate > 1 and recipe.compile in GRAPHED:
        raise ValueError(
            f"compile = {recipe.compile!r} with accumulate = {recipe.accumulate}: CUDA graphs overwrite the "
            "gradients of the parts before; use compile=default, or accumulate=1"
        )
    if recipe.compile == WHOLE_STEP and (device.type != "cuda" or together() > 1):
        raise ValueError(
            f"compile = {WHOLE_STEP!r} on {device} in {together()} process(es): it records a CUDA graph, on one GPU; "
            "use compile=auto"
        )
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
    graphed = device.type == "cuda" and recipe.accumulate == 1 and together() == 1
    return "reduce-overhead" if graphed else "default"  # small networks wait for the host to launch their kernels


def _lacking(device: torch.device) -> str:
    """What ``torch.compile`` needs on this device and does not find, with the remedy; "" where all is there."""
    for variable in ("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE"):
        if os.environ.get(variable) == "1":
            return f"{variable} to be unset"
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
    Raises ``ValueError`` where packed bits are asked for on another device.
    """
    if recipe.bits != "1/1" or recipe.scale_order == "before":  # scaled weights are no bits: floats, whatever is asked
        return False
    if recipe.packed_forward and device.type != "cpu":
        raise ValueError(f"packed_forward = True on {device}: packed bits are for CPUs; leave packed_forward out")
    if recipe.packed_forward is not None:
        return recipe.packed_forward
    wanted = device.type == "cpu" and _worth_compiling(recipe, images)
    return wanted and kernels.available() and kernels.paths()[0] in ("avx512", "avx2")


def resolve_tables(recipe: Recipe, device: torch.device, images: int) -> bool:
    """The recipe's ``table_gradients`` with None decided: tables on an x86 CPU with AVX2 and without AVX-512, where
    they were measured (`make bench`), in runs worth compiling. They round differently: the environment says what was
    used. Raises ``ValueError`` where tables are asked for on another device, and ``RuntimeError`` without the kernels.
    """
    if recipe.bits != "1/1" or recipe.scale_order == "before" or recipe.precision == "bf16":
        return False
    if recipe.table_gradients and device.type != "cpu":
        raise ValueError(f"table_gradients = True on {device}: the tables are for CPUs; leave table_gradients out")
    if recipe.table_gradients and not kernels.available():
        raise RuntimeError(f"table_gradients = True: {kernels.why_not()}")
    if recipe.table_gradients is not None:
        return recipe.table_gradients
    wanted = device.type == "cpu" and _worth_compiling(recipe, images)
    return wanted and kernels.available() and kernels.paths()[0] == "avx2"


def _worth_compiling(recipe: Recipe, images: int) -> bool:
    """Whether a run is long enough to repay what compiling anything costs."""
    return images * recipe.epochs * (recipe.image_size / 32) ** 2 >= IMAGES_WORTH_COMPILING


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
    return torch.compile(network, dynamic=False, mode=None if mode in ("default", WHOLE_STEP) else mode)
