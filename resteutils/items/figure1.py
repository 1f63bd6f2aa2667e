"""Figure 1: the intuition. As a surrogate nears sign, its derivative diverges; before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from resteutils.estimators import STE, Estimator, ReSTE
from resteutils.evidence import verdict
from resteutils.items.curve import SIGN_STYLE, STE_STYLE, analytic, grid, rms_error, slope
from resteutils.items.style import OKABE_ITO, SOFT, blank, label_points, ramp, styled
from resteutils.nn.binarize import sign

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["INTUITION", "figure", "judge", "table"]

INTUITION = (1, 1.5, 2, 3, 5, 10)  # powers on the way from STE to sign


def table() -> pd.DataFrame:
    """One line per curve: distance to sign, and how steep it gets toward zero, with and without the chord."""
    import pandas as pd

    curves: list[Estimator] = [STE(), *(ReSTE(o=o) for o in INTUITION)]
    rows = []
    for e in curves:
        bare = analytic(e) if isinstance(e, ReSTE) else e
        rows.append(
            {
                "Curve": f"ReSTE, o = {e.o:g}" if isinstance(e, ReSTE) else "STE (clip = 1)",
                "RMS error against sign, |z| <= 1.5": rms_error(e),
                "f'(0.001), no chord": slope(bare, 1e-3),
                "f'(0.000001), no chord": slope(bare, 1e-6),
                "Largest f' as trained": slope(e, 0.0),
                "f'(1)": slope(e, 1.0),
            }
        )
    return pd.DataFrame(rows)


def judge(profile: str) -> verdict.Verdict:
    """Along the powers the error falls and the slope near zero rises; beyond any bound, but for the chord."""
    powers = [ReSTE(o=o) for o in INTUITION]
    errors, slopes = [rms_error(e) for e in powers], [slope(analytic(e), 1e-6) for e in powers]
    growth = [slope(analytic(e), 1e-6) / slope(analytic(e), 1e-3) for e in powers]
    law = [1000 ** (1 - 1 / e.o) for e in powers]
    off = max(abs(g / x - 1) for g, x in zip(growth, law, strict=True))
    plateaus = [slope(e, 0.0) for e in powers]
    along = ", ".join(f"{o:g}" for o in INTUITION)
    checks = [
        verdict.fact(
            "the surrogate nears sign as o grows",
            errors == sorted(errors, reverse=True),
            f"RMS error {_listed(errors)} at o = {along}",
        ),
        verdict.fact(
            "the derivative near zero grows with o",
            slopes == sorted(slopes),
            f"f'(0.000001) = {_listed(slopes)} at o = {along}",
        ),
        verdict.fact(
            "it diverges: a thousand times nearer to zero it is 1000^(1-1/o) times larger",
            off < 1e-6,
            f"largest relative deviation from the law {off:.1g}",
            tolerance="1e-6",
        ),
        verdict.fact(
            "as trained the chord bounds it by 1/m",
            all(p <= 1 / e.m for p, e in zip(plateaus, powers, strict=True)),
            f"plateaus {_listed(plateaus)}, 1/m = {1 / powers[0].m:g}",
        ),
    ]
    return verdict.judge(profile, checks, "No training is needed for this.")


def _listed(values: list[float]) -> str:
    return ", ".join(f"{v:.3g}" for v in values)


@styled
def figure() -> Figure:
    """Surrogates approach sign, their derivatives diverge, and what the one costs in the other."""
    figure, axes = blank(7.2, 6.4, nrows=2, ncols=2)
    colours = ramp(INTUITION)
    z = grid(2.0, edges=(0.1, 1.0, 1.5))
    left, right = axes[0]
    x = torch.logspace(-4, 0.3, 800, dtype=torch.float64)
    for o in INTUITION:
        bare = analytic(ReSTE(o=o))
        left.plot(z, bare.surrogate(z), color=colours[o], label=f"ReSTE, o = {o:g}")
        right.plot(x, bare.derivative(x), color=colours[o])
    left.plot(z, STE().surrogate(z), label="STE (clip = 1)", **STE_STYLE)
    left.plot(z, sign(z), label="sign", **SIGN_STYLE)
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
    z = grid(2.0, edges=(0.1, 1.0, 1.5))
    for o in INTUITION:
        axes.plot(z, ReSTE(o=o).derivative(z), color=colours[o])
    axes.plot(z, STE().derivative(z), **STE_STYLE)
    axes.set(xlabel="z", ylabel="derivative f'(z)", xlim=(-2, 2), ylim=(-0.3, 9))
    axes.set_title("As trained: a plateau up to |z| = 0.1")


def _price(axes: Axes, colours: dict) -> None:
    errors = {o: rms_error(ReSTE(o=o)) for o in INTUITION}
    steep = {o: float(ReSTE(o=o).derivative(torch.zeros(1))) for o in INTUITION}
    axes.plot(list(errors.values()), list(steep.values()), color=SOFT, lw=1, zorder=1)
    for o in INTUITION:
        axes.plot(errors[o], steep[o], "o", color=colours[o], ms=7)
    ste = (rms_error(STE()), float(STE().derivative(torch.zeros(1))))
    axes.plot(*ste, "s", color=STE_STYLE["color"], ms=7)
    limit = ReSTE(o=1e6)
    last = (rms_error(limit), float(limit.derivative(torch.zeros(1))))
    axes.plot(*last, "*", color=OKABE_ITO["black"], ms=10)
    axes.set(xlabel="error: RMS of sign(z) - f(z), |z| ≤ 1.5", ylabel="largest derivative, as trained")
    axes.set(xlim=(0, 0.6), ylim=(0, 11))
    axes.set_title("The price of a smaller error")
    names = [(errors[o], steep[o], f"o = {o:g}") for o in INTUITION]
    label_points(axes, [*names, (*ste, "STE"), (*last, "o → ∞ (1/m)")])
