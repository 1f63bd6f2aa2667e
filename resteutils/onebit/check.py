"""Whether the program of a packed network holds together: fields, shapes, tensors and forms, before anything runs it.

The compiled executor reads memory by what a program says. A file may come from anyone, and its checksum only says that
it is the file that was written; so every step is followed here, as shapes, before it is trusted.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from resteutils.onebit.program import Program, slid

__all__ = ["OPERATIONS", "check"]

_CONVOLUTION = ("kernel", "stride", "padding", "channels", "relu")
# In the order of kernels/program.cpp; the fields of each beside do, source, out, floats and bits.
OPERATIONS = {
    "stem": _CONVOLUTION,
    "project": _CONVOLUTION,
    "binary": (*_CONVOLUTION, "activations"),
    "threshold": (*_CONVOLUTION, "activations"),
    "max_pool": ("kernel", "stride", "padding"),
    "pad": ("stride", "before", "channels"),
    "avg_pool": (),
    "flatten": (),
    "affine": ("relu",),
    "linear": (),
    "activate": (),
    "add": ("skip",),
    "mean_pool": ("kernel", "stride", "padding", "include"),
}
_SPREAD = {"groups", "dilation"}
_OPTIONAL = {"stem": _SPREAD, "binary": {"skip", *_SPREAD}, "threshold": _SPREAD}
_OF_ROWS = ("affine", "linear", "binary", "threshold", "activate", "add")
_LARGEST = 2**28  # numbers of all values for one image
_LONGEST = 2**31  # of a size, a stride or a number of channels
_F32, _BYTES, _CUTS = (torch.float32,), (torch.uint8,), (torch.int16, torch.int32)


class _Value(NamedTuple):
    shape: tuple[int, int, int]
    floats: bool
    bits: bool
    flat: bool = False  # (N, C), no longer an image


def check(program: Program, header: dict[str, Any]) -> None:
    """Raise ``ValueError``, naming the step, where the program does not fit its tensors, the input or itself."""
    _check_header(header)
    values, tensors, numbers = [_Value(tuple(header["input"]), floats=True, bits=False)], {}, 0
    for number, step in enumerate(program.steps):
        try:
            _check_fields(step, len(values))
            expected = _expected_tensors(step, values[step["source"]])
            for name, (dtypes, *shapes) in expected.items():
                _check_tensor(name, program.tensors.get(f"{number}.{name}"), dtypes, shapes)
            values.append(_follow(step, values, header["bits"]))
        except ValueError as error:
            raise ValueError(f"step {number}: {error}") from None
        tensors |= {f"{number}.{name}": None for name in expected}
        numbers += math.prod(values[-1].shape)
        _require(numbers <= _LARGEST, f"the values up to step {number} hold {numbers:.2g} numbers an image: too many")
    if extra := sorted(set(program.tensors) - set(tensors)):
        raise ValueError(f"tensors {', '.join(extra)} belong to no step")
    last = values[-1]
    _require(last.flat and last.floats, "its last step does not give one row of numbers for each image")
    classes = len(header["classes"])
    _require(last.shape[0] == classes, f"its last step gives {last.shape[0]} numbers an image, for {classes} classes")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_header(header: dict[str, Any]) -> None:
    size, bits = header["input"], header["bits"]
    _require(bits in ("1/1", "1/32"), f"bits = {bits!r}, expected '1/1' or '1/32'")
    _require(_whole(size, 3, 1) and math.prod(size) <= _LARGEST, f"input = {size}, expected (C, H, W)")
    _require(all(isinstance(name, str) for name in header["classes"]), "classes holds something that is no name")
    for name, least in (("mean", -math.inf), ("std", 0.0)):
        numbers = header[name]
        if header["mean"] == header["std"] == []:  # packed without its data: it takes normalised images only
            continue
        good = all(type(n) in (int, float) and least < n < math.inf for n in numbers)
        _require(good and len(numbers) == size[0], f"{name} = {numbers}, expected {size[0]} numbers")


def _whole(numbers: Any, count: int, least: int) -> bool:
    return isinstance(numbers, list | tuple) and len(numbers) == count and all(
        type(n) is int and least <= n < _LONGEST for n in numbers
    )  # fmt: skip


def _dilation(step: dict[str, Any]) -> Any:
    return step.get("dilation", (1, 1))


def _check_fields(step: Any, number_of_values: int) -> None:
    known = isinstance(step, dict) and isinstance(step.get("do"), str) and step["do"] in OPERATIONS
    _require(known, f"unknown operation {step.get('do') if isinstance(step, dict) else step!r}")
    optional = _OPTIONAL.get(step["do"], set())
    names = {"do", "source", "out", "floats", "bits", *OPERATIONS[step["do"]]}
    _require(set(step) - optional == names, f"fields {sorted(step)}, expected {sorted(names)}")
    good = {
        **dict.fromkeys(("relu", "floats", "bits", "include"), lambda v: type(v) is bool),
        **dict.fromkeys(("kernel", "stride", "dilation"), lambda v: _whole(v, 2, 1)),
        **dict.fromkeys(("out", "channels", "groups"), lambda v: _whole([v], 1, 1)),
        "padding": lambda v: _whole(v, 2, 0) and _whole(step["kernel"], 2, 1) and _whole(_dilation(step), 2, 1)
        and all(p <= d * (k - 1) for p, k, d in zip(v, step["kernel"], _dilation(step), strict=True)),
        "before": lambda v: _whole([v], 1, 0),
        "source": lambda v: _whole([v], 1, 0) and v < number_of_values,
        "skip": lambda v: _whole([v], 1, 1) and v < number_of_values,
        "activations": lambda v: v in (1, 32),
    }  # fmt: skip
    for name, value in step.items():
        _require(name == "do" or good[name](value), f"{name} = {value!r} is impossible")


def _expected_tensors(step: dict[str, Any], source: _Value) -> dict[str, tuple]:
    """Of each tensor the dtypes and shapes that it may have."""
    out, channels, kernel = step["out"], source.shape[0], tuple(step.get("kernel", ()))
    each = (_F32, (out,))
    groups = step.get("groups", 1)
    _require(not channels % groups and not out % groups, f"{groups} groups of {channels} channels, to {out}")
    bits = (_BYTES, (out, *kernel, -(-(channels // groups) // 8)))
    return {
        "stem": {"weight": (_F32, (out, channels // groups, *kernel)), "gain": each, "offset": each},
        "project": {"weight": (_F32, (out, channels, *kernel)), "gain": each, "offset": each},
        "binary": {"bits": bits, "alpha": (_F32, (1,), (out,)), "gain": each, "offset": each},
        "threshold": {"bits": bits, "cuts": (_CUTS, (out,)), "flip": (_BYTES, (-(-out // 8),))},
        "affine": {"gain": each, "offset": each},
        "linear": {"weight": (_F32, (out, channels)), "bias": each},
        "activate": {"slope": each, "limits": (_F32, (2,))},
    }.get(step["do"], {})


def _check_tensor(name: str, tensor: torch.Tensor | None, dtypes: tuple, shapes: list[tuple[int, ...]]) -> None:
    _require(tensor is not None, f"its tensor {name!r} is missing")
    found = f"{name!r} is {tensor.dtype} of shape {tuple(tensor.shape)}"
    _require(tensor.dtype in dtypes and tuple(tensor.shape) in shapes, f"{found}, expected {dtypes[0]} {shapes[-1]}")
    _require(bool(torch.isfinite(tensor).all()), f"{name!r} holds values that are not finite")


def _follow(step: dict[str, Any], values: list[_Value], bits: str) -> _Value:
    """The step's value, from what it reads."""
    do, out, source = step["do"], step["out"], values[step["source"]]
    channels, height, width = source.shape
    _require(do != "project" or step["source"] > 0, "a project reads a step's value; a stem reads the image")
    _require(not source.flat or do in _OF_ROWS, f"{do} of rows, expected images")
    if source.flat and "kernel" in step:
        plain = (step["kernel"], step["padding"]) in (((1, 1), (0, 0)), ([1, 1], [0, 0]))
        _require(plain, f"a kernel of {step['kernel']} with padding {step['padding']} of rows")
    _require(step.get("channels", channels) == channels, f"{step.get('channels')} channels, its source has {channels}")
    if do in ("binary", "threshold"):
        _require(step["activations"] == (1 if bits == "1/1" else 32), f"activations = {step['activations']} at {bits}")
    _check_forms(step, source)
    if "kernel" in step:
        height, width = slid((height, width), step["kernel"], step["stride"], step["padding"], _dilation(step))
        _require(height > 0 and width > 0, f"kernel {step['kernel']} does not fit into its source, {source.shape}")
    match do:
        case "project":
            _require(tuple(step["kernel"]) == (1, 1) and not any(step["padding"]), "a project is 1x1, without padding")
        case "max_pool" | "mean_pool":
            for k, p, size in zip(step["kernel"], step["padding"], source.shape[1:], strict=True):
                _require(2 * p <= k <= 2 * size + 1, f"a kernel of {k} with padding {p} for a source of {size}")
        case "pad":
            height, width = (-(-size // s) for size, s in zip((height, width), step["stride"], strict=True))
            _require(step["before"] + channels <= out, f"out = {out} has no room for {channels} channels")
        case "linear":
            _require(source.flat, "linear of images, expected rows")
        case "flatten":
            channels, height, width = channels * height * width, 1, 1
        case "avg_pool":
            height, width = 1, 1
    if do in ("max_pool", "mean_pool", "avg_pool", "flatten", "affine", "activate", "add"):
        _require(out == channels, f"out = {out}, its source gives {channels}")
    shape = (out, height, width)
    if "skip" in step:
        skip = values[step["skip"]]
        _require(skip.floats and skip.shape == shape, f"skips over to {shape} from {skip.shape}")
    return _Value(shape, step["floats"], step["bits"], source.flat or do in ("avg_pool", "flatten"))


def _check_forms(step: dict[str, Any], source: _Value) -> None:
    """Floats or bits: what a step reads must be there, and it can only give what it makes."""
    do, floats, bits = step["do"], step["floats"], step["bits"]
    if do == "max_pool":
        there = (source.floats or not floats) and (source.bits or not bits)
    else:
        there = source.bits if step.get("activations") == 1 else source.floats
    _require(there, "its source is not kept in the form that it reads")
    makes = (floats, bits) == (False, True) if do == "threshold" else floats or bits
    _require(makes, f"{do} cannot give floats = {floats}, bits = {bits}")
