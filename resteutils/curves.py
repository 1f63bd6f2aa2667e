"""Figures 1 and 3: what the curves themselves say, before anything is trained.

Everything here is computed with the estimator objects that training uses. The curve without the chord near zero is the
same object with the chord's end moved to ``NEARLY_ZERO``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from resteutils import paper, verdict
from resteutils.estimators import STE, Estimator, ReSTE

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "INTUITION",
    "analytic",
    "drawn_derivative",
    "figure1_table",
    "figure1_verdict",
    "figure3_table",
    "figure3_verdict",
    "rms_error",
]

INTUITION = (1, 1.5, 2, 3, 5, 10)  # powers on the way from STE to sign
NEARLY_ZERO = 1e-9


def analytic(e: ReSTE) -> ReSTE:
    """The same curve without the chord near zero (its end is at 1e-9); the saturation at t stays."""
    return replace(e, m=NEARLY_ZERO)


def rms_error(e: Estimator, limit: float = 1.5, points: int = 3000) -> float:
    """Root mean square of sign(z) - f(z) over 0 < z <= limit, as trained."""
    z = torch.linspace(limit / points, limit, points, dtype=torch.float64)
    return float((1 - e.surrogate(z)).square().mean().sqrt())


def _at(e: Estimator, z: float) -> float:
    return float(e.derivative(torch.tensor(z, dtype=torch.float64)))


# --- figure 1 --------------------------------------------------------------------------------------------------------


def figure1_table() -> pd.DataFrame:
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
                "f'(0.001), no chord": _at(bare, 1e-3),
                "f'(0.000001), no chord": _at(bare, 1e-6),
                "Largest f' as trained": _at(e, 0.0),
                "f'(1)": _at(e, 1.0),
            }
        )
    return pd.DataFrame(rows)


def figure1_verdict(profile: str) -> verdict.Verdict:
    """Along the powers the error falls and the slope near zero rises; beyond any bound, but for the chord."""
    powers = [ReSTE(o=o) for o in INTUITION]
    errors, slopes = [rms_error(e) for e in powers], [_at(analytic(e), 1e-6) for e in powers]
    growth = [_at(analytic(e), 1e-6) / _at(analytic(e), 1e-3) for e in powers]
    law = [1000 ** (1 - 1 / e.o) for e in powers]
    off = max(abs(g / x - 1) for g, x in zip(growth, law, strict=True))
    plateaus = [_at(e, 0.0) for e in powers]
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


# --- figure 3 --------------------------------------------------------------------------------------------------------


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


def figure3_table() -> pd.DataFrame:
    """Where the two versions differ: the plateau, its width, and the slope just outside."""
    import pandas as pd

    e, p = as_trained(), published()
    bare = analytic(e)
    outside = e.m * (1 + 1e-9)
    return pd.DataFrame(
        [
            {
                "Version": "as trained",
                "Plateau of f'": _at(e, 0.0),
                "For |z| up to": e.m,
                "f' just outside": _at(e, outside),
                "f(t)": float(e.surrogate(torch.tensor(e.t, dtype=torch.float64))),
                "Rule": "slope of the chord from 0 to f(m)",
            },
            {
                "Version": "as the picture draws it",
                "Plateau of f'": p["plateau"],
                "For |z| up to": p["cap"],
                "f' just outside": _at(bare, p["cap"]),
                "f(t)": p["edge"],
                "Rule": "the analytic slope, capped",
            },
        ]
    )


def figure3_verdict(profile: str) -> verdict.Verdict:
    """The picture is ReSTE at o = 3, but its plateau is not the one that is trained with."""
    e, p = as_trained(), published()
    edge, cap, chord = (
        float(e.surrogate(torch.tensor(e.t, dtype=torch.float64))),
        _at(analytic(e), p["cap"]),
        _at(e, 0.0),
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
