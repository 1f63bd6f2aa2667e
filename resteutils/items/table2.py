"""Table 2: ImageNet. What this project measured beside what was published, and what may be concluded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from resteutils.evidence import paper, stats, summary, verdict
from resteutils.evidence.checks import LAST_EPOCH, number_checks, pipeline_check
from resteutils.evidence.table import Table
from resteutils.items import beside_published
from resteutils.items.beside_published import frame_line, lines, orderings, published_rows
from resteutils.runs.records import Runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLUMNS", "figure", "judge", "table"]

_SHARED = beside_published.COLUMNS
COLUMNS = (
    *_SHARED[:5],
    "published_top5",
    *_SHARED[5:8],
    "measured_top5_mean",
    "measured_top5_std",
    *_SHARED[8:],
)


def table(runs: Iterable[Any], profile: str) -> Table:
    """Table 2 (ImageNet): the columns of Table 1 and published_top5, measured_top5_mean, measured_top5_std."""
    import pandas as pd

    runs, rows = Runs.of(runs), []
    for line in lines(runs):
        top5 = {
            "published_top5": paper.value("table2", line.row, "top5"),
            "measured_top5_mean": stats.mean(line.top5),
            "measured_top5_std": stats.std(line.top5),
        }
        rows.append({**frame_line("table2", line, profile), **top5})
    return beside_published.table(
        "table2", runs, profile, pd.DataFrame(rows, columns=COLUMNS), {"top1": "Top-1", "top5": "Top-5"}
    )


def judge(runs: Iterable[Any], profile: str) -> verdict.Verdict:
    """Everything ran; 1/32 above 1/1 and ResNet-34 above ResNet-18, as published; the published numbers."""
    runs = Runs.of(runs)
    pairs = [(f"{net}-1w32a", f"{net}-1w1a") for net in ("resnet18", "resnet34")]
    pairs += [(f"resnet34-{bits}", f"resnet18-{bits}") for bits in ("1w1a", "1w32a")]
    checks = [pipeline_check(runs), *orderings(runs, pairs)]
    checks += number_checks("table2", runs) + number_checks("table2", runs, "top5")
    lacking = summary.not_run(published_rows("table2"), runs)
    return verdict.judge(profile, checks, summary.noted(LAST_EPOCH, runs), lacking)


def figure(runs: Iterable[Any]) -> Figure:
    """Every seed of every line, their mean, and the published figures."""
    return beside_published.figure("table2", runs, "Table 2: ImageNet")
