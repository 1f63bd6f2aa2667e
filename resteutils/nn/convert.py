"""A float network with binary layers in place of its convolutions and linear layers, and back.

The float weights stay, the same parameters, as latent weights: an optimizer that holds them keeps them, and a float
checkpoint is a warm start.
"""

from __future__ import annotations

import copy
import functools
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from resteutils.estimators import Estimator, ReSTE
from resteutils.nn.binarize import check_scale_order
from resteutils.nn.conversion import (
    FLOAT,
    TWINS,
    Conversion,
    ConvertedLayer,
    Skip,
    layers_of,
    padding_of,
    reasons_of,
    size_of,
)
from resteutils.nn.layers import _Binary, binary_layers
from resteutils.nn.source import Source, source_of

__all__ = ["binarize_model", "restore_model"]

Network = TypeVar("Network", bound=nn.Module)
BITS = ("1/1", "1/32")
RELUS = (nn.ReLU, nn.ReLU6)
EXPECTED = ("first layer", "last layer", "skip", "binary already", "a table of rows, no product")  # not warned of


def binarize_model(
    model: Network,
    estimator: Estimator | None = None,
    bits: str = "1/1",
    skip: Skip = ("first", "last"),
    input_estimator: Estimator | None = None,
    *,
    scale: str = "layer",
    scale_order: str = "after",
    standardize: bool = False,
    weight_scale: float = 1.0,
    activation: Callable[[], nn.Module] | None = None,
    example: Tensor | tuple[Any, ...] | None = None,
    inplace: bool = False,
) -> Network:
    """Replace every ``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Linear`` by its binary layer; return the network, whose
    ``conversion`` is the table of what was replaced, what was left and why (``print(model.conversion)``).

    Arguments:
        estimator, input_estimator, scale, scale_order, standardize: see :class:`resteutils.BinaryConv2d`; linear layers
            have neither of the last two, and a warning names them.
        bits: W/A bits, "1/1" or "1/32".
        skip: what stays in float: "first" and "last" (layer with weights, in the order of definition), names, each
            with all that is below it, and patterns such as "*.downsample.*"; or a function of (name, module).
        weight_scale: times the weights at the start. Smaller latent weights flip their signs more often; the scale
            mean|w| shrinks with them, so that a BatchNorm should follow. A float state dict that is loaded later is
            scaled too; that of a binary network is not.
        activation: makes what takes the place of each ``nn.ReLU`` and ``nn.ReLU6``, e.g. ``nn.Hardtanh``: behind a
            ReLU no input is negative, and its sign says nothing. ReLUs that are called as functions (``F.relu``) stay.
        example: an input of the network, or a tuple of its arguments. It is run once, in evaluation: binary layers
            that are not called, because something reads their weights itself, become float again; those that see one
            sign only are named.
        inplace: change ``model`` itself instead of a copy.

    A ``UserWarning`` names the layers that stay in float though ``skip`` does not say so: subclasses, transposed and
    three-dimensional convolutions, recurrent layers, ``nn.MultiheadAttention`` and others that read weights
    themselves, lazy and parametrized layers, weights shared with a float layer. Others name ReLUs before binary
    activations, and options that a layer does not have.

    A float state dict loads into the binary network with ``strict=True``, but for the parameters of an ``activation``
    such as PReLU. A binary one has each layer's place on its path beside the weights, so the way back is
    ``float_model.load_state_dict(restore_model(model).state_dict())``.

    Raises ``ValueError`` for other bits, an unknown order, a name in ``skip`` that fits nothing, a network of which
    nothing can be replaced, and one that torch cannot copy; ``TypeError`` for a wrong estimator or something that is
    no network.
    """
    if bits not in BITS:
        raise ValueError(f"bits = {bits!r}, expected one of {', '.join(BITS)} (weights/activations)")
    if not (isinstance(weight_scale, int | float) and 0 < weight_scale < math.inf):
        raise ValueError(f"weight_scale = {weight_scale!r}, expected a number above 0")
    check_scale_order(scale_order)
    model = _taken(model, inplace)
    layers, source = layers_of(model), source_of(model)
    reasons = reasons_of(layers, skip, source.reads)
    sets = (ReSTE() if estimator is None else estimator, input_estimator, bits == "1/1", scale)
    twins = {module: _twin(module, sets, scale_order, standardize, weight_scale)
             for name, module in layers.items() if not reasons[name]}  # fmt: skip
    _put(model, twins)
    if activation is not None:
        _replace_relus(model, activation)
    one_sign: list[str] = []
    if example is not None:
        called, one_sign = _called(model, set(twins.values()), example)
        unused = {twin: module for module, twin in twins.items() if twin not in called}
        _put(model, unused)
        twins = {module: twin for module, twin in twins.items() if twin in called}
    rows = []
    for name, module in layers.items():
        why = reasons[name] or ("" if module in twins else "not called: something reads its weights itself")
        now = bits if not why else _bits(module)
        rows.append(ConvertedLayer(name or "(root)", type(module).__name__, size_of(module), now, why))
    model.conversion = Conversion(tuple(rows))
    if not twins:
        raise ValueError(f"no layer can be binary:\n{model.conversion}")
    _multiply({twin.weight: weight_scale for twin in twins.values()})
    if input_estimator is not None and bits == "1/32":
        warnings.warn(
            f"input_estimator = {input_estimator!r} is without use: bits = '1/32' binarizes no input", stacklevel=2
        )
    _warn_of_options(model, {"scale_order": (scale_order, "after"), "standardize": (standardize, False)})
    _warn(model, bits, source, one_sign, example is not None)
    return model


