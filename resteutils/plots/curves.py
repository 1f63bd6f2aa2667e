"""Figure 1, the intuition, and Figure 3, the ReSTE curve: drawn from the estimator objects that training uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from resteutils import curves
from resteutils.binarize import sign
from resteutils.estimators import STE, ReSTE
from resteutils.plots.style import INK, OKABE_ITO, SOFT, blank, label_points, ramp, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figure1", "figure3"]

STE_STYLE = {"color": OKABE_ITO["vermillion"], "ls": (0, (5, 1.5)), "lw": 2}
SIGN_STYLE = {"color": OKABE_ITO["black"], "lw": 1.2, "ls": ":"}


def _grid(limit: float, points: int = 4001, edges: tuple[float, ...] = ()) -> Tensor:
    """A symmetric grid with both sides of every edge, so that jumps are drawn upright."""
    ends = [s * e * (1 + shift) for e in edges for s in (-1, 1) for shift in (-1e-9, 1e-9)]
    z = torch.linspace(-limit, limit, points, dtype=torch.float64)
    return torch.cat([z, torch.tensor(ends, dtype=torch.float64)]).sort().values


@styled
def figure1() -> Figure:
    """Surrogates approach sign, their derivatives diverge, and what the one costs in the other."""
    figure, axes = blank(7.2, 6.4, nrows=2, ncols=2)
    colours = ramp(curves.INTUITION)
    z = _grid(2.0, edges=(0.1, 1.0, 1.5))
    left, right = axes[0]
    for o in curves.INTUITION:
        bare = curves.analytic(ReSTE(o=o))
        left.plot(z, bare.surrogate(z), color=colours[o], label=f"ReSTE, o = {o:g}")
        x = torch.logspace(-4, 0.3, 800, dtype=torch.float64)
        right.plot(x, bare.derivative(x), color=colours[o])
    left.plot(z, STE().surrogate(z), label="STE (clip = 1)", **STE_STYLE)
    left.plot(z, sign(z), label="sign", **SIGN_STYLE)
    x = torch.logspace(-4, 0.3, 800, dtype=torch.float64)
    right.plot(x, STE().derivative(x), **STE_STYLE)
    right.set(xscale="log", yscale="log", ylim=(0.04, 5e3), xlim=(1e-4, 2))
    right.set(xlabel="distance from zero, |z| (log scale)", ylabel="derivative f'(z) (log scale)")
    right.set_title("... its derivative diverges at zero")
    left.set(xlabel="z", ylabel="surrogate f(z)", ylim=(-1.6, 1.6), xlim=(-2, 2))
    left.set_title("A surrogate nears sign ...")
    _trained(axes[1, 0], colours)
    _price(axes[1, 1], colours)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _trained(axes: Axes, colours: dict) -> None:
    z = _grid(2.0, edges=(0.1, 1.0, 1.5))
    for o in curves.INTUITION:
        axes.plot(z, ReSTE(o=o).derivative(z), color=colours[o])
    axes.plot(z, STE().derivative(z), **STE_STYLE)
    axes.set(xlabel="z", ylabel="derivative f'(z)", xlim=(-2, 2), ylim=(-0.3, 9))
    axes.set_title("As trained: a plateau up to |z| = 0.1")


def _price(axes: Axes, colours: dict) -> None:
    errors = {o: curves.rms_error(ReSTE(o=o)) for o in curves.INTUITION}
    steep = {o: float(ReSTE(o=o).derivative(torch.zeros(1))) for o in curves.INTUITION}
    axes.plot(list(errors.values()), list(steep.values()), color=SOFT, lw=1, zorder=1)
    for o in curves.INTUITION:
        axes.plot(errors[o], steep[o], "o", color=colours[o], ms=7)
    ste = (curves.rms_error(STE()), float(STE().derivative(torch.zeros(1))))
    axes.plot(*ste, "s", color=STE_STYLE["color"], ms=7)
    limit = ReSTE(o=1e6)
    last = (curves.rms_error(limit), float(limit.derivative(torch.zeros(1))))
    axes.plot(*last, "*", color=OKABE_ITO["black"], ms=10)
    axes.set(xlabel="error: RMS of sign(z) - f(z), |z| ≤ 1.5", ylabel="largest derivative, as trained")
    axes.set(xlim=(0, 0.6), ylim=(0, 11))
    axes.set_title("The price of a smaller error")
    names = [(errors[o], steep[o], f"o = {o:g}") for o in curves.INTUITION]
    label_points(axes, [*names, (*ste, "STE"), (*last, "o → ∞ (1/m)")])


@styled
def figure3() -> Figure:
    """ReSTE as trained beside the authors' picture: the same curve, but for the plateau near zero."""
    e, p = curves.as_trained(), curves.published()
    figure, axes = blank(7.2, 6.2, nrows=2, ncols=2)
    trained = {"color": OKABE_ITO["blue"], "lw": 2}
    drawn = {"color": OKABE_ITO["vermillion"], "lw": 1.6, "ls": (0, (4, 2))}
    z, near = _grid(2.0, edges=(e.m, e.t)), _grid(0.25, edges=(e.m, p["cap"]))
    bare = curves.analytic(e)
    for place, grid in ((axes[0, 0], z), (axes[1, 0], near)):
        place.plot(grid, e.surrogate(grid), label="as trained (chord up to m)", **trained)
        place.plot(grid, bare.surrogate(grid), label="as the authors' picture draws it", **drawn)
        place.set(xlabel="z", ylabel="forward, f(z)")
    for place, grid in ((axes[0, 1], z), (axes[1, 1], near)):
        place.plot(grid, e.derivative(grid), **trained)
        place.plot(grid, curves.drawn_derivative(grid), **drawn)
        place.set(xlabel="z", ylabel="backward, f'(z)", ylim=(-0.5, 5.6))
    axes[0, 0].plot(z, sign(z), label="sign", **SIGN_STYLE)
    axes[0, 0].set(xlim=(-2, 2), ylim=(-2, 2))
    axes[0, 1].set(xlim=(-2, 2))
    axes[0, 0].set_title(f"(a) Forward, o = {e.o:g}")
    axes[0, 1].set_title(f"(b) Backward, o = {e.o:g}")
    axes[1, 0].set_title("(a) near zero")
    axes[1, 1].set_title("(b) near zero")
    _explain(axes[1, 1], e, p)
    axes[1, 0].set(xlim=(-0.25, 0.25), ylim=(-0.7, 0.7))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _explain(axes: Axes, e: ReSTE, p: dict[str, float]) -> None:
    chord = float(e.derivative(torch.zeros(1)))
    axes.set(xlim=(-0.25, 0.25))
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    note = {"fontsize": 8, "color": INK, "ha": "center", "bbox": paper}
    axes.text(0, chord + 0.12, f"f(m)/m = {chord:.2f}: slope of the chord to m = {e.m:g}", va="bottom", **note)
    line = {"arrowprops": {"arrowstyle": "->", "color": OKABE_ITO["vermillion"]}}
    said = f"{p['plateau']:.2f}: the slope of the power at {p['cap']:g}, held"
    axes.annotate(said, (0, p["plateau"] - 0.05), (0, 0.3), va="center", **note, **line)
