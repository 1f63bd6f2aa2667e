"""Table 1: CIFAR-10. What this project measured beside what was published, and what may be concluded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from resteutils.evidence import stats, summary, verdict
from resteutils.evidence.checks import LAST_EPOCH, number_checks, pipeline_check
from resteutils.evidence.table import Table
from resteutils.items import beside_published
from resteutils.items.beside_published import COLUMNS, frame_line, lines, orderings, published_rows
from resteutils.runs.records import Runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLUMNS", "figure", "judge", "table"]


def table(runs: Iterable[Any], profile: str) -> Table:
    """Table 1 (CIFAR-10). ``frame`` has exactly the columns ``COLUMNS``: one line per row and epochs."""
    import pandas as pd

    runs = Runs.of(runs)
    frame = pd.DataFrame([frame_line("table1", line, profile) for line in lines(runs)], columns=COLUMNS)
    return beside_published.table("table1", runs, profile, frame, {"top1": "Top-1"})


def judge(runs: Iterable[Any], profile: str) -> verdict.Verdict:
    """Everything ran; ReSTE above its STE twin and the published order within ResNet-20; the published numbers."""
    runs = Runs.of(runs)
    pairs = [(r, f"{r}-ste") for r in dict.fromkeys(run.recipe.row for run in runs) if not r.endswith(("-ste", "-fp"))]
    pairs += [("resnet20-1w32a", "resnet20-1w1a"), ("resnet20-bireal-1w1a", "resnet20-1w1a")]
    checks = [pipeline_check(runs), *orderings(runs, pairs), *number_checks("table1", runs)]
    lacking = summary.not_run(published_rows("table1"), runs)
    return verdict.judge(profile, checks, summary.noted(LAST_EPOCH, runs), lacking)


def figure(runs: Iterable[Any]) -> Figure:
    """Every seed of every line, their mean, and the published figures."""
    return beside_published.figure("table1", runs, f"Table 1: {_message(Runs.of(runs))}")


def _message(runs: Runs) -> str:
    """In how many pairs of equal network, bits and epochs ReSTE's mean is above STE's."""
    means = {key: stats.mean(values) for key, values in summary.lines(runs).items()}
    pairs = [(mean, means.get((f"{row}-ste", epochs))) for (row, epochs), mean in means.items()]
    leads = [reste > ste for reste, ste in pairs if ste is not None]
    return f"ReSTE above STE in {sum(leads)} of {len(leads)} pairs" if leads else "CIFAR-10"
