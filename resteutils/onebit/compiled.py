"""A packed network's program as the compiled executors read it: a list of numbers for each step, and tensors.

There are two. kernels/program.cpp gathers the bits under each output pixel, for blocks of 32 output channels; it runs
every program on every path. kernels/planes.cpp keeps the pixels in the lanes, which is faster for few channels; it runs
networks of at most 64 with AVX2. Both give the same numbers to the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resteutils import kernels
from resteutils.onebit.check import OPERATIONS
from resteutils.onebit.program import Program, slid, unpack_signs

__all__ = ["Compiled", "compiled", "fits_planes"]

_PIXELS, _MOST_CHANNELS = 32, 64  # PIXELS and MOST_PLANES in kernels/planes.h
_ON_PLANES = ("stem", "binary", "threshold", "pad", "avg_pool", "flatten", "affine", "linear")


@dataclass(frozen=True)
class Compiled:
    """A program for one executor, on one path of the kernels; called with images, it gives logits."""

    executor: str
    tensors: list[Tensor]
    code: Tensor
    classes: int
    path: str

    def __call__(self, images: Tensor) -> Tensor:
        run = getattr(torch.ops.resteutils, self.executor)
        return run(images, self.tensors, self.code, self.classes, self.path)


def compiled(program: Program, size: tuple[int, int, int], path: str, planes: bool | None = None) -> Compiled:
    """The program for images (C, H, W); ``planes`` chooses the executor, ``None`` the faster one."""
    planes = fits_planes(program, path) if planes is None else planes
    shapes, tensors, code = [tuple(size[1:])], [torch.zeros(1)], []
    for number, step in enumerate(program.steps):
        code.append(_numbers(step, len(tensors)))
        height, width = shapes[step["source"]]
        tensors += _on_planes(program, number, (height, width)) if planes else _in_blocks(program, number, path)
        shapes.append(_size(step, height, width))
    executor = "run_planes" if planes else "run_program"
    return Compiled(executor, tensors, torch.tensor(code).view(-1, 18), program.steps[-1]["out"], path)


def fits_planes(program: Program, path: str) -> bool:
    """Whether planes.cpp runs it: AVX2, few channels, 3x3 kernels padded by one."""

    def fits(step: dict[str, Any]) -> bool:
        if step["do"] not in _ON_PLANES or (step["bits"] and step["out"] > _MOST_CHANNELS):
            return False
        if (step["do"] == "stem") != (step["source"] == 0) or "groups" in step or "dilation" in step:
            return False
        if step["bits"] and step["do"] in ("pad", "avg_pool", "flatten", "affine", "linear"):
            return False
        if step["do"] not in ("binary", "threshold"):
            return True
        (down, across), square = step["stride"], (tuple(step["kernel"]), tuple(step["padding"])) == ((3, 3), (1, 1))
        return square and down == across and max(step["channels"], step["out"]) <= _MOST_CHANNELS

    # an affine of images rather than of rows of numbers has no place on planes
    flat = [i + 1 for i, step in enumerate(program.steps) if step["do"] in ("avg_pool", "flatten")]
    rows = all(step["source"] in flat for step in program.steps if step["do"] == "affine")
    return path == "avx2" and rows and all(map(fits, program.steps))


def _numbers(step: dict[str, Any], first: int) -> list[int]:
    """kernels/program.h's struct Step; ``first`` is where the step's tensors begin."""
    flags = [int(step.get("relu", step.get("include", False))), int(step["floats"]), int(step["bits"])]
    (kh, kw), (ph, pw) = step.get("kernel", (1, 1)), step.get("padding", (step.get("before", 0), 0))
    return [
        list(OPERATIONS).index(step["do"]), step["source"], step.get("skip", -1), *flags, kh, kw,
        *step.get("stride", (1, 1)), ph, pw, step.get("channels", 0), step["out"], first,
        step.get("groups", 1), *step.get("dilation", (1, 1)),
    ]  # fmt: skip


def _size(step: dict[str, Any], height: int, width: int) -> tuple[int, int]:
    """Height and width of the step's value."""
    if step["do"] in ("avg_pool", "flatten"):
        return 1, 1
    if step["do"] == "pad":
        return tuple(-(-size // s) for size, s in zip((height, width), step["stride"], strict=True))
    if "kernel" not in step:
        return height, width
    return slid((height, width), step["kernel"], step["stride"], step["padding"], step.get("dilation", (1, 1)))


def _in_blocks(program: Program, number: int, path: str) -> list[Tensor]:
    step = program.steps[number]
    out, channels = step["out"], step.get("channels", 0)

    def padded(tensor: Tensor, fill: float = 0.0) -> Tensor:
        room = torch.full((-(-out // 32) * 32,), fill)
        room[:out] = tensor.float().expand(out)
        return room

    def of(name: str) -> Tensor:
        return program.of(number, name)

    def weights() -> Tensor:
        groups = step.get("groups", 1)
        if not kernels.fills_lanes(out, groups):  # torch convolves them, as floats
            return unpack_signs(of("bits"), channels // groups)
        blobs = [kernels.prepare_bits(bits, channels // groups, path).blob for bits in of("bits").chunk(groups)]
        return blobs[0] if groups == 1 else torch.stack(blobs)

    match step["do"]:
        case "stem":
            return [of("weight"), padded(torch.ones(1)), padded(of("gain")), padded(of("offset"))]
        case "project":
            weight = of("weight").view(out, channels).t().contiguous()
            return [weight, padded(torch.ones(1)), padded(of("gain")), padded(of("offset"))]
        case "binary":
            return [weights(), padded(of("alpha")), padded(of("gain")), padded(of("offset"))]
        case "threshold":
            flip = torch.zeros(-(-out // 32) * 4, dtype=torch.uint8)
            flip[: len(of("flip"))] = of("flip")
            return [weights(), padded(of("cuts"), -torch.inf), flip.view(torch.int32)]
        case "affine":
            return [padded(torch.ones(1)), padded(of("gain")), padded(of("offset"))]
        case "linear":
            return [of("weight"), of("bias")]
        case "activate":
            return [of("slope"), of("limits")]
    return []


# --- planes -----------------------------------------------------------------------------------------------------------


def _on_planes(program: Program, number: int, size: tuple[int, int]) -> list[Tensor]:
    step = program.steps[number]
    out = step["out"]

    def of(name: str) -> Tensor:
        return program.of(number, name)

    match step["do"]:
        case "stem":
            return [of("weight"), of("gain"), of("offset")]
        case "affine":
            return [of("gain"), of("offset")]
        case "linear":
            return [of("weight"), of("bias")]
        case "binary" | "threshold":
            negative = unpack_signs(of("bits"), step["channels"]) < 0
            kinds, base = _tiled(_undisturbed(negative, size, step["stride"]))
            if step["do"] == "binary":
                alpha = of("alpha").float().expand(out).contiguous()
                return [_nibbles(negative), kinds, base, alpha, of("gain"), of("offset")]
            # n = base - 2 * count < cut: as many bits must differ, and one more
            most = torch.floor((base - of("cuts").float().view(1, out, 1)) / 2).clamp(-1, 2**15 - 1).to(torch.int16)
            flip = (unpack_signs(of("flip").view(1, 1, 1, -1), out) < 0).flatten().to(torch.uint8)
            return [_nibbles(negative), kinds, torch.cat([most[..., 0::2], most[..., 1::2]], 2).contiguous(), flip]
    return []


def _nibbles(negative: Tensor) -> Tensor:
    """(out, in, 3, 3) -> uint8 (out, 9 * planes): 16 * the signs of four input channels, taps outermost."""
    out, channels = negative.shape[:2]
    room = torch.zeros(out, -(-channels // 4) * 4, 9, dtype=torch.uint8)
    room[:, :channels] = negative.flatten(2)
    weights = 16 * torch.tensor([1, 2, 4, 8], dtype=torch.uint8).view(1, 1, 4, 1)
    return (room.view(out, -1, 4, 9) * weights).sum(2).to(torch.uint8).transpose(1, 2).reshape(out, -1).contiguous()


def _undisturbed(negative: Tensor, size: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """(out, H', W'): the dot product where no bit differs, zero padding being read as +1 and taken out again."""
    channels = negative.shape[1]
    inside = torch.zeros(1, 1, *size)
    border = F.pad(inside, (1, 1, 1, 1), value=1.0)
    there = F.conv2d(F.pad(inside + 1, (1, 1, 1, 1)), torch.ones(1, 1, 3, 3), stride=stride)
    lost = F.conv2d(border, negative.float().sum(1, keepdim=True), stride=stride)
    return (channels * there + 2 * lost)[0]


def _tiled(values: Tensor) -> tuple[Tensor, Tensor]:
    """(out, H, W) -> the class of each tile of 32 pixels, and (classes, out, 32): tiles of one class are equal."""
    out, height, width = values.shape
    rows, across = max(1, _PIXELS // width) if width <= _PIXELS else 1, math.ceil(width / _PIXELS)
    found: dict[bytes, int] = {}
    kinds, classes = [], []
    for y in range(0, height, rows):
        for part in range(across):
            tile = torch.zeros(out, _PIXELS)
            piece = values[:, y : y + rows, part * _PIXELS : (part + 1) * _PIXELS].flatten(1)
            tile[:, : piece.shape[1]] = piece
            kinds.append(found.setdefault(tile.numpy().tobytes(), len(found)))
            if kinds[-1] == len(classes):
                classes.append(tile)
    return torch.tensor(kinds, dtype=torch.int32), torch.stack(classes)
