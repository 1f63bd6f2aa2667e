"""What ReSTE's lead is made of: the blocks of ``docs/protocol.md``, version 2, each with its rule and its outcome.

The rows are Table 3's 2x2 cells of clip and gain and its ReSTE, and what each block changes in them. A block that is
not complete decides nothing; its outcome says how far it is. The block that has no rows here (ablations on the
proxy) is named as not run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from resteutils.evidence import summary, verdict
from resteutils.evidence.checks import LAST_EPOCH, pipeline_check
from resteutils.evidence.comparison import Rows, failed_words
from resteutils.evidence.names import in_words
from resteutils.evidence.stats import Difference
from resteutils.evidence.table import Table, every_run
from resteutils.items import design
from resteutils.items.blocks import BASE, BLOCKS, ELSEWHERE, Block
from resteutils.items.equivalence import Training
from resteutils.items.style import COLOURS, INK, blank, instead, styled
from resteutils.runs.records import Runs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["BLOCKS", "Outcome", "figure", "judge", "measure", "table"]


@dataclass(frozen=True)
class Outcome:
    """A block's contrasts as far as its rows have runs, and its word: the rule's where it is complete.

    Where further seeds of some of its rows change what the rule says, ``planned`` has the contrasts of the block's own
    seeds, 0 to n - 1, and the word names both.
    """

    block: Block
    found: dict[str, Difference]
    ended: dict[str, int]  # how many runs of each row
    words: str
    planned: dict[str, Difference] = field(default_factory=dict)

    @property
    def lacking(self) -> tuple[str, ...]:
        """The rows that want runs, and how many of how many they have."""
        return tuple(f"{row} {n} of {self.block.n}" for row, n in self.ended.items() if n < self.block.n)

    @property
    def complete(self) -> bool:
        return not self.lacking


def measure(runs: Iterable[Any]) -> list[Outcome]:
    """The outcome of every block."""
    rows = Rows.of(_longest(Runs.of(runs)))
    return [_outcome(block, rows.only((*BASE, *block.rows))) for block in BLOCKS]


def _longest(runs: Runs) -> Runs:
    """Each row at its largest number of epochs: budgets are never mixed within a row."""
    most: dict[str, int] = {}
    for run in runs.every:
        most[run.recipe.row] = max(run.recipe.epochs, most.get(run.recipe.row, 0))
    return Runs(*([r for r in of if r.recipe.epochs == most[r.recipe.row]] for of in (runs, runs.diverged)))


def _outcome(block: Block, rows: Rows) -> Outcome:
    ended = {row: len(rows.values.get(row, {})) + len(rows.lost.get(row, {})) for row in block.rows}
    found = _contrasts(block, rows)
    outcome = Outcome(block, found, ended, "not run")
    if outcome.complete and len(found) == len(block.contrasts):
        words, own = _decided(block, found, rows), rows.first(block.n)
        planned = _contrasts(block, own)
        before = _decided(block, planned, own) if len(planned) == len(found) else words
        if before == words:
            return replace(outcome, words=words)
        both = f"borderline. With all seeds: {words}. With seeds 0 to {block.n - 1}, as planned: {before}"
        return replace(outcome, words=both, planned=planned)
    if any(ended[row] for row in block.own):
        return replace(outcome, words=f"undecided, not complete: {', '.join(outcome.lacking)}")
    return outcome


def _contrasts(block: Block, rows: Rows) -> dict[str, Difference]:
    there = rows.values.keys() | rows.lost.keys()
    found = {name: rows.contrast(w) for name, w in block.contrasts.items() if w.keys() <= there}
    return {name: d for name, d in found.items() if d.estimate == d.estimate}


def _decided(block: Block, found: dict[str, Difference], rows: Rows) -> str:
    known = all(d.low == d.low for d in found.values())
    return block.decide(found, rows) if known else "undecided: no spread is known"


# --- the table -------------------------------------------------------------------------------------------------------


def table(runs: Iterable[Any], found: Sequence[Outcome], profile: str) -> Table:
    """One line per contrast, with the block's rule and outcome; below it every run."""
    import pandas as pd

    runs = Runs.of(runs)
    lines = [line for outcome in found for line in _lines(outcome)]
    frame = pd.DataFrame(lines)
    sections = {"Blocks, by the rules of docs/protocol.md": _reading(frame), "Every run": every_run(runs)}
    notes = (*failed_words(Rows.of(_longest(runs))), *summary.shared_words(runs), *summary.diverged_words(runs))
    return Table(frame, sections, summary.caption(runs, profile), notes)


