"""The estimator alone, forward and backward, against memory bandwidth, the authors' form and clipped STE."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

import resteutils as ru
from benchmarks.authors import MaskedReSTE
from benchmarks.networks import device
from benchmarks.ratios import Row, row, steady
from resteutils.nn.binarize import times_slope
from resteutils.onebit.timing import interleaved

__all__ = ["rows"]

SHAPE = (256, 16, 32, 32)
MORE_SHAPES = ((256, 64, 8, 8), (128, 128, 32, 32))
POWERS = (1.0, 1.7, 2.0, 3.0)
FLOOR = "bandwidth floor"


def rows(full: bool) -> Iterator[Row]:
    for shape in (SHAPE, *MORE_SHAPES) if full else (SHAPE,):
        for o in POWERS if full or shape == SHAPE else (1.7,):
            yield from _rows(shape, o)
    yield from _accuracy()


def _rows(shape: tuple[int, ...], o: float) -> Iterator[Row]:
    z = torch.randn(shape, device=device())
    gradient = torch.randn_like(z)
    e = ru.ReSTE(o=o)
    coefficients = torch.tensor(e.coefficients(), device=device()).unbind()
    variants = {
        FLOOR: _floor(z, gradient),
        "authors' formulation": _both(z, gradient, lambda t: MaskedReSTE.apply(t, torch.tensor(o), 1.5, 0.1)),
        "clipped STE, eager": _both(z, gradient, lambda t: ru.binarize(t, ru.STE())),
        "ours, eager": _both(z, gradient, lambda t: ru.binarize(t, e)),
        "ours, compiled": _compiled(z, gradient, coefficients),
    }
    samples = interleaved(variants, repeats=15, warmup=3, budget=20)
    case = f"o = {o:g}, {'x'.join(map(str, shape))}"
    for name in variants:
        if name == FLOOR:
            continue
        # A floor fraction of 0.5 is twice the floor's time.
        most = {"ours, compiled": 2.0 if o == 2 else 4.0}.get(name) if shape == SHAPE else None
        yield row("estimator", case, samples, name, FLOOR, target=most)
    yield row("estimator", case, samples, "ours, compiled", "authors' formulation")
    yield row("estimator", case, samples, "ours, eager", "authors' formulation")
    yield row("estimator", case, samples, "ours, eager", "clipped STE, eager")


def _floor(z: Tensor, gradient: Tensor) -> Callable[[], None]:
    """The memory traffic of sign (one read, one write) and of a gradient (two reads, one write), into warm memory."""
    forward, backward = torch.empty_like(z), torch.empty_like(z)

    def move() -> None:
        forward.copy_(z)
        torch.mul(gradient, z, out=backward)

    return move


def _both(z: Tensor, gradient: Tensor, function: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
    leaf = z.clone().requires_grad_()

    def run() -> Tensor:
        return torch.autograd.grad(function(leaf), leaf, gradient)[0]

    return run


def _compiled(z: Tensor, gradient: Tensor, coefficients: tuple[Tensor, ...]) -> Callable[[], None]:
    """Sign and gradient, each as one compiled pass into memory that is there already, as a compiled network has it."""
    forward, backward = torch.empty_like(z), torch.empty_like(z)

    def passes(z, gradient, forward, backward, *coefficients):
        forward.copy_(ru.sign(z))
        backward.copy_(times_slope(gradient, z, ru.ReSTE, coefficients))

    function = torch.compile(passes, fullgraph=True, dynamic=False)
    return lambda: function(z, gradient, forward, backward, *coefficients)


def _accuracy() -> Iterator[Row]:
    """Largest relative error of the gradient in float32, in units of the 1e-5 that the issue allows."""
    for o in (1.0, 1.7, 2.0, 3.0, 10.0):
        z = torch.linspace(-2, 2, 200_001, device=device())
        e = ru.ReSTE(o=o)
        exact = e.derivative(z.double())
        coefficients = torch.tensor(e.coefficients(), device=device()).unbind()
        function = torch.compile(times_slope, fullgraph=True, dynamic=False)
        found = {"ours, compiled": function(torch.ones_like(z), z, ru.ReSTE, coefficients)}
        found["ours, eager"] = times_slope(torch.ones_like(z), z, ru.ReSTE, e.coefficients())
        # On the edges m and t float32 and float64 differ about the side: 0.1 is not a float32.
        inside = exact != 0
        edges = ((z.double().abs() - 0.1).abs() > 1e-6) & ((z.double().abs() - 1.5).abs() > 1e-6)
        for name, gradient in found.items():
            error = ((gradient.double() - exact).abs() / exact)[inside & edges].max().item()
            yield steady(
                "estimator", f"largest relative error at o = {o:g}", name, "1e-5", (error, 1e-5), "relative", target=1.0
            )
