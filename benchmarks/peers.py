"""Other libraries' binary convolutions: a stack of six 3x3 layers with 64 channels and BatchNorm, one training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

import resteutils as ru
from benchmarks.authors import MaskedConv2d
from benchmarks.networks import STE, O, device
from benchmarks.ratios import Row, row
from resteutils.onebit.timing import interleaved

__all__ = ["rows"]

WIDTH, LAYERS, BATCH, SIZE = 64, 6, 32, 32
WHY_EMPTY = "neither brevitas nor bitorch is installed; pip install brevitas bitorch (the extra `bench`)"


def rows(full: bool) -> Iterator[Row]:
    found = {name: make for name, make in {"brevitas": _brevitas(), "bitorch": _bitorch()}.items() if make}
    if not found:
        return
    makers = found | {
        "authors' formulation": lambda: MaskedConv2d(WIDTH, WIDTH, 1, O),
        "float convolution": lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
        "clipped STE": lambda: ru.BinaryConv2d(WIDTH, WIDTH, 3, 1, 1, estimator=STE),
        "ours": lambda: ru.BinaryConv2d(WIDTH, WIDTH, 3, 1, 1, estimator=ru.ReSTE(o=O)),
    }
    samples = interleaved({name: _step(make) for name, make in makers.items()}, repeats=9, warmup=1, budget=60)
    case = f"{LAYERS} layers of {WIDTH} channels at {SIZE}x{SIZE}, batch {BATCH}, eager"
    for name in [*found, "authors' formulation", "float convolution", "clipped STE"]:
        yield row("peers", case, samples, "ours", name)


def _step(make: Callable[[], nn.Module]) -> Callable[[], None]:
    torch.manual_seed(0)
    stack = nn.Sequential(*(nn.Sequential(make(), nn.BatchNorm2d(WIDTH)) for _ in range(LAYERS))).to(device())
    x = torch.randn(BATCH, WIDTH, SIZE, SIZE, device=device(), requires_grad=True)

    def step() -> None:
        stack.zero_grad(set_to_none=True)
        stack(x).square().mean().backward()

    return step


def _brevitas() -> Callable[[], nn.Module] | None:
    """Binary weights with a constant scale and binary activations, brevitas' own straight-through estimator."""
    try:
        from brevitas.nn import QuantConv2d, QuantIdentity
        from brevitas.quant.binary import SignedBinaryActPerTensorConst, SignedBinaryWeightPerTensorConst
    except ImportError:
        return None

    def make() -> nn.Module:
        quantised = QuantIdentity(act_quant=SignedBinaryActPerTensorConst, min_val=-1.0, max_val=1.0)
        weights = SignedBinaryWeightPerTensorConst
        return nn.Sequential(quantised, QuantConv2d(WIDTH, WIDTH, 3, padding=1, bias=False, weight_quant=weights))

    return make


def _bitorch() -> Callable[[], nn.Module] | None:
    try:
        from bitorch.layers import QConv2d
    except ImportError:
        return None
    options = {"padding": 1, "bias": False, "input_quantization": "sign", "weight_quantization": "sign"}
    return lambda: QConv2d(WIDTH, WIDTH, 3, **options)
