"""A trained network as a short program over bits: which steps a packed model takes, and the numbers each one needs.

A program is a list of steps. Value 0 is the image batch; step k makes value k + 1. Every step names its operation
(``do``), the value it reads (``source``) and what its result must be available as: ``floats``, ``bits`` (signs) or
both.

====================  ===========================================================================================
stem, project         full-precision convolution (3x3 or 7x7 of the image; 1x1), then ReLU if ``relu``, then
                      ``x * gain + offset``: the folded BatchNorm
binary                signs of the source (as they are where ``activations`` is 32) convolved with ``bits``: exact
                      integers n; then ``relu(n * alpha) * gain + offset``, plus the value ``skip`` if there is one
threshold             the same where only the sign is needed: +1 where n >= ``threshold``, reversed where ``flip``
max_pool, pad,        what they say; sign(max) is the maximum of the signs, so bits are pooled as bits
avg_pool, flatten
affine                ``x * gain + offset`` per channel
linear                ``x @ weight.T + bias``
====================  ===========================================================================================

A threshold is found by evaluating the model's own scale, ReLU and BatchNorm at every integer that the convolution can
yield, so rounding cannot move it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resteutils.models.resnet import Block, PadShortcut, ResNet
from resteutils.nn.binarize import scale_of, sign
from resteutils.nn.layers import BinaryConv2d, BinaryLinear, binary_layers

__all__ = ["Program", "fold", "pack_signs", "unpack_signs"]


@dataclass
class Program:
    """Steps, and their tensors by name: ``"<number of the step>.<name>"``."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def add(self, do: str, source: int, tensors: dict[str, Tensor] | None = None, **fields: Any) -> int:
        """Append a step; return the number of its value."""
        self.tensors.update(
            {f"{len(self.steps)}.{name}": t.detach().contiguous() for name, t in (tensors or {}).items()}
        )
        self.steps.append({"do": do, "source": source, **fields})
        return len(self.steps)

    def of(self, step: int, name: str) -> Tensor:
        return self.tensors[f"{step}.{name}"]


def fold(model: nn.Module) -> Program:
    """The program of a trained network of :mod:`resteutils.models` at W/A 1/1 or 1/32.

    Raises ``ValueError`` for a network without binary layers, with weights that are not finite, or built of parts that
    have no packed form.
    """
    if not binary_layers(model):
        raise ValueError("this network has no binary layers to pack; build it with bits='1/1' or '1/32'")
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not finite; this network cannot be packed")
    program = Program()
    with torch.no_grad():
        if isinstance(model, ResNet):
            value = _chain(program, model.stem, 0)
            for block in model.blocks:
                value = _block(program, block, value)
            _chain(program, model.head, value)
        elif isinstance(model, nn.Sequential):
            _chain(program, model, 0)
        else:
            raise ValueError(f"{type(model).__name__} has no packed form; networks come from resteutils.create")
        _decide_forms(program)
    return program


def _chain(program: Program, parts: nn.Sequential, value: int, skip: int | None = None) -> int:
    """Modules one after the other; a convolution takes the ReLU and the BatchNorm behind it into its step."""
    modules = list(parts)
    while modules:
        module = modules.pop(0)
        if isinstance(module, nn.Sequential):
            value = _chain(program, module, value)
        elif isinstance(module, nn.Conv2d):
            relu = bool(modules) and isinstance(modules[0], nn.ReLU) and modules.pop(0) is not None
            if not modules or not isinstance(modules[0], (nn.BatchNorm2d, nn.SyncBatchNorm)):  # the same, in evaluation
                raise ValueError("a convolution without a BatchNorm behind it has no packed form")
            value = _convolution(program, module, relu, modules.pop(0), value, skip)
        elif isinstance(module, nn.MaxPool2d):
            _refuse(module, ceil_mode=False, return_indices=False, dilation=(1, 1))
            if not program.steps:
                raise ValueError("a packed network begins with a convolution")
            value = program.add("max_pool", value, kernel=_pair(module.kernel_size), stride=_pair(module.stride),
                                padding=_pair(module.padding), out=program.steps[-1]["out"])  # fmt: skip
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            _refuse(module, output_size=(1, 1))
            value = program.add("avg_pool", value, out=program.steps[-1]["out"])
        elif isinstance(module, nn.Flatten):
            if program.steps[-1]["do"] != "avg_pool":
                following = next((m for m in modules if isinstance(m, nn.Linear)), None)
                if following is None:
                    raise ValueError("a Flatten needs a Linear behind it, whose size is that of the rows")
                value = program.add("flatten", value, out=following.in_features)
        elif isinstance(module, (nn.BatchNorm1d, nn.SyncBatchNorm)):
            gain, offset = _batch_norm(module)
            value = program.add("affine", value, {"gain": gain, "offset": offset}, relu=False, out=module.num_features)
        elif isinstance(module, nn.Linear) and not isinstance(module, BinaryLinear):
            bias = torch.zeros(module.out_features) if module.bias is None else module.bias
            tensors = {"weight": module.weight, "bias": bias}
            value = program.add("linear", value, tensors, out=module.out_features)
        else:
            raise ValueError(f"{type(module).__name__} has no packed form")
    return value


