"""Figure 3: the ReSTE curve as trained, beside the authors' picture of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from resteutils.estimators import ReSTE
from resteutils.evidence import paper, verdict
from resteutils.items.curve import SIGN_STYLE, analytic, grid, slope
from resteutils.items.style import INK, OKABE_ITO, blank, styled
from resteutils.nn.binarize import sign

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["as_trained", "drawn_derivative", "figure", "judge", "published", "table"]


def published() -> dict[str, float]:
    """What the authors' picture shows: its power, the plateau's height, where that is capped, the forward edge at t."""
    return {name: paper.published("figure3", "drawn", name).value for name in ("o", "plateau", "cap", "edge")}


def as_trained() -> ReSTE:
    """ReSTE at the picture's power with the truncations that the authors' code trains with."""
    cells = {name: paper.published("figure3", "trained", name).value for name in ("m", "t")}
    return ReSTE(o=published()["o"], **cells)


def drawn_derivative(z: Tensor) -> Tensor:
    """f' as the authors' picture draws it: the analytic slope, held near zero at its value at the picture's cap."""
    cap = published()["cap"]
    return analytic(as_trained()).derivative(torch.where(z.abs() < cap, torch.full_like(z, cap), z))


def table() -> pd.DataFrame:
    """Where the two versions differ: the plateau, its width, and the slope just outside."""
    import pandas as pd

    e, p = as_trained(), published()
    bare = analytic(e)
    outside = e.m * (1 + 1e-9)
    return pd.DataFrame(
        [
            {
                "Version": "as trained",
                "Plateau of f'": slope(e, 0.0),
                "For |z| up to": e.m,
                "f' just outside": slope(e, outside),
                "f(t)": float(e.surrogate(torch.tensor(e.t, dtype=torch.float64))),
                "Rule": "slope of the chord from 0 to f(m)",
            },
            {
                "Version": "as the picture draws it",
                "Plateau of f'": p["plateau"],
                "For |z| up to": p["cap"],
                "f' just outside": slope(bare, p["cap"]),
                "f(t)": p["edge"],
                "Rule": "the analytic slope, capped",
            },
        ]
    )


def judge(profile: str) -> verdict.Verdict:
    """The picture is ReSTE at o = 3, but its plateau is not the one that is trained with."""
    e, p = as_trained(), published()
    edge, cap, chord = (
        float(e.surrogate(torch.tensor(e.t, dtype=torch.float64))),
        slope(analytic(e), p["cap"]),
        slope(e, 0.0),
    )
    said = "0.01, the precision of reading the pixels"
    checks = [
        verdict.fact(
            "the forward curve at t is that of the picture",
            abs(edge - p["edge"]) <= 0.01,
            f"f(t) = {edge:.3f}, drawn {p['edge']:.3f}",
            tolerance=said,
        ),
        verdict.fact(
            "the picture's plateau is the analytic slope at its cap",
            abs(cap - p["plateau"]) <= 0.01,
            f"f'({p['cap']:g}) = {cap:.3f}, drawn {p['plateau']:.2f}",
            tolerance=said,
        ),
        verdict.fact(
            "the plateau that is trained with is another one: the chord's",
            abs(chord - e.m ** (1 / e.o - 1)) < 1e-9 and chord > p["plateau"],
            f"f(m)/m = {chord:.3f}, {chord / p['plateau']:.2f} times the drawn one",
        ),
    ]
    return verdict.judge(profile, checks, "The curves are ReSTE's; the picture does not show the trained plateau.")


@styled
def figure() -> Figure:
    """ReSTE as trained beside the authors' picture: the same curve, but for the plateau near zero."""
    e, p = as_trained(), published()
    figure, axes = blank(7.2, 6.2, nrows=2, ncols=2)
    trained = {"color": OKABE_ITO["blue"], "lw": 2}
    drawn = {"color": OKABE_ITO["vermillion"], "lw": 1.6, "ls": (0, (4, 2))}
    z, near = grid(2.0, edges=(e.m, e.t)), grid(0.25, edges=(e.m, p["cap"]))
    bare = analytic(e)
    for place, x in ((axes[0, 0], z), (axes[1, 0], near)):
        place.plot(x, e.surrogate(x), label="as trained (chord up to m)", **trained)
        place.plot(x, bare.surrogate(x), label="as the authors' picture draws it", **drawn)
        place.set(xlabel="z", ylabel="forward, f(z)")
    for place, x in ((axes[0, 1], z), (axes[1, 1], near)):
        place.plot(x, e.derivative(x), **trained)
        place.plot(x, drawn_derivative(x), **drawn)
        place.set(xlabel="z", ylabel="backward, f'(z)", ylim=(-0.5, 5.6))
    axes[0, 0].plot(z, sign(z), label="sign", **SIGN_STYLE)
    axes[0, 0].set(xlim=(-2, 2), ylim=(-2, 2))
    axes[0, 1].set(xlim=(-2, 2))
    axes[0, 0].set_title(f"(a) Forward at o = {e.o:g}: sign beyond {e.t:g}")
    axes[0, 1].set_title(f"(b) Backward at o = {e.o:g}: 0 beyond {e.t:g}")
    axes[1, 0].set_title(f"(a) A chord replaces the power up to {e.m:g}")
    axes[1, 1].set_title(f"(b) Near zero the gain is {float(e.derivative(z.new_zeros(()))):.2f}, not infinite")
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
