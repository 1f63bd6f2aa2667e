"""What a network is made of, in the order in which it runs: its graph by torch.fx, as modules and additions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from resteutils.models.resnet import PadShortcut
from resteutils.nn.layers import BinaryConv1d, BinaryConv2d, BinaryLinear

__all__ = ["Add", "Part", "parts_of"]


class Add(nn.Module):
    """The sum of two values; in place, the first is no longer what it was."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace


class Part(NamedTuple):
    """A module, its path in the network, and what it reads: value 0 is the images, part k makes value k + 1."""

    path: str
    module: nn.Module
    sources: tuple[int, ...]


FUNCTIONS: dict[str, Callable[..., nn.Module]] = {  # functions and methods of tensors, as modules that do the same
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardtanh": nn.Hardtanh,
    "leaky_relu": nn.LeakyReLU,
    "max_pool2d": nn.MaxPool2d,
    "avg_pool2d": nn.AvgPool2d,
    "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d,
}
DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d")
RESHAPES = ("flatten", "view", "reshape", "squeeze", "unsqueeze", "contiguous")
IMAGES = 2  # in the batch that is followed


class _Tracer(torch.fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        ours = isinstance(m, BinaryConv1d | BinaryConv2d | BinaryLinear | PadShortcut)
        return ours or super().is_leaf_module(m, module_qualified_name)


class _Followed(torch.fx.Interpreter):
    """A graph that is run node by node on blank images, so that shapes, and numbers made of them, are known."""

    def __init__(self, model: nn.Module, size: tuple[int, ...]) -> None:
        try:
            graph = _Tracer().trace(model)
        except Exception as error:  # noqa: BLE001 - whatever a network's own code raises on a symbolic value
            raise ValueError(
                f"{type(model).__name__}.forward cannot be followed by torch.fx: {_said(error)}"
            ) from error
        super().__init__(model, graph=graph)
        self.args_iter = iter([torch.zeros(IMAGES, *size)])
        self.size = size

    def run_node(self, n: torch.fx.Node) -> Any:
        try:
            self.env[n] = super().run_node(n)
        except Exception as error:  # noqa: BLE001 - whatever torch raises where shapes do not fit
            raise ValueError(f"{_path(n)} cannot be run on images of {self.size}: {_said(error)}; for images of "
                             "another size say input_size=(C, H, W)") from error  # fmt: skip
        return self.env[n]

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.fetch_attr(target).forward(*args, **kwargs)  # without its hooks: these are no images of anybody's

    def arguments(self, node: torch.fx.Node) -> tuple[list[Any], dict[str, Any]]:
        """Arguments of a node behind the value that it reads, numbers in place of what they were made of."""
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), self._number)
        left_out = ("input", "self", "inplace", "training")
        return list(args)[len(node.args) > 0 :], {k: v for k, v in kwargs.items() if k not in left_out}

    def _number(self, node: torch.fx.Node) -> Any:
        return node if isinstance(self.env[node], Tensor) else self.env[node]

    def shape(self, node: torch.fx.Node) -> tuple[int, ...]:
        return tuple(self.env[node].shape)


def parts_of(model: nn.Module, size: tuple[int, ...]) -> list[Part]:
    """The parts of a network in evaluation on images of ``size`` (C, H, W), those that only pass a value on left out.

    Values of two and three dimensions are those of four that have the same numbers in the same order.

    Raises ``ValueError``, naming the place, where the way of an image depends on its numbers, where shapes do not fit,
    or where something is neither a module nor a function that a module stands for.
    """
    followed = _Followed(model, size)
    parts: list[Part] = []
    values: dict[torch.fx.Node, int] = {}
    for node in followed.graph.nodes:
        if node.op == "placeholder":
            if values:
                raise ValueError(f"{node.name}: a network of more than one input has no packed form")
            values[node] = 0
            followed.run_node(node)
        elif node.op == "output":
            if values.get(node.args[0]) != len(parts):
                raise ValueError("a network that returns something else than its last value has no packed form")
        elif _is_value(followed.run_node(node)):
            inputs = [each for each in (*node.args, *node.kwargs.values()) if isinstance(each, torch.fx.Node)]
            inputs = [each for each in inputs if each in values]
            values[node] = values[inputs[0]] if inputs else 0
            for number, module in enumerate(_modules(node, inputs, followed, model)):
                sources = (len(parts),) if number else tuple(values[each] for each in inputs)
                parts.append(Part(_path(node), module, sources))
                values[node] = len(parts)
                if getattr(module, "inplace", False):  # whoever else holds what it read holds its result now
                    values |= {other: len(parts) for other, value in values.items() if value == sources[0]}
    return parts


