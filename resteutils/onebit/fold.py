"""A trained network as a short program over bits: its parts, folded into the steps of a packed model.

A convolution takes the ReLU, the BatchNorm and the addition behind it into its step. A threshold is found by evaluating
the model's own scale, ReLU and BatchNorm at every integer that the convolution can yield, so rounding cannot move it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from resteutils.models.resnet import PadShortcut
from resteutils.nn.binarize import scale_of, sign
from resteutils.nn.layers import BinaryConv2d, BinaryLinear, binary_layers
from resteutils.onebit.parts import Add, Part, parts_of
from resteutils.onebit.program import Program, pack_signs, slid

__all__ = ["fold", "input_size_of"]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.PReLU, nn.LeakyReLU)
LARGEST = torch.finfo(torch.float32).max


def input_size_of(model: nn.Module) -> tuple[int, int, int]:
    """(C, H, W) of the images that a network was built for, as far as it says so; else 32x32."""
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return getattr(model, "input_size", (first.in_channels if first else 3, 32, 32))


def fold(model: nn.Module, input_size: tuple[int, int, int] | None = None) -> Program:
    """The program of a trained network at W/A 1/1 or 1/32, for images of ``input_size`` (C, H, W).

    Raises ``ValueError``, naming the layer, for a network without binary layers, with weights that are not finite, or
    built of parts that have no packed form.
    """
    if not binary_layers(model):
        raise ValueError("this network has no binary layers to pack; build it with bits='1/1' or '1/32'")
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not finite; this network cannot be packed")
    with torch.no_grad():
        size = tuple(input_size or input_size_of(model))
        program = _Folder(parts_of(model.eval(), size), size).run()
        _decide_forms(program)
    return program


class _Folder:
    """Turns parts into steps. Values of the parts and values of the program are counted apart."""

    def __init__(self, parts: list[Part], size: tuple[int, ...]) -> None:
        self.parts, self.program = parts, Program()
        self.shapes = [size]  # of the program's values
        self.values = {0: 0}  # the program's value of a part's; activations come when somebody reads them
        self.waiting: dict[int, tuple[int, nn.Module]] = {}
        self.readers: dict[int, list[int]] = {}
        for index, part in enumerate(parts):
            for source in part.sources:
                self.readers.setdefault(source, []).append(index)

    def run(self) -> Program:
        for index, part in enumerate(self.parts):
            if index + 1 not in self.values:
                try:
                    self._fold(index, part)
                except ValueError as error:
                    raise ValueError(f"{part.path}: {error}") from None
        self._value(len(self.parts))
        return self.program

    def _fold(self, index: int, part: Part) -> None:
        module, source = part.module, part.sources[0]
        if isinstance(module, ACTIVATIONS):
            self.waiting[index + 1] = (source, module)
        elif isinstance(module, nn.Conv2d | BinaryLinear):
            self._product(index, module, source)
        elif isinstance(module, NORMS):
            gain, offset = _batch_norm(module)
            self._step(index, "affine", source, {"gain": gain, "offset": offset}, relu=False)
        elif isinstance(module, Add):
            self._add(index, part.sources)
        elif isinstance(module, nn.MaxPool2d):
            _refuse(module, ceil_mode=False, return_indices=False, dilation=(1, 1))
            self._window(index, "max_pool", source, module.kernel_size, module.stride, module.padding)
        elif isinstance(module, nn.AvgPool2d):
            _refuse(module, ceil_mode=False, divisor_override=None)
            include = bool(module.count_include_pad)
            self._window(index, "mean_pool", source, module.kernel_size, module.stride, module.padding, include=include)
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            self._adaptive(index, module, source)
        elif isinstance(module, nn.Flatten):
            self._flatten(index, source)
        elif isinstance(module, PadShortcut):
            channels = self._shape(source)[0]
            out = module.before + channels + module.after
            self._step(index, "pad", source, stride=_pair(module.stride), before=module.before, out=out,
                       channels=channels)  # fmt: skip
        elif isinstance(module, nn.Linear):
            bias = torch.zeros(module.out_features) if module.bias is None else module.bias
            self._step(index, "linear", source, {"weight": module.weight, "bias": bias}, out=module.out_features)
        else:
            raise ValueError(f"{type(module).__name__} has no packed form")

    # --- values ------------------------------------------------------------------------------------------------------

    def _value(self, value: int, signs: bool = False) -> int:
        """The program's value of a part's; where only its signs are asked for, of what has the same signs."""
        if value not in self.values:
            source, module = self.waiting[value]
            slope, low, high = _line(module, self._shape(source)[0])
            if signs and low < 0 < high and (slope > 0).all():
                return self._value(source, signs)
            tensors = {"slope": slope, "limits": torch.tensor([low, high])}
            self.values[value] = self._add_step("activate", self._value(source), tensors)
        number = self.values[value]
        if signs and number == 0:  # the image is floats; a step makes bits of them
            ones = torch.ones(self.shapes[0][0])
            number = self.values[value] = self._add_step(
                "affine", 0, {"gain": ones, "offset": torch.zeros_like(ones)}, relu=False
            )
        return number

    def _shape(self, value: int) -> tuple[int, ...]:
        while value in self.waiting:
            value = self.waiting[value][0]
        return self.shapes[self.values[value]]

    def _add_step(self, do: str, source: int, tensors: dict[str, Tensor] | None = None, **fields: Any) -> int:
        """A step whose image is as large as its source, or as ``height_width`` says."""
        channels, *size = self.shapes[source]
        stride = fields.get("stride", (1, 1))
        size = fields.pop("height_width", tuple(-(-n // s) for n, s in zip(size, stride, strict=True)))
        fields.setdefault("out", channels)
        self.shapes.append((fields["out"], *size))
        return self.program.add(do, source, tensors, **fields)

    def _step(self, index: int, do: str, source: int, tensors: dict[str, Tensor] | None = None, **fields: Any) -> None:
        self.values[index + 1] = self._add_step(do, self._value(source), tensors, **fields)

    # --- parts -------------------------------------------------------------------------------------------------------

    def _window(self, index: int, do: str, source: int, kernel: Any, stride: Any, padding: Any, **fields: Any) -> None:
        kernel, stride, padding = _pair(kernel), _pair(stride), _pair(padding)
        size = slid(self._shape(source)[1:], kernel, stride, padding)
        self._step(index, do, source, kernel=kernel, stride=stride, padding=padding, **fields, height_width=size)

    def _adaptive(self, index: int, pool: nn.AdaptiveAvgPool2d, source: int) -> None:
        size, wanted = self._shape(source)[1:], _pair(pool.output_size)
        wanted = tuple(n if w is None else w for n, w in zip(size, wanted, strict=True))
        behind = [self.parts[reader].module for reader in self.readers.get(index + 1, ())]
        if wanted == (1, 1) and all(isinstance(module, nn.Flatten) for module in behind):
            self._step(index, "avg_pool", source, height_width=(1, 1))
        elif any(n % w for n, w in zip(size, wanted, strict=True)):
            raise ValueError(
                f"AdaptiveAvgPool2d with output_size = {pool.output_size!r} of {tuple(size)} has no packed form: "
                "expected a divisor of that size"
            )
        else:
            kernel = tuple(n // w for n, w in zip(size, wanted, strict=True))
            self._window(index, "mean_pool", source, kernel, kernel, 0, include=True)

    def _flatten(self, index: int, source: int) -> None:
        number = self._value(source)
        if self.program.steps and self.program.steps[number - 1]["do"] == "avg_pool":
            self.values[index + 1] = number
        else:
            self._step(index, "flatten", source, out=math.prod(self.shapes[number]), height_width=(1, 1))

    def _add(self, index: int, sources: tuple[int, ...]) -> None:
        one, other = (self._image_floats(source) for source in sources)
        if self.shapes[one] != self.shapes[other]:
            raise ValueError(f"a sum of shapes {self.shapes[one]} and {self.shapes[other]} has no packed form")
        self.values[index + 1] = self._add_step("add", one, skip=other)

    def _image_floats(self, value: int) -> int:
        return self._value(value, signs=value == 0)  # the image itself is no step's skip

    def _behind(self, index: int) -> tuple[bool, nn.Module | None, int | None, list[int]]:
        """ReLU, BatchNorm and skip behind a convolution, and the parts that its step takes in."""
        taken = [index]

        def following(*kinds: type[nn.Module]) -> nn.Module | None:
            readers = self.readers.get(taken[-1] + 1, ())
            module = self.parts[readers[0]].module if len(readers) == 1 else None
            if not isinstance(module, kinds) or isinstance(module, nn.ReLU6):
                return None
            taken.append(readers[0])
            return module

        biased = self.parts[index].module.bias is not None  # added before both, which are then steps of their own
        relu = not biased and following(nn.ReLU) is not None
        norm = None if biased else following(*NORMS)
        skip = None
        if isinstance(self.parts[index].module, BinaryConv2d | BinaryLinear) and following(Add) is not None:
            others = [each for each in self.parts[taken[-1]].sources if each != taken[-2] + 1]
            if others and (others[0] in self.values or others[0] in self.waiting):
                skip = self._image_floats(others[0])
            else:  # it comes later: an addition of its own
                taken.pop()
        return relu, norm, skip, taken

    def _product(self, index: int, layer: nn.Conv2d | BinaryLinear, source: int) -> None:
        relu, norm, skip, taken = self._behind(index)
        fields = _fields(layer) | {"relu": relu}
        out, shape = fields["out"], self._shape(source)
        bias = torch.zeros(out) if layer.bias is None else layer.bias
        gain, offset = (torch.ones(out), bias) if norm is None else _batch_norm(norm)
        size = slid(shape[1:], fields["kernel"], fields["stride"], fields["padding"], fields.get("dilation", (1, 1)))
        groups = {} if getattr(layer, "groups", 1) == 1 else {"groups": layer.groups}
        if skip is not None and self.shapes[skip] != (out, *size):
            raise ValueError(f"a sum of shapes {(out, *size)} and {self.shapes[skip]} has no packed form")
        if not isinstance(layer, BinaryConv2d | BinaryLinear):
            number = self._value(source)
            plain = fields["kernel"] == (1, 1) and fields["padding"] == (0, 0) and number and not groups
            tensors = {"weight": layer.weight, "gain": gain, "offset": offset}
            value = self._add_step("project" if plain else "stem", number, tensors, **fields, **groups,
                                   height_width=size)  # fmt: skip
        else:
            weight = layer.effective_weight()
            alpha = scale_of(weight, layer.scale)
            alpha = torch.ones(1) if alpha is None else alpha.view(-1)
            weight = weight.view(*weight.shape, 1, 1) if weight.dim() == 2 else weight
            tensors = {"bits": pack_signs(sign(weight)), "alpha": alpha, "gain": gain, "offset": offset}
            if layer.binarize_input:
                limit = weight[0].numel()
                tensors["cuts"], tensors["flip"] = _thresholds(limit, alpha, bias, relu, norm)
            fields |= {"activations": 1 if layer.binarize_input else 32}
            fields |= groups | ({} if skip is None else {"skip": skip})
            value = self._add_step("binary", self._value(source, signs=layer.binarize_input), tensors, **fields,
                                   height_width=size)  # fmt: skip
        for part in taken:
            self.values[part + 1] = value


def _fields(layer: nn.Conv2d | BinaryLinear) -> dict[str, Any]:
    """Kernel, stride, padding and channels of a layer. Raises ``ValueError`` for what its step would not compute."""
    if isinstance(layer, nn.Linear):
        fields = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0)}
        return fields | {"channels": layer.in_features, "out": layer.out_features}
    _refuse(layer, padding_mode="zeros")
    if isinstance(layer.padding, str):
        raise ValueError(f"a convolution with padding = {layer.padding!r} has no packed form: say how many pixels")
    kernel, padding, dilation = _pair(layer.kernel_size), _pair(layer.padding), _pair(layer.dilation)
    most = tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
    if any(p > m for p, m in zip(padding, most, strict=True)):  # whole windows of padding
        raise ValueError(
            f"a convolution with padding = {padding} around a kernel of {kernel} has no packed form: expected at most "
            f"{most}"
        )
    fields = {"kernel": kernel, "stride": _pair(layer.stride), "padding": padding}
    fields |= {} if dilation == (1, 1) or kernel == (1, 1) else {"dilation": dilation}
    return fields | {"channels": layer.in_channels, "out": layer.out_channels}


def _line(module: nn.Module, channels: int) -> tuple[Tensor, float, float]:
    """Slope below zero, per channel, lowest and highest value of an activation."""
    slope, low, high = torch.ones(channels), -LARGEST, LARGEST
    if isinstance(module, nn.ReLU):
        low = 0.0
    elif isinstance(module, nn.Hardtanh):  # ReLU6 is one
        low, high = float(module.min_val), float(module.max_val)
    else:
        slope = slope * (module.weight if isinstance(module, nn.PReLU) else module.negative_slope)
    return slope, low, high


def _refuse(module: nn.Module, **expected: Any) -> None:
    """Raise ``ValueError`` where a module computes something that its step would not."""
    for name, value in expected.items():
        found = getattr(module, name)
        if (_pair(found) if isinstance(value, tuple) else found) != value:
            raise ValueError(f"{type(module).__name__} with {name} = {found!r} has no packed form, expected {value!r}")


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


def _thresholds(limit: int, alpha: Tensor, bias: Tensor, relu: bool, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """cuts (int32) and flip (bool) per channel: the sign is -1 where (n < cut) != flip."""
    n = torch.arange(-limit, limit + 1, dtype=torch.float32).view(-1, 1, 1, 1)
    alpha = alpha.expand(len(bias))
    cuts, flips = [], []
    for part in torch.arange(len(bias)).split(64):  # a slice of the channels at a time bounds the memory
        y = n * alpha[part].view(1, -1, 1, 1) + bias[part].view(1, -1, 1, 1)
        y = y.relu() if relu else y
        if norm is not None:
            numbers = (norm.running_mean[part], norm.running_var[part], norm.weight[part], norm.bias[part])
            y = nn.functional.batch_norm(y, *numbers, eps=norm.eps)
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


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
