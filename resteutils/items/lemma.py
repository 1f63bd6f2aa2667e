"""Lemma 3.1: for o1 >= o2 >= 1, the error D(sign(z), f(z, o1)) is at most D(sign(z), f(z, o2)), D the L2 norm.

Why: sign factors out of every term, (1 - |z|^(1/o))^2, and |z|^(1/o) moves towards 1 from either side as o grows. The
lemma is about the curve without truncations. Checked here: the statement, coordinate by coordinate and as a norm; what
the truncations leave of it; and where it says nothing.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from resteutils.estimators import STE, ReSTE
from resteutils.evidence import verdict
from resteutils.items.style import INK, OKABE_ITO, blank, styled
from resteutils.nn.binarize import sign
from resteutils.nn.layers import binary_layers
from resteutils.recipes import recipe
from resteutils.recipes.build import build_model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "POWERS",
    "above_clipped_ste",
    "distance",
    "distances",
    "figure",
    "judge",
    "limit",
    "samples",
    "table",
    "violation",
]

POWERS = (1, 1.5, 2, 3, 5, 10, 20, 50, 100, 1000)
POINTS = 20_000

Distances = dict[tuple[str, bool], list[float]]  # (vector, truncated) -> a value for each of POWERS


@cache
def samples(n: int = POINTS) -> dict[str, Tensor]:
    """Vectors to check the norm on, float64 (n,), and the initial weights of ResNet-20's binary layers."""
    draw = torch.Generator().manual_seed(0)
    normal = torch.randn(n, generator=draw, dtype=torch.float64)
    uniform = 4 * torch.rand(n, generator=draw, dtype=torch.float64) - 2
    tails = torch.tan(math.pi * (torch.rand(n, generator=draw, dtype=torch.float64) - 0.5))
    layers = binary_layers(build_model(recipe("table1/resnet20-1w1a", "paper")))
    weights = torch.cat([layer.weight.detach().double().flatten() for _, layer in layers])
    return {
        "initial weights, ResNet-20": weights,
        "normal": normal,
        "uniform on [-2, 2]": uniform,
        "Cauchy (heavy tails)": tails,
    }


def distance(z: Tensor, o: float, truncated: bool = False) -> float:
    """D(sign(z), f(z, o)) over sqrt(n), so that vectors of different lengths compare; with or without truncations."""
    e = ReSTE(o=o)
    f = e.surrogate(z) if truncated else e.untruncated(z)
    return float((sign(z) - f).square().mean().sqrt())


def violation(truncated: bool = False, limit: float = 10.0, points: int = 20_001) -> tuple[float, float]:
    """The largest rise of |sign(z) - f(z)| from one power to the next larger, over a grid in [-limit, limit], and the z
    where it is. At most rounding, where the lemma holds coordinate by coordinate."""
    z = torch.linspace(-limit, limit, points, dtype=torch.float64)
    f = [ReSTE(o=o).surrogate(z) if truncated else ReSTE(o=o).untruncated(z) for o in POWERS]
    errors = torch.stack([(sign(z) - values).abs() for values in f])
    rises = errors.diff(dim=0)
    worst = int(rises.argmax()) % points
    return float(rises.max()), float(z[worst])


def limit(z: Tensor, m: float = 0.1) -> float:
    """What the distance tends to as o grows without end: with the chord f(z) becomes z/m below m, not sign(z).
    Exact zeros stay at distance 1."""
    return float((1 - z.abs() / m).clamp(min=0).square().mean().sqrt())


def above_clipped_ste(o: float = 3.0) -> tuple[float, float]:
    """The stretch of |z| where ReSTE's error, as trained, is above that of STE clipped at 1, which is 0 beyond 1."""
    z = torch.linspace(0, 2, 20_001, dtype=torch.float64)[1:]
    above = z[(1 - ReSTE(o=o).surrogate(z)).abs() > (1 - STE().surrogate(z)).abs() + 1e-12]
    return float(above.min()), float(above.max())


def distances() -> Distances:
    """:func:`distance` of every vector at every power, without and with the truncations."""
    return {
        (name, truncated): [distance(z, o, truncated) for o in POWERS]
        for name, z in samples().items()
        for truncated in (False, True)
    }


def table(found: Distances) -> pd.DataFrame:
    """One line per vector, with and without the truncations; a column for every power."""
    import pandas as pd

    rows = [
        {"Vector": name, "f": "as trained" if truncated else "as in the lemma"}
        | {f"o = {o:g}": value for o, value in zip(POWERS, values, strict=True)}
        for (name, truncated), values in found.items()
    ]
    return pd.DataFrame(rows)


