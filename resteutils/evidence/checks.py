"""What every verdict on runs asks: did everything run, is one row above another, is a number the published one?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from resteutils.evidence import paper, stats, summary, verdict
from resteutils.evidence.comparison import Rows
from resteutils.runs.records import Runs

__all__ = ["LAST_EPOCH", "NUMBER_TOLERANCE", "number_checks", "ordering_check", "pipeline_check"]

LAST_EPOCH = "Reported figures are from the last epoch."

# Top-1 points (profile `paper` only). Full-length runs of one recipe differ by a few tenths from seed to seed, and the
# published figure is the best of all epochs on the test set while ours is the last one: half a point covers both.
NUMBER_TOLERANCE = 0.5


def pipeline_check(runs: Sequence[Any]) -> verdict.Check:
    """Every run is there, with finite numbers or recorded as one whose numbers stopped being finite."""
    frame = summary.per_run(runs)
    broken = frame[~(frame.top1.between(0, 100) & frame.train_loss.abs().lt(float("inf")))]
    shown = f"{len(frame) - len(broken)} of {len(frame)} runs end with a finite loss and an accuracy"
    if len(broken):
        shown += f"; not so: {', '.join(broken.run_id)}"
    lost = summary.diverged(runs)
    if lost:
        said = (f"{row} (seed {', '.join(map(str, sorted(of)))})" for (row, _), of in lost.items())
        shown += f"; diverged, and recorded as such: {', '.join(said)}"
    ended = len(frame) > 0 and not len(broken)
    return verdict.fact(f"every run of the table finished{' or diverged' * bool(lost)}", ended, shown, "pipeline")


def ordering_check(better: str, worse: str, rows: Rows, label: str = "", kind: str = "ordering") -> verdict.Check:
    """``better`` scores higher than ``worse``: over all seeds of both, by the rules of :class:`Rows`."""
    return verdict.ordering(label or f"{better} above {worse}", rows.difference(better, worse), kind=kind)


def number_checks(item: str, runs: Iterable[Any], metric: str = "top1") -> list[verdict.Check]:
    """One check per line that has a published value."""
    checks, runs = [], Runs.of(runs)
    changed = {(r.row, r.epochs): words for r in (run.recipe for run in runs) if (words := summary.changed(r))}
    for (row, epochs), values in summary.lines(runs, metric).items():
        published = paper.value(item, row, metric)
        if published is None:
            continue
        claim = f"{row}, {metric.replace('top', 'top-')} after {epochs} epochs equals the published figure"
        whole = _published_epochs(item, row)
        if epochs != whole or (row, epochs) in changed:  # another recipe cannot speak about the number
            shown = f"measured {stats.mean(values):.2f}, published {published:.2f} after {whole:g} epochs"
            shown += f", with {', '.join(changed[row, epochs])}" if (row, epochs) in changed else ""
            checks.append(verdict.Check(claim, "number", "undecided", shown, f"within {NUMBER_TOLERANCE:g} points"))
        else:
            checks.append(verdict.number(claim, stats.mean(values), published, NUMBER_TOLERANCE))
    return checks


def _published_epochs(item: str, row: str) -> float:
    """Epochs of the recipe behind a published figure; Table 3 and the figures use Table 1's ResNet-20 recipe."""
    name = f"{item}/{row}" if paper.cells("recipe", row=f"{item}/{row}") else "table1/resnet20-1w1a"
    return paper.published_recipe(name)["epochs"]
