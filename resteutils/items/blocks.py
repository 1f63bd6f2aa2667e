"""The blocks of ``docs/protocol.md``, version 2: the rows and seeds of each, its contrasts, and its rule as code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations

from resteutils.evidence import stats
from resteutils.evidence.comparison import Rows
from resteutils.evidence.stats import Difference
from resteutils.items import design

__all__ = ["BASE", "BLOCKS", "ELSEWHERE", "Block"]

CELLS = tuple(design.CELLS)
BASE = (*CELLS, "reste")
FEW = ("ste", "reste", "ste-gain-clip")
EXPLAIN = ("reste-random-gate", "reste-half-gate", "reste-early")
ELSEWHERE = ("F (ablations on the proxy)",)

Contrasts = dict[str, dict[str, float]]
Found = dict[str, Difference]


def _lead(row: str, base: str, suffix: str = "") -> dict[str, float]:
    return {f"{row}{suffix}": 1, f"{base}{suffix}": -1}


def _change(row: str, base: str, suffix: str) -> dict[str, float]:
    """How much larger a lead is in the block's rows than in the base's."""
    return {f"{row}{suffix}": 1, f"{base}{suffix}": -1, row: -1, base: 1}


def _order(found: Found, rows: Rows) -> str:
    gain, change = found["reste, scaled before above after"], found["lead over ste, before above after"]
    default = gain.estimate > 1.5 and gain.low > 0
    said = "the paper's order becomes the default" if default else "the order of scaling stays a switch"
    apart = abs(change.estimate) > 1.5
    return f"{said}, and {'each claim holds for its order only' if apart else 'no claim is restricted to its order'}"


def _adam(found: Found, rows: Rows) -> str:
    curve = found["curve: reste above the clip alone"]
    if curve.low > 0:
        return "the curve is real"
    return "the curve is absent within 1.5 points" if stats.equivalent(curve, 1.5) else "undecided"


def _curve(found: Found, rows: Rows) -> str:
    curve = found["curve: reste above clip and gain"]
    if stats.equivalent(curve, 1.0):
        return "as good within 1 point"
    return "the curve adds" if curve.low > 0 else "the curve costs" if curve.high < 0 else "undecided"


def _decay(found: Found, rows: Rows) -> str:
    return "the gain is a transient" if found["main effect of the gain"].high < 2 else "not shown to be a transient"


def _budget(found: Found, rows: Rows) -> str:
    change = found["lead over ste, long above short"]
    return "the lead shrinks" if change.high < 0 else "the lead grows" if change.low > 0 else "undecided"


def _cells(found: Found, rows: Rows) -> str:
    sides = {name: "above 0" if d.low > 0 else "below 0" if d.high < 0 else "undecided" for name, d in found.items()}
    return ", ".join(f"{name} {side}" for name, side in sides.items())


def _explained(found: Found, rows: Rows) -> str:
    before = rows.values["reste-before"]
    near = []
    for row in EXPLAIN:
        apart = [abs(value - before[seed]) for seed, value in rows.values[row].items() if seed in before]
        if len(apart) >= 2 and max(apart) <= 1.0:
            near.append(row)
    return f"explained by {' and '.join(near)}" if near else "open: nothing comes within 1 point in both seeds"


def _proxy(found: Found, rows: Rows) -> str:
    """Signs of the six contrasts among the cells, and both main effects within CIFAR-10's intervals."""
    full, small = rows.only(CELLS), rows.only(_with("-proxy", CELLS))
    turned = [
        f"{a} and {b}"
        for a, b in combinations(CELLS, 2)
        if full.contrast(_lead(a, b)).estimate * small.contrast(_lead(a, b, "-proxy")).estimate <= 0
    ]
    outside = []
    for factor in ("clip", "gain"):
        own, proxy = full.contrast(design.EFFECTS[factor]), found[f"main effect of the {factor}, proxy"]
        if not own.low <= proxy.estimate <= own.high:
            outside.append(factor)
    if turned or outside:
        reasons = [f"the sign of {', '.join(turned)} turns"] * bool(turned)
        reasons += [f"{' and '.join(outside)} outside CIFAR-10's interval"] * bool(outside)
        return f"the proxy is not used: {'; '.join(reasons)}"
    return "the proxy is used: it repeats six signs and both main effects"


