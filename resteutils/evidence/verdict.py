"""Verdicts: what was checked, what came out, and whether the profile may claim it at all.

A check has a kind. ``formula`` checks hold or fail whatever was trained. ``pipeline`` checks say that everything ran.
``ordering`` checks compare two measured quantities as the paper does; ``control`` checks compare two that the paper
does not have: they explain, and decide nothing. ``number`` checks compare a measured with a published quantity. Each
profile may claim some kinds; every other check comes back as "not claimed", with its figures still shown. The p values
of all comparisons of one verdict are adjusted together (Holm): what the adjusted p does not carry is undecided.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace

from resteutils.evidence.html import verdict_html
from resteutils.evidence.stats import LEVEL, Difference, holm
from resteutils.recipes.profiles import PROFILES

__all__ = ["CLAIMS", "KINDS", "STATUSES", "SUMMARY", "Check", "Verdict", "fact", "judge", "number", "ordering"]

KINDS = ("formula", "pipeline", "ordering", "control", "number")

# How a verdict's text sums them up.
SUMMARY = {
    "The paper's claims": ("ordering", "number"),
    "Controls, which decide nothing": ("control",),
    "Formulas": ("formula",),
    "Pipeline": ("pipeline",),
}

# What a profile's data and budget can carry.
CLAIMS = {name: profile.claims for name, profile in PROFILES.items()}

STATUSES = ("supported", "contradicted", "undecided", "not claimed")


@dataclass(frozen=True)
class Check:
    """One statement with the figures that decide it. ``status`` is what the figures say before the profile is asked."""

    claim: str
    kind: str
    status: str
    shown: str
    tolerance: str = ""
    p: float | None = None  # of a comparison, before Holm's adjustment


def fact(claim: str, holds: bool, shown: str, kind: str = "formula", tolerance: str = "") -> Check:
    """A check that is simply true or false: a formula on a grid, a pipeline that ran."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of check {kind!r}: use {', '.join(KINDS)}")
    return Check(claim, kind, "supported" if holds else "contradicted", shown, tolerance)


def ordering(claim: str, d: Difference, unit: str = "points", note: str = "", kind: str = "ordering") -> Check:
    """``claim`` says that a difference is positive: supported or contradicted if the 95 % interval excludes zero.

    A spread of zero between seeds decides nothing. Where seeds of a compared row have no value, they are named, and the
    interval with the worst value in their place has to agree. The intervals by the compared rows alone and by moderated
    variances are shown beside it and decide nothing. ``kind`` is "control" for what goes beyond the paper.
    """
    tolerance, lost = "the interval excludes zero", f"; {d.lost}" if d.lost else ""
    if math.isnan(d.estimate):
        return Check(claim, kind, "undecided", f"not measured: a row has no value{lost}", tolerance)
    p = None if math.isnan(d.p) else d.p
    shown = f"{d.estimate:+.2f} {unit}, {_interval(d)}{lost}{note and f'; {note}'}"
    return Check(claim, kind, _status(d), shown, tolerance, p)


def _status(d: Difference) -> str:
    if math.isnan(d.low):
        return "undecided"
    status = _side(d.low, d.high)
    agrees = not d.lost or _side(*d.worst) == status
    return status if agrees else "undecided"


def _side(low: float, high: float) -> str:
    return "supported" if low > 0 else "contradicted" if high < 0 else "undecided"


def _interval(d: Difference) -> str:
    """The interval of a difference in words, with what stands beside it and n."""
    n = f"n = {d.n}" if len(set(d.counts)) < 2 else f"n = {' and '.join(map(str, d.counts))}"
    by = f", {d.by}" if d.by else ""
    if math.isnan(d.low):
        single = "a row has one seed" if max(d.counts, default=1) > 1 else "one seed each"
        why = "no spread between seeds" if d.n > 1 else single
        return f"no interval: {why}{by}; {n}"
    beside = {"by these rows alone": (math.nan, math.nan) if d.by else d.alone, "by moderated variances": d.moderated}
    shown = "; ".join(f"{whose} {_bounds(pair)}" for whose, pair in beside.items() if not math.isnan(pair[0]))
    said = f"{100 * LEVEL:g} % interval {_bounds((d.low, d.high))}{f' ({shown})' if shown else ''}{by}"
    if d.lost:
        said += f"; with the worst value for seeds without one: {_bounds(d.worst)}"
    return f"{said}; {n}, {d.dof:.3g} {'degree' if d.dof == 1 else 'degrees'} of freedom"


def _bounds(pair: tuple[float, float]) -> str:
    return "not known" if math.isnan(pair[0]) else f"{pair[0]:+.2f} to {pair[1]:+.2f}"


def number(claim: str, measured: float, published: float | None, tolerance: float) -> Check:
    """``claim`` says that the measured value equals the published one within ``tolerance``."""
    accepted = f"within {tolerance:g} points"
    if published is None or math.isnan(measured):
        missing = "no published value" if published is None else "not measured"
        return Check(claim, "number", "undecided", missing, accepted)
    status = "supported" if abs(measured - published) <= tolerance else "contradicted"
    shown = f"measured {measured:.2f}, published {published:.2f}, {measured - published:+.2f} points"
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
        return verdict_html(self.to_dict())

    def __str__(self) -> str:
        lines = [f"{self.status.upper()} (profile {self.profile}). {self.text}"]
        return "\n".join(
            lines + [f"- {c.status}{' (control)' * (c.kind == 'control')}: {c.claim}: {c.shown}" for c in self.checks]
        )


def adjusted(checks: Iterable[Check]) -> list[Check]:
    """The checks with Holm's p shown beside each comparison; where it is not below 5 %, the comparison is undecided."""
    checks = list(checks)
    ps = holm([math.nan if c.p is None else c.p for c in checks])
    if sum(c.p is not None for c in checks) < 2:
        return checks
    return [c if c.p is None else _carried(c, p) for c, p in zip(checks, ps, strict=True)]


def _carried(check: Check, p: float) -> Check:
    shown = f"{check.shown}; Holm p {'< 0.0001' if p < 1e-4 else f'= {p:.2g}'}"
    return replace(check, status=check.status if p < 1 - LEVEL else "undecided", shown=shown)


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
    judged = tuple(c if c.kind in allowed else replace(c, status="not claimed") for c in adjusted(checks))
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
    return PROFILES[profile].limit
