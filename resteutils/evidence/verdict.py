"""Verdicts: what was checked, what came out, and whether the profile may claim it at all.

A check has a kind. ``formula`` checks hold or fail whatever was trained. ``pipeline`` checks say that everything ran.
``ordering`` checks compare two measured quantities as the paper does; ``control`` checks compare two that the paper
does not have: they explain, and decide nothing. ``number`` checks compare a measured with a published quantity. Each
profile may claim some kinds; every other check comes back as "not claimed", with its figures still shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace

from resteutils.evidence.stats import Difference

__all__ = ["CLAIMS", "KINDS", "STATUSES", "Check", "Verdict", "fact", "judge", "number", "ordering"]

KINDS = ("formula", "pipeline", "ordering", "control", "number")

# How a verdict's text sums them up.
SUMMARY = {
    "The paper's claims": ("ordering", "number"),
    "Controls, which decide nothing": ("control",),
    "Formulas": ("formula",),
    "Pipeline": ("pipeline",),
}

# What a profile's data and budget can carry.
CLAIMS = {
    "smoke": ("formula",),
    "demo": ("formula", "pipeline"),
    "short": ("formula", "pipeline", "ordering", "control"),
    "paper": KINDS,
}

STATUSES = ("supported", "contradicted", "undecided", "not claimed")


@dataclass(frozen=True)
class Check:
    """One statement with the figures that decide it. ``status`` is what the figures say before the profile is asked."""

    claim: str
    kind: str
    status: str
    shown: str
    tolerance: str = ""


def fact(claim: str, holds: bool, shown: str, kind: str = "formula", tolerance: str = "") -> Check:
    """A check that is simply true or false: a formula on a grid, a pipeline that ran."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of check {kind!r}: use {', '.join(KINDS)}")
    return Check(claim, kind, "supported" if holds else "contradicted", shown, tolerance)


def ordering(claim: str, d: Difference, unit: str = "points", note: str = "", kind: str = "ordering") -> Check:
    """``claim`` says that a difference is positive: supported or contradicted if the 95 % interval excludes zero.

    The interval by the compared rows alone is shown beside it and decides nothing. ``kind`` is "control" for what goes
    beyond the paper.
    """
    tolerance = "the interval excludes zero"
    if math.isnan(d.estimate):
        return Check(claim, kind, "undecided", "not measured: no seed has both", tolerance)
    if math.isnan(d.low):
        status, interval = "undecided", f"no interval: one seed each; n = {d.n}"
    else:
        status = "supported" if d.low > 0 else "contradicted" if d.high < 0 else "undecided"
        freedom = f"{d.dof} {'degree' if d.dof == 1 else 'degrees'} of freedom"
        alone = "" if math.isnan(d.alone[0]) else f" (by these rows alone {d.alone[0]:+.2f} to {d.alone[1]:+.2f})"
        interval = f"95 % interval {d.low:+.2f} to {d.high:+.2f}{alone}; n = {d.n}, {freedom}"
    return Check(claim, kind, status, f"{d.estimate:+.2f} {unit}, {interval}{note and f'; {note}'}", tolerance)


def number(claim: str, measured: float, published: float | None, tolerance: float, unit: str = "points") -> Check:
    """``claim`` says that the measured value equals the published one within ``tolerance``."""
    accepted = f"within {tolerance:g} {unit}"
    if published is None or math.isnan(measured):
        missing = "no published value" if published is None else "not measured"
        return Check(claim, "number", "undecided", missing, accepted)
    status = "supported" if abs(measured - published) <= tolerance else "contradicted"
    shown = f"measured {measured:.2f}, published {published:.2f}, {measured - published:+.2f} {unit}"
    return Check(claim, "number", status, shown, accepted)


@dataclass(frozen=True)
class Verdict:
    """The outcome of an item: one status, one sentence, and the checks behind it."""

    profile: str
    status: str
    text: str
    checks: tuple[Check, ...] = field(default=())

    def to_dict(self) -> dict:
        return asdict(self)

    def _repr_html_(self) -> str:
        from resteutils.evidence.html import verdict_html

        return verdict_html(self.to_dict())

    def __str__(self) -> str:
        lines = [f"{self.status.upper()} (profile {self.profile}). {self.text}"]
        return "\n".join(
            lines + [f"- {c.status}{' (control)' * (c.kind == 'control')}: {c.claim}: {c.shown}" for c in self.checks]
        )


def judge(profile: str, checks: Iterable[Check], note: str = "", not_run: Iterable[str] = ()) -> Verdict:
    """Ask the profile which checks it may claim, and sum up.

    The paper's claims (orderings and numbers) decide; formulas decide where an item has nothing else. One contradicted
    check contradicts the item; else one undecided check leaves it undecided; else it is supported. Controls, and checks
    of a kind that the profile cannot carry, decide nothing; a formula or a pipeline that fails contradicts. ``not_run``
    names rows of the paper's claim that have no run: without them it is at most undecided.
    Raises ValueError for an unknown profile.
    """
    if profile not in CLAIMS:
        raise ValueError(f"unknown profile {profile!r}: use {', '.join(CLAIMS)}")
    allowed = CLAIMS[profile]
    judged = tuple(c if c.kind in allowed else replace(c, status="not claimed") for c in checks)
    deciding = [c for c in judged if c.kind in ("ordering", "number")] or [c for c in judged if c.kind == "formula"]
    found = {c.status for c in deciding}
    found |= {c.status for c in judged if c.kind in ("formula", "pipeline")} & {"contradicted"}
    status = next((s for s in ("contradicted", "undecided", "supported") if s in found), "not claimed")
    lacking = tuple(not_run)
    status = "undecided" if lacking and status == "supported" else status
    said = [_summed_up(judged), _lacking(lacking), _limits(profile, judged), note]
    text = " ".join(part for part in said if part)
    return Verdict(profile, status, text, judged)


def _summed_up(judged: tuple[Check, ...]) -> str:
    said = []
    for name, kinds in SUMMARY.items():
        found = [c.status for c in judged if c.kind in kinds]
        if found:
            said.append(f"{name}: {', '.join(f'{found.count(s)} {s}' for s in STATUSES if s in found)}.")
    return " ".join(said) or "Nothing was checked."


def _lacking(rows: tuple[str, ...], most: int = 8) -> str:
    if not rows:
        return ""
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return f"Not run, and so the claim as a whole is open: {', '.join(rows[:most])}{more}."


def _limits(profile: str, judged: tuple[Check, ...]) -> str:
    if not any(c.status == "not claimed" for c in judged):
        return ""
    return {
        "smoke": "Profile smoke only tests the programs: it says nothing about accuracy.",
        "demo": "Profile demo shows that everything runs: it says nothing about accuracy.",
        "short": "Profile short may claim orderings and trends, not the paper's numbers.",
        "paper": "",
    }[profile]