def _block(program: Program, block: Block, value: int) -> int:
    skip = value
    if isinstance(block.shortcut, PadShortcut):
        s, width = block.shortcut, block.first[2].num_features
        shape = {"stride": (s.stride, s.stride), "before": s.before, "out": width}
        skip = program.add("pad", value, **shape, channels=width - s.before - s.after)
    elif isinstance(block.shortcut, nn.Sequential):
        conv, norm = block.shortcut
        skip = _convolution(program, conv, False, norm, value, None)
    first = _chain(program, block.first, value, skip if block.double_skip else None)
    return _chain(program, block.second, first, first if block.double_skip else skip)


def _refuse(module: nn.Module, **expected: Any) -> None:
    """Raise ``ValueError`` where a module computes something that its step would not."""
    for name, value in expected.items():
        found = getattr(module, name)
        if (_pair(found) if isinstance(value, tuple) else found) != value:
            raise ValueError(f"{type(module).__name__} with {name} = {found!r} has no packed form, expected {value!r}")


def _convolution(program: Program, conv: nn.Conv2d, relu: bool, norm: nn.Module, value: int, skip: int | None) -> int:
    if conv.bias is not None:
        raise ValueError("a convolution with a bias has no packed form: bias=False, the BatchNorm behind it has one")
    _refuse(conv, dilation=(1, 1), groups=1, padding_mode="zeros")
    if isinstance(conv.padding, str):
        raise ValueError(f"a convolution with padding = {conv.padding!r} has no packed form: say how many pixels")
    kernel, padding = _pair(conv.kernel_size), _pair(conv.padding)
    if any(p >= k for p, k in zip(padding, kernel, strict=True)):  # whole windows of padding
        raise ValueError(
            f"a convolution with padding = {padding} around a kernel of {kernel} has no packed form: expected at most "
            f"{tuple(k - 1 for k in kernel)}"
        )
    gain, offset = _batch_norm(norm)
    fields = {"kernel": kernel, "stride": _pair(conv.stride), "padding": padding}
    fields |= {"channels": conv.in_channels, "out": conv.out_channels, "relu": relu}
    if not isinstance(conv, BinaryConv2d):
        do = "project" if conv.kernel_size == (1, 1) else "stem"
        return program.add(do, value, {"weight": conv.weight, "gain": gain, "offset": offset}, **fields)
    weight = conv.effective_weight()
    alpha = scale_of(weight, conv.scale)
    alpha = torch.ones(1) if alpha is None else alpha.view(-1)
    tensors = {"bits": pack_signs(sign(weight)), "alpha": alpha, "gain": gain, "offset": offset}
    if conv.binarize_input:
        tensors["cuts"], tensors["flip"] = _thresholds(conv, alpha, relu, norm)
    fields |= {"activations": 1 if conv.binarize_input else 32}
    return program.add("binary", value, tensors, **fields, **({} if skip is None else {"skip": skip}))


