"""What a network is made of, in the order in which it runs: its graph by torch.fx, as modules and additions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

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
    "dropout": nn.Dropout,
    "max_pool2d": nn.MaxPool2d,
    "avg_pool2d": nn.AvgPool2d,
    "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d,
}
SPATIAL = ([2, 3], (2, 3), [-2, -1], (-2, -1))


class _Tracer(torch.fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        ours = isinstance(m, BinaryConv1d | BinaryConv2d | BinaryLinear | PadShortcut)
        return ours or super().is_leaf_module(m, module_qualified_name)


def parts_of(model: nn.Module) -> list[Part]:
    """The parts of a network in evaluation, those that only pass a value on left out.

    Raises ``ValueError``, naming the place, where the way of an image depends on its numbers, or where something is
    neither a module nor a function that a module stands for.
    """
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # noqa: BLE001 - whatever a network's own code raises on a symbolic value
        said = " ".join(str(error).split())
        raise ValueError(f"{type(model).__name__}.forward cannot be followed by torch.fx: {said}") from error
    parts: list[Part] = []
    values: dict[torch.fx.Node, int] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            if values:
                raise ValueError(f"{node.name}: a network of more than one input has no packed form")
            values[node] = 0
        elif node.op == "output":
            if values.get(node.args[0]) != len(parts):
                raise ValueError("a network that returns something else than its last value has no packed form")
        elif not (node.op == "call_method" and node.target in ("size", "dim")):
            path, modules = _modules(node, model)
            for module in modules:
                read = [values[each] for each in node.args if isinstance(each, torch.fx.Node) and each in values]
                sources = tuple(read) if module is modules[0] else (len(parts),)
                if isinstance(module, nn.Identity | nn.modules.dropout._DropoutNd):
                    values[node] = sources[0]
                    continue
                parts.append(Part(path, module, sources))
                values[node] = len(parts)
                if getattr(module, "inplace", False):  # whoever else holds what it read holds its result now
                    values |= {other: len(parts) for other, value in values.items() if value == sources[0]}
    return parts


def _modules(node: torch.fx.Node, model: nn.Module) -> tuple[str, list[nn.Module]]:
    """The path of a node, and the modules that do what it does, one after the other."""
    if node.op == "call_module":
        return str(node.target), [model.get_submodule(str(node.target))]
    owner = [*node.meta.get("nn_module_stack", ())][-1:]
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    path = ".".join([*owner, f"{name}()"])
    rest, named = tuple(node.args[1:]), {k: v for k, v in node.kwargs.items() if k not in ("inplace", "training")}
    inplace = name == "iadd" or name.endswith("_") or bool(node.kwargs.get("inplace"))
    name = name.strip("_")
    if node.op == "get_attr":
        raise ValueError(f"{path.removesuffix('()')}: a parameter used by itself has no packed form")
    if name in ("add", "iadd"):
        if named or len(rest) != 1 or not all(isinstance(each, torch.fx.Node) for each in node.args):
            raise ValueError(f"{path}: only a sum of two values of the network has a packed form")
        return path, [Add(inplace)]
    if name == "flatten":
        return path, [nn.Flatten(*(rest or (named.get("start_dim", 0),)))]
    if name in ("view", "reshape") and len(rest) == 2 and rest[1] == -1:
        return path, [nn.Flatten()]
    if name == "mean" and rest and rest[0] in SPATIAL and not named:
        return path, [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if name == "dropout":
        return path, [nn.Dropout()]
    if name not in FUNCTIONS:
        raise ValueError(f"{path} has no packed form")
    module = FUNCTIONS[name](*rest, **named)
    module.inplace = inplace
    return path, [module]
