"""The paper's networks. ``create`` builds one by name and bit width."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from resteutils.estimators import Estimator, Unregistered
from resteutils.estimators.base import check_name
from resteutils.models.common import BITS, ConvFactory, conv_factory
from resteutils.models.gates import resnet20_early, resnet20_half_gate, resnet20_random_gate
from resteutils.models.ir_net import resnet20_hardtanh
from resteutils.models.resnet import resnet18, resnet18_imagenet, resnet20, resnet20_bireal, resnet34_imagenet
from resteutils.models.summary import Summary, summary
from resteutils.models.vgg_small import vgg_small

__all__ = ["BITS", "MODELS", "Builder", "Summary", "create", "register_model", "summary"]

Builder = Callable[[ConvFactory, int, int, int], nn.Module]

MODELS: dict[str, Builder] = {
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet20_bireal": resnet20_bireal,
    "vgg_small": vgg_small,
    "resnet18_imagenet": resnet18_imagenet,
    "resnet34_imagenet": resnet34_imagenet,
    "resnet20_random_gate": resnet20_random_gate,
    "resnet20_half_gate": resnet20_half_gate,
    "resnet20_early": resnet20_early,
    "resnet20_hardtanh": resnet20_hardtanh,
}


def register_model(build: Builder) -> Builder:
    """Decorator: make a network known by its function's name to :func:`create`, recipes and every command.

    The function takes (conv, num_classes, image_size, in_channels) and returns a module from (N, in_channels,
    image_size, image_size) to (N, num_classes). ``conv(cin, cout, stride=1)`` makes each 3x3 convolution that is to be
    binary, or float at "32/32". Raises ``TypeError`` for another function, ``ValueError`` for an odd or a taken name.

    >>> @register_model
    ... def tiny(conv, num_classes, image_size, in_channels):
    ...     head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
    ...     return nn.Sequential(nn.Conv2d(in_channels, 8, 3), nn.BatchNorm2d(8), conv(8, 8), nn.BatchNorm2d(8), head)
    >>> len(create("tiny", bits="1/1"))
    5
    >>> del MODELS["tiny"]
    """
    arguments = ["conv", "num_classes", "image_size", "in_channels"]
    found = [*inspect.signature(build).parameters][:4] if callable(build) else None
    if found != arguments or not hasattr(build, "__name__"):
        raise TypeError(f"{build!r}, expected a function of ({', '.join(arguments)})")
    name = build.__name__
    check_name("model", name)
    known = MODELS.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (build.__module__, build.__qualname__):
        raise ValueError(f"a model named {name!r} is registered already, by {known.__module__}; choose another name")
    MODELS[name] = build
    return build


def create(
    name: str,
    bits: str = "1/1",
    estimator: Estimator | None = None,
    input_estimator: Estimator | None = None,
    num_classes: int = 10,
    image_size: int = 32,
    in_channels: int = 3,
    scale: str = "layer",
    scale_order: str = "after",
    standardize: bool = False,
) -> nn.Module:
    """Build a network that maps (N, in_channels, image_size, image_size) to (N, num_classes).

    Arguments:
        name: one of ``MODELS``.
        bits: W/A bits, "1/1", "1/32" or "32/32" (the float twin: the same network with plain convolutions).
        estimator, input_estimator, scale, scale_order, standardize: see :class:`resteutils.BinaryConv2d`.

    Raises ``ValueError`` for an unknown name or bit width, for a size or number that is no whole number of at least 1,
    and for an image size that the network cannot halve often enough.

    >>> model = create("resnet20", bits="1/1")
    >>> sum(p.numel() for p in model.parameters())
    269850
    """
    if name not in MODELS:
        raise Unregistered("model", str(name), f"unknown model {name!r}; known: {', '.join(MODELS)}")
    for what, value in (("num_classes", num_classes), ("image_size", image_size), ("in_channels", in_channels)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{what} = {value!r}, expected a whole number of at least 1")
    conv = conv_factory(
        bits,
        estimator=estimator,
        input_estimator=input_estimator,
        scale=scale,
        scale_order=scale_order,
        standardize=standardize,
    )
    model = MODELS[name](conv, num_classes, image_size, in_channels)
    if bits == "32/32":
        model.register_load_state_dict_pre_hook(_without_paths)
    model.input_size = (in_channels, image_size, image_size)  # what it was built for: `ru.pack` asks
    return model


def _without_paths(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """A float twin takes a binary network's weights; it has no use for the layers' places on their paths."""
    for name in [name for name in state if name.startswith(prefix) and name.endswith("._extra_state")]:
        del state[name]