def _batch_norm(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """gain and offset with x * gain + offset = norm(x): what torch's own BatchNorm makes of 1 and of 0.

    Asked rather than calculated: ``torch.sqrt`` is not the root that BatchNorm takes, on AMD processors it is a last
    bit off, and that bit decides signs.
    """
    _refuse(norm, affine=True, track_running_stats=True)
    zeros = torch.zeros_like(norm.running_mean)
    one, zero = torch.ones(1, len(zeros), 1, 1), torch.zeros(1, len(zeros), 1, 1)
    gain = nn.functional.batch_norm(one, zeros, norm.running_var, norm.weight, zeros, eps=norm.eps)
    offset = nn.functional.batch_norm(zero, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    return gain.view(-1), offset.view(-1)


def _thresholds(conv: BinaryConv2d, alpha: Tensor, relu: bool, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """cuts (int32) and flip (bool) per channel: the sign is -1 where (n < cut) != flip."""
    limit = conv.weight[0].numel()
    n = torch.arange(-limit, limit + 1, dtype=torch.float32).view(-1, 1, 1, 1)
    alpha = alpha.expand(conv.out_channels)
    cuts, flips = [], []
    for part in torch.arange(conv.out_channels).split(64):  # a slice of the channels at a time bounds the memory
        y = n * alpha[part].view(1, -1, 1, 1)
        numbers = (norm.running_mean[part], norm.running_var[part], norm.weight[part], norm.bias[part])
        y = nn.functional.batch_norm(y.relu() if relu else y, *numbers, eps=norm.eps)
        negative = y[:, :, 0, 0] < 0
        if ((negative[1:] != negative[:-1]).sum(dim=0) > 1).any():
            raise ValueError("a sign changes more than once over the integers: its BatchNorm is not monotone")
        flip = ~negative[0] & negative[-1]  # -1 from some n upwards
        cuts.append((negative ^ flip).sum(dim=0) - limit)
        flips.append(flip)
    return torch.cat(cuts).to(torch.int32), torch.cat(flips)


def _decide_forms(program: Program) -> None:
    """Who reads a value decides its form; a binary step read only as signs becomes a threshold."""
    steps = program.steps
    for value in range(len(steps), 0, -1):
        step, readers = steps[value - 1], [s for s in steps if s["source"] == value]
        step["bits"] = any(_reads(reader, "bits") for reader in readers)
        step["floats"] = (
            not readers or any(_reads(r, "floats") for r in readers) or any(s.get("skip") == value for s in steps)
        )
        if step["do"] == "binary":
            unused = ("cuts", "flip")
            if step["activations"] == 1 and not step["floats"] and "skip" not in step:
                step["do"], unused = "threshold", ("alpha", "gain", "offset")
            for name in unused:
                program.tensors.pop(f"{value - 1}.{name}", None)
    program.tensors = {name: _smallest(name, tensor) for name, tensor in program.tensors.items()}


def _reads(reader: dict[str, Any], form: str) -> bool:
    """Whether a step needs its source as "bits" or as "floats"."""
    if reader["do"] in ("binary", "threshold"):
        return (reader["activations"] == 1) == (form == "bits")
    if reader["do"] == "max_pool":
        return reader[form]
    return form == "floats"


def _smallest(name: str, tensor: Tensor) -> Tensor:
    """Thresholds fit in 16 bits in every network here; flips are bits."""
    if name.endswith(".flip"):
        return pack_signs(1 - 2 * tensor.float().view(1, -1, 1, 1)).view(-1)
    if name.endswith(".cuts") and tensor.abs().max() < 2**15:
        return tensor.to(torch.int16)
    return tensor


def pack_signs(signs: Tensor) -> Tensor:
    """(O, C, kh, kw) -> uint8 (O, kh, kw, ceil(C / 8)): eight channels a byte, lowest bit first, 1 for -1."""
    bits = np.packbits((signs.permute(0, 2, 3, 1) < 0).numpy(), axis=-1, bitorder="little")
    return torch.from_numpy(bits)


def unpack_signs(bits: Tensor, channels: int) -> Tensor:
    """The signs, float32 (O, C, kh, kw), that :func:`pack_signs` packed."""
    ones = np.unpackbits(bits.numpy(), axis=-1, count=channels, bitorder="little")
    return torch.from_numpy(1 - 2 * ones.astype(np.float32)).permute(0, 3, 1, 2).contiguous()


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
