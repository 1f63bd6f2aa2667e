"""How the step's time grows with batch, width and image size, fitted with a power law, beside the float twin's."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import nn

import resteutils as ru
from benchmarks.networks import VARIANTS, Case, O, device, training_step
from benchmarks.ratios import Row, row, steady
from resteutils.models.common import conv_factory, conv_relu_bn
from resteutils.onebit.timing import interleaved

__all__ = ["rows"]

OURS, TWIN = "ours, eager", "float twin, eager"
WIDE = {OURS: "1/1", TWIN: "32/32"}


def rows(full: bool) -> Iterator[Row]:
    batches, sizes = ((8, 16, 32, 64, 128), (16, 32, 64)) if not full else ((8, 16, 32, 64, 128, 256), (16, 32, 64, 96))
    widths = (16, 32, 64, 128) if not full else (16, 32, 64, 128, 256, 512)
    yield from _along("batch", batches, lambda n: _network_steps(Case("resnet20", n)), "resnet20 at 32x32")
    yield from _along("width", widths, _stack_steps, "three 3x3 layers, batch 16 at 16x16")
    yield from _along("image size", sizes, lambda n: _network_steps(Case("resnet20", 16, n)), "resnet20, batch 16")


def _along(axis: str, points: tuple[int, ...], steps: Callable[[int], dict], what: str) -> Iterator[Row]:
    found = []
    for point in points:
        samples = interleaved(steps(point), repeats=9, warmup=2, budget=15)
        line = row("scaling", f"{what}, {axis} {point}", samples, OURS, TWIN)
        found.append(replace(line, axis=axis, at=float(point)))
    yield from found
    ours, twin = (_exponent(points, [getattr(line, name) for line in found]) for name in ("value", "reference"))
    yield steady(
        "scaling", f"{what}: time grows as {axis} to the power of", OURS, TWIN, (ours, twin), "exponent",
        note=f"fitted to {axis} = {', '.join(map(str, points))}",
    )  # fmt: skip


def _network_steps(case: Case) -> dict[str, Callable]:
    return {name: training_step(case, VARIANTS[name]) for name in (OURS, TWIN)}


def _stack_steps(width: int) -> dict[str, Callable]:
    return {name: _stack_step(bits, width) for name, bits in WIDE.items()}


def _stack_step(bits: str, width: int) -> Callable[[], None]:
    torch.manual_seed(0)
    conv = conv_factory(bits, estimator=ru.ReSTE(o=O))
    stack = nn.Sequential(*(conv_relu_bn(conv(width, width), width) for _ in range(3))).to(device())
    x = torch.randn(16, width, 16, 16, device=device(), requires_grad=True)

    def step() -> None:
        stack.zero_grad(set_to_none=True)
        stack(x).square().mean().backward()

    return step


def _exponent(points: tuple[int, ...], times: list[float]) -> float:
    """Slope of the least-squares line through the logarithms."""
    x, y = [math.log(point) for point in points], [math.log(time) for time in times]
    return statistics.linear_regression(x, y).slope