@dataclass(frozen=True)
class Block:
    """A block of the protocol: the rows and seeds it needs, the contrasts it looks at, and the word they decide on."""

    name: str
    rule: str
    rows: tuple[str, ...]
    n: int
    contrasts: Contrasts
    decide: Callable[[Found, Rows], str]

    @property
    def own(self) -> tuple[str, ...]:
        """The rows that neither Table 3 nor a block before it has; all of its rows where it has none of its own."""
        before = {*BASE, *(row for block in BLOCKS[: BLOCKS.index(self)] for row in block.rows)}
        return tuple(row for row in self.rows if row not in before) or self.rows


def _with(suffix: str, rows: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{row}{suffix}" for row in rows)


BLOCKS = (
    Block("2x2", "clip and gain, their main effects and interaction", CELLS, 3, dict(design.EFFECTS), _cells),
    Block("C (order of scaling)", "before above after by more than 1.5 points: it becomes the default",
          (*FEW, *_with("-before", FEW)), 3,
          {"reste, scaled before above after": {"reste-before": 1, "reste": -1},
           "lead over ste, before above after": _change("reste", "ste", "-before"),
           "exploratory: reste above clip and gain, both before": _lead("reste", "ste-gain-clip", "-before")}, _order),
    Block("A (Adam)", "the curve is real above 0, absent within 1.5 points",
          _with("-adam", ("ste", "reste-o1", "reste")), 4,
          {"clip: 1.5 above 1": _lead("reste-o1", "ste", "-adam"),
           "curve: reste above the clip alone": _lead("reste", "reste-o1", "-adam"),
           "exploratory: reste above ste, both by Adam": _lead("reste", "ste", "-adam")}, _adam),
    Block("C2 (what explains the order)", "explained by what comes within 1 point of before in both seeds",
          ("reste", "reste-before", *EXPLAIN), 2,
          {f"{row} above reste": _lead(row, "reste") for row in (*EXPLAIN, "reste-before")}, _explained),
    Block("E (curve)", "as good within 1 point, else the sign", ("reste", "ste-gain-clip"), 7,
          {"curve: reste above clip and gain": _lead("reste", "ste-gain-clip")}, _curve),
    Block("B (proxy)", "used only if it repeats six signs, and both main effects within CIFAR-10's intervals",
          _with("-proxy", BASE), 30,  # beside the cells, as many seeds as those have
          {**{f"main effect of the {factor}, proxy": {f"{row}-proxy": w for row, w in design.EFFECTS[factor].items()}
              for factor in ("clip", "gain")},
           "reste above ste, proxy": _lead("reste", "ste", "-proxy"),
           "curve: reste above clip and gain, proxy": _lead("reste", "ste-gain-clip", "-proxy")}, _proxy),
    Block("D (matched forgetting)", "a transient if the gain's upper end is below 2", _with("-decay", BASE), 4,
          {"main effect of the gain": {f"{row}-decay": w for row, w in design.EFFECTS["gain"].items()}}, _decay),
    Block("H (budget)", "the lead at four times the epochs against that at one", (*FEW, *_with("-long", FEW)), 2,
          {"lead over ste, long above short": _change("reste", "ste", "-long")}, _budget),
    Block("G (rivals)", "by the sign; who does not train leaves Table 3's claims",
          ("reste", "dsq", "fda", *_with("-hardtanh", ("ste", "ede"))), 3,
          {"reste above dsq": _lead("reste", "dsq"), "reste above fda": _lead("reste", "fda"),
           "ede above ste, both with IR-Net's Hardtanh": _lead("ede", "ste", "-hardtanh")}, _cells),
)  # fmt: skip
