"""The findings that README and docs/ print between markers: tables and sentences made from the records of ``short``.

Every number comes from a record or from ``paper.csv``; :mod:`resteutils.evidence.markers` puts the blocks into a text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from resteutils.evidence import html, paper, speed, stats, summary, verdict
from resteutils.evidence.comparison import Rows, collapsed
from resteutils.evidence.markers import replaced
from resteutils.evidence.names import in_words
from resteutils.evidence.stats import Difference
from resteutils.items import design, order, table3, why
from resteutils.items.blocks import ELSEWHERE
from resteutils.recipes import ITEMS, recipe
from resteutils.runs.records import Runs, ended_runs
from resteutils.system.files import write_atomic
from resteutils.system.settings import Places

__all__ = ["blocks", "records_of", "rewrite"]

PROFILE, EPOCHS = "short", 10
PICTURE = Path("docs", "equilibrium.png")
BUDGET = (
    "CIFAR-10, ResNet-20 W/A 1/1, **10 epochs** where the paper trains 1000; top-1 in %, mean ± std over n seeds, 95 % "
    "intervals."
)
NAMES = {
    "ste-gain-clip": "control: a straight line with ReSTE's clip and its largest slope",
    "reste": "**ReSTE, o to 3**",
    "ste-gain": "control: that slope on the weights only, clip at 1",
    "reste-weights": "control: ReSTE on the weights only",
    "reste-o1": "control: that clip only (ReSTE kept at o = 1)",
    "fda": "FDA",
    "reste-activations": "control: ReSTE on the activations only",
    "dsq": "DSQ",
    "ste": "STE, clipped at 1",
    "ede-weights": "control: EDE on the weights only",
    "ede": "EDE (IR-Net) on both sides",
    "rbnn": "RBNN",
    "resnet20-o10": "ReSTE, o to 10",
    "ste-identity": "control: STE, not clipped",
}
FRONT = ("ste-gain-clip", "reste", "fda", "dsq", "ste")


def records_of(item: str, places: Places, ended: Runs | None = None) -> Runs:
    """All runs of an item's rows that have ended, whatever item they were trained for, under its own row names."""
    ended = ended_runs(places.runs, places.results) if ended is None else ended
    rows: dict[str, list[str]] = {}
    for row in ITEMS[item].rows:
        rows.setdefault(recipe(f"{item}/{row}", PROFILE).identity, []).append(row)

    def named(runs: list[Any]) -> list[Any]:
        return [run.under(item, row, PROFILE) for run in runs for row in rows.get(run.recipe.identity, ())]

    return Runs(named(ended), named(ended.diverged))


def blocks(places: Places) -> dict[str, str]:
    """Every block by name, as Markdown."""
    ended = ended_runs(places.runs, places.results)
    runs, powers = records_of("table3", places, ended), records_of("figure4", places, ended)
    ten = [run for run in powers if run.recipe.row == "resnet20-o10"]
    rows = Rows.of(Runs([*runs, *ten], runs.diverged), EPOCHS)
    table = Rows.of(runs, EPOCHS)
    parts = records_of("why", places, ended)
    found = why.measure(parts)
    checks = table3.judge(runs, PROFILE).checks
    return {
        "findings-budget": BUDGET,
        "findings-table": _table(rows, FRONT),
        "findings": "\n".join(_bullets(table, Rows.of(powers, EPOCHS), found)),
        "items": _items(),
        "evidence-table": _table(rows, NAMES),
        "evidence-design": html.table_markdown(design.frame(table)),
        "evidence-powers": _powers(powers),
        "evidence-comparisons": _comparisons(checks),
        "evidence-blocks": "\n".join(
            [*(_block(outcome, parts) for outcome in found), *(f"* **{name}**: not run." for name in ELSEWHERE)]
        ),
        "evidence-machines": _machines(ended),
        "evidence-order": _order(places),
        **speed.blocks(places.results),
        "evidence-notes": "\n".join(
            f"* {in_words(note)}" for note in table3.table(runs, PROFILE).notes if "Detectable" not in note
        ),
    }


def picture(places: Places) -> bytes:
    """README's picture as a PNG, :mod:`resteutils.items.figure4.cover`."""
    from resteutils.items.figure4 import cover, plane

    ended = ended_runs(places.runs, places.results)
    table, powers = records_of("table3", places, ended), records_of("figure4", places, ended)
    at = Rows.of(powers, EPOCHS).values
    by_power = {float(row.removeprefix("resnet20-o")): at[row] for row in at if row.startswith("resnet20-o")}
    caption = f"ResNet-20, W/A 1/1. {summary.caption(powers, PROFILE)} A point of fewer seeds says so."
    return cover.png(cover.figure(by_power, Rows.of(table, EPOCHS), plane.points(powers, places), caption))


