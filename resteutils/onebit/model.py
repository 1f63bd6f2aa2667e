"""A trained network in one bit: packed in memory, on disk, and run.

    packed = ru.pack(run.model(), run)         # a PackedModel: float32 images in, logits out
    packed.save("model.rbit")                  # safetensors: bits, the rest in float32, a documented header
    packed = load("model.rbit")                # see resteutils.onebit.file

W/A 1/1 runs on the compiled kernel where that is available, in one call for the whole network; otherwise, and for 1/32,
on torch alone, with the same results.
"""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resteutils import kernels
from resteutils.data.base import normalise
from resteutils.nn.binarize import sign
from resteutils.nn.traceable import tracing
from resteutils.onebit.check import check
from resteutils.onebit.compiled import Compiled, compiled
from resteutils.onebit.file import VERSION, PackedFileError, parsed, serialised
from resteutils.onebit.fold import fold, input_size_of
from resteutils.onebit.program import Program, unpack_signs, unpack_traceable
from resteutils.recipes.build import open_data
from resteutils.system.defaults import torch_defaults
from resteutils.system.files import write_atomic

__all__ = ["PackedFileError", "PackedModel", "load", "pack"]


class PackedModel(nn.Module):
    """A network over bits: (N, C, H, W) float32, normalised, to logits (N, classes). For inference only.

    ``header`` describes it (see :mod:`resteutils.onebit.file`), ``program`` is what it does. ``path`` forces a code
    path of the kernels ("avx512", "avx2", "neon", "scalar"), or "torch".

    Raises ``ValueError`` for a program that does not fit itself or the header.
    """

    def __init__(self, header: dict[str, Any], program: Program, path: str = "") -> None:
        super().__init__()
        check(program, header)
        self.header, self.program, self.path = header, program, path
        self._compiled: Compiled | None = None
        self._signs: dict[str, Tensor] = {}

    def extra_repr(self) -> str:
        made, size = self.header, "x".join(map(str, self.header["input"]))
        return f"{made['model']}, W/A {made['bits']}, images of {size}, {len(made['classes'])} classes"

    @property
    def bytes(self) -> int:
        """Size of the file that :meth:`save` writes."""
        return len(serialised(self.header, self.program))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Logits of normalised images, float32 on the CPU, under autocast too; NaN for an image that is not finite.
        Raises ``ValueError`` for images of another shape, dtype or device.
        """
        if x.dtype != torch.float32 or x.device.type != "cpu":
            raise ValueError(f"images are {x.dtype} on {x.device}; a packed network takes float32 on the CPU")
        if x.dim() != 4 or list(x.shape[1:]) != self.header["input"]:
            wanted = ", ".join(map(str, self.header["input"]))
            raise ValueError(
                f"images of shape {tuple(x.shape)}, expected (N, {wanted}); for another size pack the network again "
                "with input_size=(C, H, W)"
            )
        if tracing():  # torch's operations, whether or not this machine has a kernel
            logits = self.run_in_torch(x)
            return torch.where(torch.isfinite(x).flatten(1).all(1, keepdim=True), logits, torch.nan)
        if torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return self.forward(x)
        logits = self._compiled(x) if self._runs_compiled() else self.run_in_torch(x)
        if math.isfinite(x.sum().item()):  # a sum is, where all its terms are, and costs the least
            return logits
        lost = ~torch.isfinite(x).flatten(1).all(1)  # a bit cannot be NaN: it would be taken for +1 and hidden
        return logits.masked_fill_(lost[:, None], torch.nan)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) -> what the network was trained on. Raises ``ValueError`` where the file does not say."""
        if not self.header["mean"]:
            raise ValueError(
                "this packed network does not say how its images are normalised: write it by `resteutils export RUN`, "
                "or pack it with its run or data, ru.pack(model, run)"
            )
        return normalise(images, self.header["mean"], self.header["std"])

    def save(self, path: str | os.PathLike) -> Path:
        """Write the file, as a whole or not at all."""
        return write_atomic(path, serialised(self.header, self.program))

    # --- torch alone: the reference ---------------------------------------------------------------------------------

    def run_in_torch(self, x: Tensor) -> Tensor:
        """The same logits from torch's own operations, on signs unpacked to float32."""
        values = [x]
        for number, step in enumerate(self.program.steps):
            values.append(self._step(number, step, values))
        return values[-1]

    def _step(self, number: int, step: dict[str, Any], values: list[Tensor]) -> Tensor:
        x = values[step["source"]]

        def tensor(name):
            return self.program.of(number, name)

        dilation, groups = step.get("dilation", 1), step.get("groups", 1)
        match step["do"]:
            case "stem" | "project":
                y = F.conv2d(x, tensor("weight"), None, step["stride"], step["padding"], dilation, groups)
                return self._finish(number, step, y)
            case "binary" | "threshold":
                if x.dim() == 2:  # rows: pixels of an image of one
                    images = [value[:, :, None, None] if value.dim() == 2 else value for value in values]
                    return self._step(number, step, images).flatten(1)
                signs = x if step["activations"] == 32 else sign(x)
                kernel = self._signs_of(number, "bits", step["channels"] // groups)
                n = F.conv2d(signs, kernel, None, step["stride"], step["padding"], dilation, groups)
                if step["do"] == "threshold":
                    negative = (n < tensor("cuts").view(1, -1, 1, 1)) ^ (
                        self._signs_of(number, "flip", step["out"]) < 0
                    )
                    return 1.0 - 2.0 * negative.to(n.dtype)  # not of the default dtype
                y = self._finish(number, step, n * tensor("alpha").view(1, -1, 1, 1))
                return y + values[step["skip"]] if "skip" in step else y
            case "max_pool":
                return F.max_pool2d(x, step["kernel"], step["stride"], step["padding"])
            case "pad":
                rest = step["out"] - step["before"] - step["channels"]
                return F.pad(x[:, :, :: step["stride"][0], :: step["stride"][1]], (0, 0, 0, 0, step["before"], rest))
            case "avg_pool":
                return F.adaptive_avg_pool2d(x, 1).flatten(1)
            case "flatten":
                return x.flatten(1)
            case "affine":
                return self._finish(number, step, x)
            case "linear":
                return F.linear(x, tensor("weight"), tensor("bias"))
            case "activate":
                slope = tensor("slope").view(1, -1, *(1 for _ in x.shape[2:]))
                return torch.where(x < 0, x * slope, x).clamp(*tensor("limits"))
            case "add":
                return x + values[step["skip"]]
            case "mean_pool":
                return F.avg_pool2d(x, step["kernel"], step["stride"], step["padding"], False, step["include"])

    def _finish(self, number: int, step: dict[str, Any], y: Tensor) -> Tensor:
        """ReLU and the folded BatchNorm, through torch's own BatchNorm, which rounds once."""
        gain, offset = self.program.of(number, "gain"), self.program.of(number, "offset")
        y = y.relu() if step["relu"] else y
        return F.batch_norm(y, torch.zeros_like(gain), torch.ones_like(gain), gain, offset, eps=0.0)

    def _signs_of(self, number: int, name: str, channels: int) -> Tensor:
        """Unpacked once: (O, C, kh, kw) of "bits", (1, O, 1, 1) of "flip"."""
        if tracing():
            return unpack_traceable(self.program.of(number, name), channels)
        key = f"{number}.{name}"
        if key not in self._signs:
            self._signs[key] = unpack_signs(self.program.of(number, name), channels)
        return self._signs[key]

    # --- compiled ---------------------------------------------------------------------------------------------------

    def _runs_compiled(self) -> bool:
        if self.path == "torch" or self.header["bits"] != "1/1":
            return False
        if self._compiled is None:
            if not kernels.available():
                return False
            with torch_defaults():  # what it sets up once outlives the caller's switches
                self._compiled = compiled(self.program, self.header["input"], self.path or kernels.paths()[0])
        return True


# --- from a model, to and from a file -------------------------------------------------------------------------------


@torch_defaults()
def pack(
    model: nn.Module, run: Any = None, input_size: tuple[int, int, int] | None = None, data: Any = None
) -> PackedModel:
    """A trained W/A 1/1 or 1/32 network, of :func:`resteutils.create` or of your own, with its binary weights as bits.
    docs/one-bit.md says what it may consist of.

    Arguments:
        run: the :class:`resteutils.runs.store.Run` it comes from: the file then says which, and how accurate it is.
        input_size: (C, H, W) of its images; by default what it was built for.
        data: the run's :class:`resteutils.data.images.Images`, whose normalisation and class names go into the file;
            opened where only the run is given. Without either, the file has none, and takes normalised images only.

    Raises ``ValueError`` for a float twin, weights that are not finite, parts that have no packed form, and an input
    size that the network was not built for; and what opening the run's data raises.
    """
    model = copy.deepcopy(model).cpu().float()  # the caller's own may be on a GPU, and in training
    size = tuple(input_size or input_size_of(model))
    program = fold(model, size)
    recipe = run.recipe if run is not None else None
    if run is not None and data is None:
        data = open_data(recipe)
    ones = any(step.get("activations") == 1 for step in program.steps)
    outputs = program.steps[-1]["out"]
    header = {
        "version": VERSION,
        "model": recipe.model if recipe else type(model).__name__,
        "bits": "1/1" if ones else "1/32",
        "classes": list(data.classes) if data else [str(i) for i in range(outputs)],
        "input": list(size),
        "mean": list(data.mean) if data else [],
        "std": list(data.std) if data else [],
        "run_id": recipe.run_id if recipe else "",
        "recipe": recipe.identity if recipe else "",
        "dataset": recipe.dataset if recipe else "",
        "top1": float(run.result["top1"]) if run is not None else -1.0,
    }
    try:
        return PackedModel(header, program)
    except ValueError as error:
        raise ValueError(f"{error}; for images of another size than {size} say input_size=(C, H, W)") from error


@torch_defaults()
def load(path: str | os.PathLike) -> PackedModel:
    """Read a packed model. Raises ``FileNotFoundError`` where there is no such file, and :class:`PackedFileError` for
    anything that is not a whole, known one.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path}; `resteutils export RUN --to packed` writes a packed model")
    header, program = parsed(Path(path).read_bytes(), path)
    try:
        return PackedModel(header, program)
    except ValueError as error:
        raise PackedFileError(f"{path} is no packed model that can be run: {error}") from error