def _lines(outcome: Outcome) -> list[dict[str, Any]]:
    block = outcome.block
    shared = {"block": block.name, "rule": block.rule, "outcome": outcome.words, "complete": outcome.complete}
    empty = {"contrast": "", "estimate": None, "ci_low": None, "ci_high": None, "welch_low": None, "welch_high": None,
             "n": ""}  # fmt: skip
    return [
        shared
        | {"contrast": name, "estimate": d.estimate, "ci_low": d.low, "ci_high": d.high, "welch_low": d.alone[0],
           "welch_high": d.alone[1], "n": " + ".join(map(str, d.counts))}
        for name, d in outcome.found.items()
    ] or [shared | empty]  # fmt: skip


def _reading(frame: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    numeric = "estimate ci_low ci_high welch_low welch_high".split()
    frame = frame.assign(**{name: frame[name].astype(float) for name in numeric})
    return pd.DataFrame(
        [
            {
                "Block": r.block,
                "Contrast": r.contrast,
                "Points": "" if r.estimate != r.estimate else f"{r.estimate:+.2f}",
                "95 %": design.bounds((r.ci_low, r.ci_high)),
                "By these rows alone": design.bounds((r.welch_low, r.welch_high)),
                "n": r.n,
                "Outcome": r.outcome,
                "Rule": r.rule,
            }
            for r in frame.itertuples()
        ]
    )


# --- the verdict -----------------------------------------------------------------------------------------------------


def flips(trained: Mapping[str, Training]) -> pd.DataFrame:
    """How many signs of the binary weights each step changes."""
    import pandas as pd

    frame = pd.DataFrame({name: each.flips() for name, each in trained.items()})
    return frame.set_index(frame.index + 1).rename_axis("step")


def sign_differences(trained: Mapping[str, Training]) -> pd.DataFrame:
    """How many signs of the binary weights differ from those of the training with a gain, after each step."""
    import pandas as pd

    gain = trained["gain"].signs
    return pd.DataFrame(
        {
            name: [int((a != b).sum()) for a, b in zip(each.signs, gain, strict=True)]
            for name, each in trained.items()
            if name != "gain"
        }
    ).rename_axis("step")


def judge(
    runs: Iterable[Any], found: Sequence[Outcome], profile: str, trained: Mapping[str, Training] | None = None
) -> verdict.Verdict:
    """Everything ran; each contrast of a complete block as a control; every block's outcome in the text; where
    ``trained`` is given, that a gain trains as smaller weights do."""
    runs = Runs.of(runs)
    checks = [pipeline_check(runs)]
    if trained:
        apart, count = sign_differences(trained)["small"], len(trained["gain"].signs[0])
        shown = f"{apart.max()} of {count:,} signs differ in {len(apart) - 1} steps"
        checks.append(verdict.fact("a gain on the weights trains as weights smaller by it do", apart.max() == 0, shown))
    for outcome in found:
        for name, d in outcome.found.items() if outcome.complete else ():
            checks.append(verdict.ordering(f"{outcome.block.name}: {name}", d, kind="control"))
    open_blocks = [*ELSEWHERE, *(outcome.block.name for outcome in found if not outcome.complete)]
    return verdict.judge(profile, checks, summary.noted(f"{words(found)} {LAST_EPOCH}", runs), open_blocks)


def words(found: Sequence[Outcome]) -> str:
    """One sentence per block."""
    return " ".join(f"{outcome.block.name}: {outcome.words}." for outcome in found)


# --- the picture -----------------------------------------------------------------------------------------------------


@styled
def figure(found: Sequence[Outcome]) -> Figure:
    """Every contrast with its 95 % interval; blocks that are not complete are hollow, those not run a word."""
    lines = [(outcome, name) for outcome in found for name in outcome.found or [""]]
    figure, axes = blank(7.2, 1.0 + 0.34 * len(lines))
    for y, (outcome, name) in enumerate(lines):
        d = outcome.found.get(name)
        if d is None:
            instead(axes, y, "not run")
            continue
        colour = COLOURS["ReSTE"] if outcome.complete else COLOURS["other"]
        if d.low == d.low:
            axes.plot([d.low, d.high], [y, y], "-", color=colour, lw=2, solid_capstyle="butt")
        axes.plot(d.estimate, y, "o", color=colour, mfc=colour if outcome.complete else "white", ms=6)
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_yticks(
        range(len(lines)), [in_words(f"{o.block.name}: {name}" if name else o.block.name) for o, name in lines]
    )
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("difference in top-1 (points); hollow: block not complete")
    known = [f"{name} {d.estimate:+.1f}" for name in ("clip", "gain") if (d := found[0].found.get(name)) is not None]
    axes.set_title(f"ReSTE's lead: {', '.join(known)} points" if known else "What ReSTE's lead is made of")
    return figure