def _order(places: Places) -> str:
    """What the item ``order`` measured, from its committed table."""
    import pandas as pd

    path = places.results / PROFILE / "order" / "table.csv"
    if not path.is_file():
        return f"Not measured: `make reproduce-order PROFILE={PROFILE}` does it."
    found = pd.read_csv(path)
    ours, theirs = (found[found["Order"] == order.ORDERS[each]] for each in ("after", "before"))
    changed, norm = "Changed by one last bit (%)", 100 * (theirs["Gradient's norm"] - 1)
    return (
        f"* Their order changes the gradient of the binary weights: its norm is {order.span(norm)} % larger, "
        f"its cosine to ours {order.span(theirs['Cosine to ours'], '.2f')}.\n"
        f"* One last bit more in the scales changes their gradient by {order.span(theirs[changed])} %, ours by "
        f"{order.span(ours[changed], '.1g')} %.\n"
        f"* Fresh ResNet-20, seeds {', '.join(map(str, found['Seed'].unique()))}; 64 images of noise: item `order`."
    )


def rewrite(root: Path, places: Places, new: Mapping[str, str] | None = None) -> list[Path]:
    """Rewrite the blocks of README.md and docs/*.md below ``root``, with ``new`` where :func:`blocks` made them
    already; return the files that changed.

    README's picture is drawn anew where a block changed: another version of matplotlib alone would not draw it alike.
    """
    new, changed = blocks(places) if new is None else new, []
    for path in sorted([*root.glob("README.md"), *root.glob("docs/*.md")]):
        text = path.read_text(encoding="utf-8")
        again = replaced(text, new)
        if again != text:
            path.write_text(again, encoding="utf-8")
            changed.append(path)
    if changed or not (root / PICTURE).is_file():
        write_atomic(root / PICTURE, picture(places))
        changed.append(root / PICTURE)
    return changed


# --- the blocks ------------------------------------------------------------------------------------------------------


def said(found: Difference) -> str:
    """``+6.53 [+4.73, +8.33]``."""
    return f"{found.estimate:+.2f} {design.bounds((found.low, found.high))}".rstrip()


def _table(rows: Rows, names: Iterable[str]) -> str:
    """Rows as a reader wants them, highest first; those that diverged at the end."""
    ordered = sorted(names, key=lambda row: -stats.mean(rows.values[row]) if rows.values.get(row) else 0.0)
    head = ["estimator", "published (1000 epochs, best)", "measured (10 epochs, last)", "n", "difference to STE"]
    lines = []
    for row in ordered:
        values, lost = rows.values.get(row, {}), rows.lost.get(row, {})
        if not values and not lost:
            continue
        mean = summary.spread(values) if values else "diverged"
        mean = f"**{mean}**" if row == "reste" else mean
        against = "reference" if row == "ste" else said(rows.difference(row, "ste")) if values else "-"
        lines.append([NAMES[row], _published(row), mean, str(len(values) + len(lost)), against])
    return html.markdown(head, lines, ["---", *["---:"] * 4])


def _published(row: str) -> str:
    value = paper.value("figure6", "o10") if row == "resnet20-o10" else paper.value("table3", row)
    return "-" if value is None else f"{value:.2f}"


def _powers(runs: Runs) -> str:
    rows = Rows.of(runs, EPOCHS)
    names = [row for row in ITEMS["figure4"].rows if rows.values.get(row)]
    turned = [run.recipe.row for run in runs if run.recipe.epochs == EPOCHS and collapsed(run)]
    lines = [
        ["measured", *(summary.spread(rows.values[row]) for row in names)],
        ["n", *(str(len(rows.values[row])) for row in names)],
        ["trainings that collapsed", *(str(turned.count(row)) for row in names)],
    ]
    head = ["ReSTE, o at the end", *(row.removeprefix("resnet20-o") for row in names)]
    return html.markdown(head, lines, ["---", *["---:"] * len(names)])


def _comparisons(checks: tuple[verdict.Check, ...]) -> str:
    asked = [check for check in checks if check.kind in ("ordering", "control")]
    lines = [
        [c.claim.removesuffix(" after 10 epochs") + " (control)" * (c.kind == "control"), c.status, c.shown]
        for c in asked
    ]
    return in_words(html.markdown(["claim, after 10 epochs", "outcome", "figures"], lines))


def _bullets(rows: Rows, powers: Rows, found: list[why.Outcome]) -> list[str]:
    effects, lead = design.effects(rows), rows.difference("reste", "ste")
    best = sorted(powers.values, key=lambda row: -stats.mean(powers.values[row]))[:2]
    named = " and ".join(sorted((row.removeprefix("resnet20-o") for row in best), key=float))
    both = all(effects[factor].low > 0 for factor in ("clip", "gain"))
    return [
        f"* **ReSTE {'beats' if lead.low > 0 else 'is not shown to beat'} the clipped STE**: {said(lead)} points. "
        f"Accuracy is highest at o = {named}; the paper's power is 3.",
        f"* **A clip and a gain {'' if both else 'are not shown to '}lead STE too, without the curve.** The "
        f"activations' clip at 1.5 adds {said(effects['clip'])}, the slope on the weights {said(effects['gain'])}. "
        + _curve(rows, _named(found, "E")),
        *_adam(_named(found, "A")),
        _scaling(_named(found, "C")),
    ]


