"""Figure 6: the training loss at large powers, and a detector that counts its spikes.

A spike is a stretch of epochs in which the training loss stands above the lowest loss of all earlier epochs by more
than ``RISE`` of it and, in curves of at least ``ENOUGH`` epochs, by more than ``NOISE`` times the curve's own relative
roughness. A loss that never comes back is one spike, marked as lasting; a loss that is not a number counts as
infinitely high.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resteutils import measured, paper, stats, verdict
from resteutils.checks import number_checks, pipeline_check
from resteutils.recipes import ITEMS
from resteutils.records import Diverged, Runs

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Spike", "judge", "roughness", "spikes", "table"]

RISE = 0.10
NOISE = 6.0
ENOUGH = 20
BASE = "o3"  # the row that the others are compared with


@dataclass(frozen=True)
class Spike:
    """Epochs ``first`` to ``last`` (from 1), the highest at ``peak``; ``height`` is the loss there over the earlier
    minimum, minus 1. ``lasting``: the loss had not come back when training ended."""

    first: int
    peak: int
    last: int
    height: float
    lasting: bool


def roughness(losses: Sequence[float]) -> float:
    """A robust relative standard deviation of the loss from epoch to epoch, trend removed; 0 below ``ENOUGH`` epochs,
    which cannot tell noise from the bends of the curve itself.

    From the second differences of log(loss), whose variance is six times that of independent noise. Their lower
    quartile is used, which is 0.3186 standard deviations of a normal: spikes may touch up to three quarters of them.
    """
    logs = [math.log(x) for x in losses if 0 < x < math.inf]
    bends = sorted(abs(a - 2 * b + c) for a, b, c in zip(logs, logs[1:], logs[2:], strict=False))
    return bends[len(bends) // 4] / 0.3186 / math.sqrt(6) if len(logs) >= ENOUGH else 0.0


def spikes(losses: Iterable[float], rise: float = RISE, noise: float = NOISE) -> list[Spike]:
    """The spikes of a training loss, one value per epoch.

    >>> [(s.first, s.peak, s.last) for s in spikes([2.0, 1.5, 1.2, 1.0, 1.6, 1.9, 1.0, 0.9, 0.8])]
    [(5, 6, 6)]

    Raises ValueError for a negative threshold.
    """
    if rise < 0 or noise < 0:
        raise ValueError(f"rise = {rise}, noise = {noise}, expected thresholds of at least 0")
    values = [float(x) if math.isfinite(x) else math.inf for x in losses]
    allowed, lowest, found, run = max(rise, noise * roughness(values)), math.inf, [], []
    for epoch, value in enumerate(values, 1):
        if value > (1 + allowed) * lowest:
            run.append((epoch, value / lowest - 1 if lowest > 0 else math.inf))
        elif run:
            found.append(_spike(run, lasting=False))
            run = []
        lowest = min(lowest, value)
    return [*found, _spike(run, lasting=True)] if run else found


def _spike(run: list[tuple[int, float]], lasting: bool) -> Spike:
    peak, height = max(run, key=lambda pair: pair[1])
    return Spike(run[0][0], peak, run[-1][0], height, lasting)


# --- numbers ---------------------------------------------------------------------------------------------------------


def losses(run: Any) -> list[float]:
    """The training loss per epoch; a run that diverged ends with infinity."""
    values = [float(x) for x in run.history["train_loss"]]
    return [*values, math.inf] if isinstance(run, Diverged) else values


def table(runs: Iterable[Any]) -> pd.DataFrame:
    """One line per run: spikes, the power during the first and the height of the highest of them, final loss and
    accuracy, and what the paper prints.
    """
    import pandas as pd

    runs, rows = Runs.of(runs), []
    for run in runs.every:
        r, found, cell = run.recipe, spikes(losses(run)), paper.find("figure6", run.recipe.row)
        ended = not isinstance(run, Diverged)
        rows.append(
            {
                "Row": r.row,
                "o at the end": r.estimator.o,
                "Seed": r.seed,
                "Epochs": r.epochs,
                "Spikes": len(found),
                "o at the first": _power_at(run, found[0].first) if found else "",
                "Lasting": sum(s.lasting for s in found),
                "Highest (% above the minimum)": 100 * max((s.height for s in found), default=0.0),
                "Training loss, end": run.result["train_loss"] if ended else math.nan,
                "Top-1, end (%)": run.result["top1"] if ended else math.nan,
                "Published top-1 (%)": cell.value if cell else math.nan,
                "Ended": "as planned" if ended else run.reason,
            }
        )
    return pd.DataFrame(rows)


def _power_at(run: Any, epoch: int) -> str:
    """The power during an epoch: at the end of the one before, and at its own end."""
    powers = [1.0, *run.history.get("o", [])]  # a run that diverges in its first epoch has none
    return f"{powers[epoch - 1]:.2f} to {powers[epoch]:.2f}" if epoch < len(powers) else f"from {powers[-1]:.2f} on"


def judge(runs: Sequence[Any], profile: str) -> verdict.Verdict:
    """More spikes and a lower accuracy at every larger power than at the paper's; the published accuracies."""
    frame, checks = table(runs), [pipeline_check(runs)] if runs else []
    for epochs, lines in frame.groupby("Epochs"):
        count, top1 = _by_row(lines, "Spikes"), _by_row(lines, "Top-1, end (%)")
        for row in count if BASE in count else ():
            if row != BASE:
                more = stats.difference(count[row], count[BASE], _counted(stats.pool(count)))
                less = stats.difference(top1.get(BASE, {}), top1.get(row, {}), stats.pool(top1))
                asked = [("has more spikes than", more, "spikes")]
                if row in top1:
                    asked.append(("scores below", less, "points"))
                else:
                    lost = "every run of it diverged: it has no accuracy"
                    checks.append(verdict.Check(f"{row} scores below {BASE}", "ordering", "undecided", lost))
                for claim, d, unit in asked:
                    checks.append(verdict.ordering(f"{row} {claim} {BASE}", d, unit, f"{epochs} epochs"))
    checks += number_checks("figure6", runs)
    note = measured.noted("One loss per epoch: what happens within an epoch is averaged away.", runs)
    return verdict.judge(profile, checks, note, measured.not_run(ITEMS["figure6"].rows, runs))


def _by_row(lines: pd.DataFrame, column: str) -> dict[str, dict[int, float]]:
    """{row: {seed: value}} of the runs that have the value: what diverged has no accuracy."""
    known = lines.dropna(subset=[column])
    return stats.groups(known["Row"], known["Seed"], known[column])


def _counted(pooled: stats.Pooled) -> stats.Pooled:
    """Equal counts in all seeds are no proof that there is no noise: a count is not known better than to a half."""
    return stats.Pooled(max(pooled.std, 0.5), pooled.dof)
