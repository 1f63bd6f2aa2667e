"""Which layers of a network can be binary, and why the others stay in float."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.utils import parametrize

from resteutils.nn.layers import BinaryConv1d, BinaryConv2d, BinaryLinear, _Binary

__all__ = ["FLOAT", "TWINS", "Conversion", "ConvertedLayer", "Skip", "layers_of", "padding_of", "reasons_of", "size_of"]

Skip = str | Iterable[str] | Callable[[str, nn.Module], bool]

FLOAT = "32/32"
TWINS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: BinaryConv1d,
    nn.Conv2d: BinaryConv2d,
    nn.Linear: BinaryLinear,
}
NO_PRODUCT = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class ConvertedLayer:
    """What became of a layer: W/A ``bits`` "1/1" or "1/32" where it is binary, "32/32" where it is float; why it was
    left as it was, "" where it was replaced."""

    name: str
    kind: str
    weights: int
    bits: str
    why: str = ""


@dataclass(frozen=True)
class Conversion:
    """What :func:`binarize_model` did with each layer that has weights; printed, it is a table."""

    layers: tuple[ConvertedLayer, ...]

    @property
    def replaced(self) -> tuple[ConvertedLayer, ...]:
        """Layers that were made binary."""
        return tuple(layer for layer in self.layers if not layer.why)

    @property
    def left(self) -> tuple[ConvertedLayer, ...]:
        """Layers that stay as they are."""
        return tuple(layer for layer in self.layers if layer.why)

    def __str__(self) -> str:
        width = max([5, *(len(layer.name) for layer in self.layers)])
        rows = [f"{'layer':<{width}}  {'kind':<24}{'weights':>12}  W/A    why"]
        rows += [f"{row.name:<{width}}  {row.kind:<24}{row.weights:>12,}  {row.bits:<5}  {row.why}".rstrip()
                 for row in self.layers]  # fmt: skip
        binary = [row for row in self.layers if row.bits != FLOAT]
        share = 100 * sum(row.weights for row in binary) / max(sum(row.weights for row in self.layers), 1)
        return "\n".join([*rows, f"{len(binary)} of {len(self.layers)} layers binary, {share:.1f} % of weights"])


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every module that owns weights of two dimensions or more, or quantized ones, but norms.

    Attention and parametrized modules count as one.
    """
    found: dict[str, nn.Module] = {}
    whole: tuple[str, ...] = ()
    for name, module in model.named_modules(remove_duplicate=False):
        if name.startswith(whole) and whole or isinstance(module, NO_PRODUCT):
            continue
        if isinstance(module, nn.MultiheadAttention) or parametrize.is_parametrized(module):
            found[name], whole = module, (*whole, f"{name}.")
        elif _is_quantized(module) or any(
            nn.parameter.is_lazy(p) or p.dim() > 1 for p in module.parameters(recurse=False)
        ):
            found[name] = module
    return found


def _is_quantized(module: nn.Module) -> bool:
    """Whether it holds its weights packed, as torch.ao's quantized layers do: ``weight`` is then a method."""
    return callable(getattr(module, "weight", None))


def size_of(module: nn.Module) -> int:
    """Number of weights of a module that :func:`layers_of` found."""
    if _is_quantized(module):
        return module.weight().numel()
    return sum(0 if nn.parameter.is_lazy(p) else p.numel() for p in _own(module))


def _own(module: nn.Module) -> list[nn.Parameter]:
    whole = isinstance(module, nn.MultiheadAttention) or parametrize.is_parametrized(module)
    return list(module.parameters(recurse=whole))


def reasons_of(layers: dict[str, nn.Module], skip: Skip, read: dict[str, str]) -> dict[str, str]:
    """Why each layer of a network stays as it is; "" where it becomes binary. ``read`` says who reads whose weights."""
    asked = _skipped(layers, skip)
    reasons = {name: asked.get(name) or _no_binary_form(name, module, read) for name, module in layers.items()}
    owners: dict[int, list[str]] = {}
    for name, module in layers.items():
        for parameter in _own(module):
            owners.setdefault(id(parameter), []).append(name)
    for name, module in layers.items():
        if not reasons[name]:
            floats = [other for other in owners[id(module.weight)] if reasons[other]]
            reasons[name] = f"shares its weight with {floats[0]}, which stays float" if floats else ""
    return reasons


def _skipped(layers: dict[str, nn.Module], skip: Skip) -> dict[str, str]:
    """The layers that ``skip`` names, and how."""
    if callable(skip):
        return {name: "skip" for name, module in layers.items() if skip(name, module)}
    asked: dict[str, str] = {}
    words = (skip,) if isinstance(skip, str) else tuple(skip) if isinstance(skip, Iterable) else (skip,)
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"skip: {word!r}, expected names, or one function of (name, module); () skips nothing")
        if word in ("first", "last"):
            fitting = list(layers)[:1] if word == "first" else list(layers)[-1:]
        else:
            fitting = [
                name for name in layers if name == word or name.startswith(f"{word}.") or fnmatchcase(name, word)
            ]
            if not fitting:
                near = difflib.get_close_matches(word, layers, 1)
                hint = f"; did you mean {near[0]}?" if near else f"; they are {', '.join(layers)}"
                raise ValueError(f"skip: no layer with weights is called {word!r}, or lies below it{hint}")
        asked |= dict.fromkeys(fitting, f"{word} layer" if word in ("first", "last") else "skip")
    return asked


def _no_binary_form(name: str, module: nn.Module, read: dict[str, str]) -> str:
    kind = type(module)
    if isinstance(module, _Binary):
        return "binary already"
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "a table of rows, no product"
    if parametrize.is_parametrized(module):
        return "parametrized: parametrize.remove_parametrizations makes it plain"
    if _is_quantized(module):
        return "quantized"
    if any(nn.parameter.is_lazy(p) for p in module.parameters(recurse=False)):
        return "lazy: run the network once before"
    if isinstance(module, nn.MultiheadAttention):
        return "reads its weights itself"
    if kind not in TWINS:
        base = next((known.__name__ for known in TWINS if isinstance(module, known)), "")
        return f"a subclass of {base}: its forward may be another" if base else "no binary form"
    if not isinstance(module._parameters.get("weight"), Tensor):
        return "its weight is computed, as by weight_norm"
    if not module.weight.is_floating_point():
        return f"its weight is {module.weight.dtype}"
    if not isinstance(module, nn.Linear) and padding_of(module) is None:
        return f"padding = {module.padding!r}, padding_mode = {module.padding_mode!r}: no binary form"
    if name in read:
        return f"{read[name]} reads its weights itself"
    return "" if name else "the network itself: wrap it in nn.Sequential"


def padding_of(conv: nn.Module) -> tuple[int, ...] | None:
    """Zeros on each side; None where that differs from side to side, or is no zero."""
    if conv.padding_mode != "zeros":
        return None
    if conv.padding == "valid":
        return tuple(0 for _ in conv.kernel_size)
    if conv.padding == "same":
        spans = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        return None if any(span % 2 for span in spans) else tuple(span // 2 for span in spans)
    return conv.padding