def _named(found: list[why.Outcome], letter: str) -> why.Outcome:
    return next(outcome for outcome in found if outcome.block.name.startswith(f"{letter} "))


def _curve(rows: Rows, block: why.Outcome) -> str:
    """What block E says of ReSTE's curve; until it is complete, what Table 3's interval says."""
    if block.complete:
        (curve,) = block.found.values()
        return (
            f"ReSTE minus a straight line with both, {block.block.n} seeds each: {said(curve)}. By the rule fixed "
            f"beforehand, {block.words}."
        )
    curve = rows.difference("reste", "ste-gain-clip")
    return f"ReSTE minus a straight line with both: {said(curve)}, {_seen(curve)}."


def _adam(block: why.Outcome) -> list[str]:
    """The bullet on block A, once it is complete."""
    if not block.complete:
        return []
    _, curve, lead = block.found.values()
    return [
        f"* **By Adam**, which divides that slope out, ReSTE minus STE is {said(lead)}, {_seen(lead)}. ReSTE minus a "
        f"straight line with its clip is {said(curve)}, {_seen(curve)}; {block.block.n} seeds each."
    ]


def _scaling(order: why.Outcome) -> str:
    """The bullet on block C."""
    if order.complete:
        gain, change, curve = order.found.values()
        rule = f"By the rule fixed beforehand, {order.words}."
        if order.planned:
            first = next(iter(order.planned.values()))
            rule = (
                f"With the {order.block.n} seeds planned alone the first is {said(first)}, {_seen(first)}. The rule "
                "fixed beforehand says one thing with these and another with all: borderline. The profiles keep ours "
                "until theirs has as many seeds."
            )
        return (
            f"* **The order of scaling.** The authors scale before the convolution, we after it. ReSTE in their order "
            f"minus ours: {said(gain)}, {_seen(gain)}. Its lead over STE changes by {said(change)}. {rule} "
            f"A comparison that was not planned: ReSTE minus the straight line, both in "
            f"their order: {said(curve)}, {_seen(curve)}."
        )
    own = [row for row in order.block.rows if row in order.block.own]
    ended = sum(order.ended[row] for row in own)
    return (
        f"* **The order of scaling** is open. The authors scale before the convolution, we after it. {ended} of "
        f"{order.block.n * len(own)} runs in their order have ended. Until then no number here is a result about the "
        "paper's recipe."
    )


def _seen(d: Difference) -> str:
    """What an interval says about a difference."""
    return "above 0" if d.low > 0 else "below 0" if d.high < 0 else "undecided"


def _block(outcome: why.Outcome, runs: Runs) -> str:
    """A block's outcome, its contrasts, what its own rows took and its rule; of one that is not complete they decide
    nothing."""
    contrasts = "; ".join(f"{name} {said(found)}" for name, found in outcome.found.items())
    begun = outcome.words != "not run" and contrasts
    shown = f" {'Found' if outcome.complete else 'So far'}: {in_words(contrasts)}." if begun else ""
    own = [run for run in runs if run.recipe.row in outcome.block.own]
    took = f" {len(own)} runs, {_seconds(own) / 3600:.1f} core-hours." if begun else ""
    return f"* **{outcome.block.name}**: {in_words(outcome.words)}.{shown}{took} Rule: {outcome.block.rule}."


def _seconds(runs: Iterable[Any]) -> float:
    """How long the epochs of these runs took together, pauses counted."""
    return float(sum(run.history["seconds"].sum() for run in runs))


def _machines(ended: Runs) -> str:
    """The machines that trained ``short``'s runs, and how long a run of ten epochs took there."""
    short = [run for run in ended if run.recipe.profile == PROFILE]
    machines: dict[tuple[str, str], list[Any]] = {}
    for run in short:
        had = run.provenance["machine"]
        machines.setdefault((f"{had['cpu']}, {had['simd']}", run.provenance["versions"]["torch"]), []).append(run)
    lines = []
    for (machine, torch), of in sorted(machines.items(), key=lambda each: -len(each[1])):
        whole = [r for r in of if r.recipe.epochs == EPOCHS and r.recipe.dataset == "cifar10"]
        spans = []
        for scaled in ("after", "before"):
            minutes = [_seconds([run]) / 60 for run in whole if run.recipe.scale_order == scaled]
            spans.append(f"{min(minutes):.0f} to {max(minutes):.0f}" if minutes else "-")
        lines.append([machine, torch, str(len(of)), f"{_seconds(of) / 3600:.1f}", *spans])
    head = ["machine, one thread a run", "torch", "runs", "core-hours", "minutes of 10 epochs", "in the authors' order"]
    return html.markdown(head, lines, ["---", "---", *["---:"] * 4])


def _items() -> str:
    lines = [[f"`{item.name}`", item.title, f"`{item.notebook}`"] for item in ITEMS.values()]
    return html.markdown(["item", "what it reproduces", "notebook"], lines)
