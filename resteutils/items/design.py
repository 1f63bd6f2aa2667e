"""The 2x2 design that Table 3's rows hold: the clip of the activations, and the gain on the weights.

Four straight lines that differ in two factors only. Clip: the activations' surrogate ends at 1, as STE's usually does,
or at 1.5, as ReSTE's. Gain: the weights' slope is 1, or that of ReSTE's plateau, which grows with o. None has ReSTE's
curve. A main effect is the mean of a factor's two differences, the interaction their difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from resteutils.evidence import verdict
from resteutils.evidence.comparison import Rows
from resteutils.evidence.stats import Difference

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CELLS", "EFFECTS", "checks", "effects", "frame", "words"]

CELLS = {"ste": (1.0, "no"), "reste-o1": (1.5, "no"), "ste-gain": (1.0, "yes"), "ste-gain-clip": (1.5, "yes")}
EFFECTS: Mapping[str, Mapping[str, float]] = {
    "clip": {"ste": -0.5, "reste-o1": 0.5, "ste-gain": -0.5, "ste-gain-clip": 0.5},
    "gain": {"ste": -0.5, "reste-o1": -0.5, "ste-gain": 0.5, "ste-gain-clip": 0.5},
    "interaction": {"ste": 1, "reste-o1": -1, "ste-gain": -1, "ste-gain-clip": 1},
}
SAID = {
    "clip": "main effect of the clip at 1.5 on the activations",
    "gain": "main effect of the gain on the weights",
    "interaction": "interaction: clip and gain together above their sum",
}


def effects(rows: Rows) -> dict[str, Difference]:
    """Main effects and interaction, in points; empty unless all four cells have a value or were lost."""
    if not CELLS.keys() <= rows.values.keys() | rows.lost.keys():
        return {}
    return {name: rows.contrast(weights) for name, weights in EFFECTS.items()}


def checks(rows: Rows, at: str = "") -> list[verdict.Check]:
    """One control check for each effect: it is positive."""
    return [verdict.ordering(f"{SAID[name]}{at}", found, kind="control") for name, found in effects(rows).items()]


def frame(rows: Rows) -> pd.DataFrame:
    """One line per effect: estimate, and its three 95 % intervals."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "Effect": SAID[name],
                "Estimate (points)": f"{found.estimate:+.2f}",
                "95 %, pooled": bounds((found.low, found.high)),
                "by these rows alone (Welch)": bounds(found.alone),
                "by moderated variances": bounds(found.moderated),
                "n": " + ".join(map(str, found.counts)),
            }
            for name, found in effects(rows).items()
        ]
    )


def bounds(pair: tuple[float, float]) -> str:
    """``[-0.51, +5.47]``, empty where it is not known."""
    return f"[{pair[0]:+.2f}, {pair[1]:+.2f}]" if pair[0] == pair[0] else ""


def words(rows: Rows) -> str:
    """The three effects in one sentence; empty where a cell is missing."""
    found = effects(rows)
    if not found:
        return ""
    said = ", ".join(f"{name} {d.estimate:+.2f} {bounds((d.low, d.high))}".rstrip() for name, d in found.items())
    return f"The 2x2 design of clip and gain, none with ReSTE's curve: {said}."