def _is_value(result: Any) -> bool:
    """Whether a node made numbers of the images, rather than a size."""
    return isinstance(result, Tensor) or isinstance(result, tuple | list) and any(map(_is_value, result))


def _said(error: Exception) -> str:
    return " ".join(str(error).split())


def _named(node: torch.fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _path(node: torch.fx.Node) -> str:
    if node.op in ("call_module", "get_attr", "placeholder"):
        return str(node.target)
    return ".".join([*[*node.meta.get("nn_module_stack", ())][-1:], f"{_named(node)}()"])


def _modules(
    node: torch.fx.Node, inputs: list[torch.fx.Node], followed: _Followed, model: nn.Module
) -> list[nn.Module]:
    """The modules that do what a node does, one after the other; none where it only passes its value on."""
    path, name = _path(node), _named(node)
    if node.op == "get_attr":
        raise ValueError(f"{path}: a parameter used by itself has no packed form")
    if not isinstance(followed.env[node], Tensor) or not inputs or followed.env[node].dtype != torch.float32:
        raise ValueError(f"{path} has no packed form")
    old, new = followed.shape(inputs[0]), followed.shape(node)
    rest, named = followed.arguments(node)
    inplace = name == "iadd" or name.endswith("_") or bool(node.kwargs.get("inplace"))
    name = name.strip("_")
    module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, nn.Identity | nn.modules.dropout._DropoutNd):
        return []
    if isinstance(module, nn.Flatten | nn.Unflatten) or module is None and (name in RESHAPES or _whole(name, rest)):
        return _reshape(path, old, new)
    if module is None and name == "mean":
        return _mean(path, old, new, rest, named)
    if len(old) not in (2, 4) or isinstance(module, nn.Linear) and len(old) != 2:
        raise ValueError(f"{path} of a value of shape (N, {', '.join(map(str, old[1:]))}) has no packed form")
    if module is not None:
        return [module]
    if name in ("add", "iadd"):
        if named or len(inputs) != 2 or len(rest) != 1:
            raise ValueError(f"{path}: only a sum of two values of the network has a packed form")
        if followed.shape(inputs[1]) != old:
            raise ValueError(
                f"{path}: a sum of shapes {old[1:]} and {followed.shape(inputs[1])[1:]} has no packed form"
            )
        return [Add(inplace)]
    if name in DROPOUTS:
        if node.kwargs.get("training", node.args[2] if len(node.args) > 2 else True):
            raise ValueError(f"{path} with training = True drops in evaluation too: say training=self.training")
        return []
    if name not in FUNCTIONS:
        raise ValueError(f"{path} has no packed form")
    module = FUNCTIONS[name](*rest, **named)
    module.inplace = inplace
    return [module]


def _whole(name: str, rest: list[Any]) -> bool:
    """Whether it is an index of numbers and slices, ``x[:, :, 0, 0]``, which keeps the order."""
    index = rest[0] if name == "getitem" and isinstance(rest[0], tuple) else ()
    return bool(index) and all(isinstance(each, int | slice) or each in (None, ...) for each in index)


def _reshape(path: str, old: tuple[int, ...], new: tuple[int, ...]) -> list[nn.Module]:
    """A change of shape, all numbers in their order: flattened, or as the channels' numbers in another arrangement that
    has no step.
    """
    if new[:1] == old[:1] and math.prod(new) == math.prod(old):
        if new == old:
            return []
        if len(new) == 2:
            return [nn.Flatten()]
        if new[1] == old[1] and (len(new) == 3 or len(new) == 4 and new[2:] == (1, 1)):
            return []
    raise ValueError(f"{path} from {old[1:]} to {new[1:]} has no packed form")


def _mean(
    path: str, old: tuple[int, ...], new: tuple[int, ...], rest: list[Any], named: dict[str, Any]
) -> list[nn.Module]:
    """A mean over height, width or both."""
    over = rest[0] if rest else named.pop("dim", None)
    over = {over} if isinstance(over, int) else set(over or ())
    over = {dim % len(old) for dim in over}
    if named.pop("keepdim", None) in (None, True, False) and not named and new[:2] == old[:2] and over - {0, 1}:
        if len(over) == len(old) - 2:
            return [nn.AdaptiveAvgPool2d(1), *([nn.Flatten()] if len(new) == 2 else [])]
        return [nn.AvgPool2d((1, old[3]) if over == {3} else (old[2], 1))]
    raise ValueError(f"{path} over something else than height and width has no packed form")