def judge(found: Distances, profile: str) -> verdict.Verdict:
    """The statement on the grid and on vectors; then what truncations, zeros and another baseline do to it."""
    rise, where = violation()
    vectors = {name: values for (name, truncated), values in found.items() if not truncated}
    falling = [name for name, d in vectors.items() if all(b <= a + 1e-12 for a, b in pairwise(d))]
    cut_rise, _ = violation(truncated=True)
    weights = samples()["initial weights, ResNet-20"]
    floor, bare = limit(weights), distance(weights, 1e6)
    reached = distance(weights, 1e6, truncated=True)
    zero = torch.zeros(1, dtype=torch.float64)
    at_zero = [distance(zero, o) for o in POWERS]
    low, high = above_clipped_ste()
    checks = [
        verdict.fact(
            "no coordinate's error rises with o",
            rise <= 1e-12,
            f"largest rise {max(rise, 0.0):.1g}, at z = {where:.3g}; grid in [-10, 10], o = 1 to {POWERS[-1]}",
            tolerance="1e-12",
        ),
        verdict.fact(
            "so no vector's does",
            len(falling) == len(vectors),
            f"{len(falling)} of {len(vectors)} vectors: {', '.join(falling)}",
        ),
        verdict.fact(
            "with both truncations at fixed m and t the order still holds",
            cut_rise <= 1e-12,
            f"largest rise {max(cut_rise, 0.0):.1g}",
            tolerance="1e-12",
        ),
        verdict.fact(
            "but not the limit: with the chord the error of small weights never reaches 0",
            abs(reached - floor) < 1e-3 and bare < 1e-3,
            f"initial weights, o = 1,000,000: {bare:.2g} without the chord, {reached:.3f} with it (limit {floor:.3f})",
        ),
        verdict.fact(
            "a zero keeps its error whatever o is, where sign(0) = 1",
            max(at_zero) == min(at_zero) == 1.0,
            "error 1 at every o; with sign(0) = 0, as in the authors' code, it is 0 at every o",
        ),
        verdict.fact(
            "against STE clipped at 1 the order fails beyond 1: the lemma's STE is the identity",
            1.0 < low < high <= ReSTE().t,
            f"ReSTE's error at o = 3 is the larger one for |z| from {low:.4f} to {high:.4f}",
        ),
    ]
    return verdict.judge(profile, checks, "The lemma holds for fixed z; in training the weights move with o.")


# --- the picture ---

COLOURS = [OKABE_ITO[name] for name in ("blue", "green", "vermillion", "black")]


@styled
def figure(found: Distances) -> Figure:
    """Left: D over o for four vectors, with and without truncations. Right: coordinate by coordinate."""
    figure, axes = blank(7.2, 3.9, ncols=2)
    _norms(axes[0], found)
    _coordinates(axes[1])
    return figure


def _norms(axes: Axes, found: Distances) -> None:
    for name, colour in zip(samples(), COLOURS, strict=True):
        axes.plot(POWERS, found[name, False], "-o", color=colour, ms=3.5, label=name)
        axes.plot(POWERS, found[name, True], "--", color=colour, lw=1.3)
    axes.plot([], [], "--", color=INK, lw=1.3, label="the same, as trained")
    axes.set(xscale="log", xlabel="power o (log scale)", ylabel="D(sign(z), f(z, o)) / √n", ylim=(0, 1.75))
    axes.set_xticks([1, 3, 10, 100, 1000], ["1", "3", "10", "100", "1000"])
    axes.minorticks_off()
    axes.set_title("The norm never rises with o")
    axes.legend(loc="upper right", fontsize=7.5)


def _coordinates(axes: Axes) -> None:
    z = torch.cat([torch.linspace(0, 2, 2001), torch.tensor([1.5 + 1e-6])]).double().sort().values
    styles = ((1, OKABE_ITO["sky"]), (3, OKABE_ITO["blue"]), (10, "#04263f"))
    for o, colour in styles:
        axes.plot(z, (sign(z) - ReSTE(o=o).surrogate(z)).abs(), color=colour, label=f"ReSTE, o = {o}, as trained")
    ste = {"color": OKABE_ITO["vermillion"], "ls": (0, (4, 2)), "label": "STE, clip = 1"}
    axes.plot(z, (sign(z) - STE().surrogate(z)).abs(), **ste)
    low, high = above_clipped_ste()
    axes.axvspan(low, high, color="#eef1f4", zorder=0)
    note = {"fontsize": 8, "color": INK}
    axes.text((low + high) / 2, 0.56, "above the\nclipped STE", ha="center", va="bottom", **note)
    axes.plot(0, 1, "o", color=INK, ms=5, clip_on=False, zorder=5)
    axes.annotate("z = 0: 1 at every o", (0, 1), (10, 6), textcoords="offset points", va="bottom", **note)
    axes.set(xlabel="|z|", ylabel="error of one coordinate, |sign(z) - f(z)|", xlim=(0, 2), ylim=(0, 1.75))
    axes.set_title("No coordinate's error rises with o")
    axes.legend(loc="upper right", fontsize=7.5)