def restore_model(model: Network, inplace: bool = False) -> Network:
    """Replace every binary layer by its plain one, with the latent weights (divided by their ``weight_scale``), and
    bring back the activations that :func:`binarize_model` replaced; ``inplace`` changes ``model`` itself.

    Its state dict is that of the float network again, to the last bit where ``weight_scale`` was a power of two. Raises
    ``ValueError`` where nothing is binary.
    """
    model = _taken(model, inplace)
    layers = [layer for _, layer in binary_layers(model)]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no binary layer to restore")
    _multiply({layer.weight: 1 / layer.weight_scale for layer in layers})
    _put(model, {layer: _plain(layer) for layer in layers})
    _put(model, {part: part.replaces[0] for part in model.modules() if "replaces" in vars(part)})
    if "conversion" in vars(model):
        del model.conversion
    return model


def _taken(model: Network, inplace: bool) -> Network:
    """The network itself or a copy. Raises ``TypeError`` for what is no module, ``ValueError`` for weights that are
    computed by a hook (pruned, weight_norm of old), which torch cannot copy.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model = {model!r}, expected an nn.Module")
    computed = [
        f"{name}.{key}".lstrip(".")
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    if computed and not inplace:
        raise ValueError(
            f"torch cannot copy {', '.join(computed)}, which a hook computes: undo it first (prune.remove, "
            "remove_weight_norm), or say inplace=True"
        )
    return model if inplace else copy.deepcopy(model)


def _bits(module: nn.Module) -> str:
    return FLOAT if not isinstance(module, _Binary) else "1/1" if module.binarize_input else "1/32"


# --- one module for another ------------------------------------------------------------------------------------------


def _same_state(module: nn.Module, kind: type[nn.Module], without: tuple[str, ...] = ()) -> Any:
    """A module of another kind with the same parameters, hooks, mode and attributes."""
    made = kind.__new__(kind)
    vars(made).update({name: value for name, value in vars(module).items() if name not in without})
    for name in ("_parameters", "_buffers", "_non_persistent_buffers_set"):
        vars(made)[name] = vars(module)[name].copy()
    return made


@functools.cache
def _added(kind: type[nn.Module]) -> dict[str, Any]:
    """The attributes that a binary layer has beside those of the plain one, at their defaults."""
    plain = next(plain for plain, binary in TWINS.items() if binary is kind)
    sizes = (1, 1) if plain is nn.Linear else (1, 1, 1)
    own, known = vars(kind(*sizes, device="meta")), vars(plain(*sizes, device="meta"))
    return {name: value for name, value in own.items() if name not in known}


def _twin(
    layer: nn.Module, sets: tuple[Any, ...], scale_order: str, standardize: bool, weight_scale: float
) -> nn.Module:
    made = _same_state(layer, TWINS[type(layer)])
    vars(made).update(_added(type(made)))
    if not isinstance(layer, nn.Linear):
        made.padding = padding_of(layer)
        made.scale_order, made.standardize = scale_order, standardize
    made.weight_scale = float(weight_scale)
    made._set_up(*sets)
    return made


def _plain(layer: nn.Module) -> nn.Module:
    kind = next(plain for plain, binary in TWINS.items() if isinstance(layer, binary))
    made = _same_state(layer, kind, (*_added(TWINS[kind]), "weight_scale"))
    made._buffers.pop("coefficients")
    made._non_persistent_buffers_set.discard("coefficients")
    return made


def _put(model: nn.Module, others: dict[nn.Module, nn.Module]) -> None:
    """Each module's other in its place, wherever it is held."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child in others:
                setattr(parent, name, others[child])


def _replace_relus(model: nn.Module, activation: Callable[[], nn.Module]) -> None:
    place = next(model.parameters())
    others = {}
    for module in model.modules():
        if isinstance(module, RELUS):
            others[module] = activation().to(place.device, place.dtype)
            others[module].replaces = (module,)  # in a tuple: no part of the network, its state or its modes
    _put(model, others)


def _multiply(weights: dict[nn.Parameter, float]) -> None:
    with torch.no_grad():
        for weight, factor in weights.items():
            if factor != 1:
                weight.mul_(factor)


# --- what to look at -------------------------------------------------------------------------------------------------


def _called(model: nn.Module, twins: set[nn.Module], example: Any) -> tuple[set[nn.Module], list[str]]:
    """The binary layers that a forward pass in evaluation calls; the names of those whose input has one sign only.

    A hook would not do: torch's own fast paths, which read weights themselves, are off where there are hooks.
    """
    names = {layer: name for name, layer in binary_layers(model)}
    called: set[nn.Module] = set()
    mixed: set[nn.Module] = set()

    def watched(layer: Any, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def look(x: Tensor) -> Tensor:
            called.add(layer)
            if not layer.binarize_input or ((x >= 0).any() and (x < 0).any()):
                mixed.add(layer)
            return forward(x)

        return look

    modes = {module: module.training for module in model.modules()}
    try:
        for layer in twins:
            layer.forward = watched(layer, layer.forward)
        with torch.no_grad():
            model.eval()(*(example if isinstance(example, tuple) else (example,)))
    finally:
        for layer in twins:
            vars(layer).pop("forward", None)
        for module, mode in modes.items():
            module.training = mode
    return called, [names[layer] for layer in names if layer in called - mixed]


def _warn_of_options(model: nn.Module, options: dict[str, tuple[Any, Any]]) -> None:
    """Name the layers that do not have an option, where it is not at its default."""
    for option, (value, default) in options.items():
        without = [name for name, layer in binary_layers(model) if not hasattr(layer, option)]
        if value != default and without:
            warnings.warn(
                f"{option} = {value!r} is for convolutions; these linear layers are without: {', '.join(without)}",
                stacklevel=3,
            )


def _warn(model: nn.Module, bits: str, source: Source, one_sign: list[str], checked: bool) -> None:
    left = [f"{row.name} ({row.kind}: {row.why})" for row in model.conversion.left if row.why not in EXPECTED]
    if left:
        warnings.warn(f"these layers stay float: {'; '.join(left)}. Name them in skip to say so", stacklevel=3)
    handed = [f"{name} by {source.handed[name]}" for name, _ in binary_layers(model) if name in source.handed]
    if handed and not checked:
        warnings.warn(
            f"these layers are handed to a function, where they would be float if it reads their weights: "
            f"{', '.join(handed)}; example=INPUT checks that", stacklevel=3,
        )  # fmt: skip
    if source.hidden and not checked:
        warnings.warn(
            f"{_some(source.hidden)} takes a weight, and its source is not to be had: a layer whose weight is read "
            "without calling the layer would be float; example=INPUT checks that", stacklevel=3,
        )  # fmt: skip
    advice = "activation=nn.Hardtanh (or PReLU, Identity) puts another activation in the place of each nn.ReLU"
    if source.relus:
        advice += f", but not where {_some(source.relus)} calls ReLU as a function: make it an nn.ReLU module first"
    if one_sign:
        warnings.warn(f"the input of {', '.join(one_sign)} has one sign, which says nothing: {advice}", stacklevel=3)
    relus = [name for name, module in model.named_modules() if isinstance(module, RELUS)] + [*source.relus]
    if relus and bits == "1/1" and not checked:
        warnings.warn(
            f"a binary layer right behind a ReLU ({_some(relus)}) sees no negative input, and its sign says nothing: "
            f"example=INPUT checks that; {advice}", stacklevel=3,
        )  # fmt: skip


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
