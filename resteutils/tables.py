"""Tables 1 and 2: what this project measured beside what was published, and what may be concluded.

A :class:`Table` holds the machine-readable frame (``table.csv``) and the sections that people read (``table.md`` and
``table.html``): rows with mean ± std (n) of the last epoch and of the best epoch, every single run, and the published
competitors with the standing of each figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from resteutils import measured, pages, paper, stats, verdict
from resteutils.checks import LAST_EPOCH, number_checks, ordering_check, pipeline_check
from resteutils.records import Runs

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "TABLE1_COLUMNS",
    "Table",
    "every_run",
    "table1",
    "table1_verdict",
    "table2",
    "table2_verdict",
]

TABLE1_COLUMNS = ("row backbone method bits published source measured_mean measured_std n profile epochs").split()


@dataclass(frozen=True)
class Table:
    """``frame`` goes to table.csv; ``sections`` (title to frame) and ``caption`` to table.md and table.html."""

    frame: pd.DataFrame
    sections: Mapping[str, pd.DataFrame]
    caption: str
    notes: Sequence[str] = ()

    def to_markdown(self) -> str:
        parts = [self.caption, *self.notes]
        for title, frame in self.sections.items():
            parts += [f"## {title}", pages.table_markdown(frame)]
        return "\n\n".join(parts) + "\n"

    def to_html(self) -> str:
        parts = [f'<p class="soft">{escape(text)}</p>' for text in (self.caption, *self.notes)]
        for title, frame in self.sections.items():
            parts += [f"<h3>{escape(title)}</h3>", pages.table_html(frame)]
        return "\n".join(parts)

    _repr_html_ = to_html
    _repr_markdown_ = to_markdown


def table1(runs: Iterable[Any], profile: str) -> Table:
    """Table 1 (CIFAR-10). ``frame`` has exactly the columns ``TABLE1_COLUMNS``: one line per row and epochs."""
    import pandas as pd

    runs = Runs.of(runs)
    frame = pd.DataFrame([_frame_line("table1", line, profile) for line in _lines(runs)], columns=TABLE1_COLUMNS)
    return _table("table1", runs, profile, frame, {"top1": "Top-1"})


def table2(runs: Iterable[Any], profile: str) -> Table:
    """Table 2 (ImageNet): the columns of Table 1 and published_top5, measured_top5_mean, measured_top5_std."""
    import pandas as pd

    runs, rows = Runs.of(runs), []
    for line in _lines(runs):
        cell = paper.find("table2", line.row, "top5")
        top5 = {
            "published_top5": cell.value if cell else None,
            "measured_top5_mean": stats.mean(line.top5),
            "measured_top5_std": stats.std(line.top5),
        }
        rows.append({**_frame_line("table2", line, profile), **top5})
    columns = TABLE1_COLUMNS[:5] + ["published_top5"] + TABLE1_COLUMNS[5:8]
    columns += ["measured_top5_mean", "measured_top5_std"] + TABLE1_COLUMNS[8:]
    return _table("table2", runs, profile, pd.DataFrame(rows, columns=columns), {"top1": "Top-1", "top5": "Top-5"})


@dataclass(frozen=True)
class _Line:
    row: str
    backbone: str
    method: str
    bits: str
    epochs: int
    top1: dict[int, float]
    top5: dict[int, float]
    best: dict[int, float]


def _lines(runs: Runs) -> list[_Line]:
    top1, top5 = measured.lines(runs, "top1"), measured.lines(runs, "top5")
    best = measured.lines(runs, "best_top1")
    recipes = {(r.row, r.epochs): r for r in (run.recipe for run in runs.every)}
    return [
        _Line(
            row,
            measured.BACKBONES.get(r.model, r.model),
            measured.method(r),
            r.bits,
            epochs,
            *(values.get((row, epochs), {}) for values in (top1, top5, best)),
        )
        for (row, epochs), r in recipes.items()
    ]


def _frame_line(item: str, line: _Line, profile: str) -> dict[str, Any]:
    cell = paper.find(item, line.row)
    return {
        "row": line.row,
        "backbone": line.backbone,
        "method": line.method,
        "bits": line.bits,
        "published": cell.value if cell else None,
        "source": cell.mark if cell else "not in the paper",
        "measured_mean": stats.mean(line.top1),
        "measured_std": stats.std(line.top1),
        "n": len(line.top1),
        "profile": profile,
        "epochs": line.epochs,
    }


def _table(item: str, runs: Runs, profile: str, frame: pd.DataFrame, metrics: dict[str, str]) -> Table:
    sections = {
        "Measured beside published (top-1, %)" if len(metrics) == 1 else "Measured beside published (%)": _reading(
            item, runs, metrics
        ),
        "Every run": every_run(runs, metrics),
        "Published competitors (%)": _competitors(item, metrics),
    }
    notes = (
        "Measured: accuracy after the last epoch, mean ± standard deviation over the seeds. The published figures are "
        "the best epoch on the test set; ours of that kind stands beside it.",
    )
    if any(map(measured.elsewhere, runs)):
        notes += ("These runs do not use the paper's data: their figures are not comparable with the published ones.",)
    notes += (*measured.diverged_words(runs), *measured.shared_words(runs))
    return Table(frame, sections, measured.caption(runs, profile), notes)


def _reading(item: str, runs: Runs, metrics: dict[str, str]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for line in _lines(runs):
        shown: dict[str, Any] = {"Row": line.row}
        for metric, label in metrics.items():
            cell = paper.find(item, line.row, metric)
            known = cell is not None and cell.value is not None
            values = getattr(line, metric)
            shown["Published" if len(metrics) == 1 else f"{label} published"] = f"{cell.value:.2f}" if known else ""
            shown["Last epoch" if len(metrics) == 1 else f"{label}, last epoch"] = (
                measured.spread(values) if values else "diverged"
            )
        cell = paper.find(item, line.row)
        shown["Best on test"] = measured.spread(line.best)
        shown |= {"n": len(line.top1), "Epochs": line.epochs}
        shown |= {"Backbone": line.backbone, "Method": line.method, "W/A": line.bits}
        shown["Source"] = cell.mark if cell else "ours, not in the paper"
        rows.append(shown)
    return pd.DataFrame(rows)


def every_run(runs: Iterable[Any], metrics: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One line per run, for reading: accuracies in percent, seconds per epoch, the run's folder."""
    metrics = metrics or {"top1": "Top-1"}
    frame = measured.per_run(runs)
    columns = {
        "row": "Row",
        "seed": "Seed",
        "epochs": "Epochs",
        **{m: f"{label}, last" for m, label in metrics.items()},
    }
    columns |= {
        "best_top1": "Best top-1",
        "best_epoch": "In epoch",
        "seconds_per_epoch": "s per epoch",
        "run_id": "Run",
    }
    frame = frame[list(columns)].rename(columns=columns)
    return frame.round({name: 2 for name in frame.columns if "top-" in name.lower()} | {"s per epoch": 2})


def _competitors(item: str, metrics: dict[str, str]) -> pd.DataFrame:
    import pandas as pd

    if len(metrics) == 1:
        rows = [(c, {"Top-1": c.value}) for c in paper.competitors(item)]
    else:  # top-1 and top-5 cells of a method follow one another in paper.csv
        pairs = zip(paper.competitors(item, "top1"), paper.competitors(item, "top5"), strict=True)
        rows = [(a, {"Top-1": a.value, "Top-5": b.value}) for a, b in pairs]
    return pd.DataFrame(
        [
            {"Backbone": c.backbone, "Method": c.method, "W/A": c.bits}
            | {name: f"{value:.2f}" if value is not None else "" for name, value in values.items()}
            | {"Standing": c.mark, "Note": c.note}
            for c, values in rows
        ]
    )


# --- verdicts ------------------------------------------------------------------------------------------------------


def table1_verdict(runs: Iterable[Any], profile: str) -> verdict.Verdict:
    """Everything ran; ReSTE above its STE twin and the published order within ResNet-20; the published numbers."""
    runs = Runs.of(runs)
    pairs = [(r, f"{r}-ste") for r in dict.fromkeys(run.recipe.row for run in runs) if not r.endswith(("-ste", "-fp"))]
    pairs += [("resnet20-1w32a", "resnet20-1w1a"), ("resnet20-bireal-1w1a", "resnet20-1w1a")]
    checks = [pipeline_check(runs), *_orderings(runs, pairs), *number_checks("table1", runs)]
    lacking = measured.not_run(_published_rows("table1"), runs)
    return verdict.judge(profile, checks, measured.noted(LAST_EPOCH, runs), lacking)


def table2_verdict(runs: Iterable[Any], profile: str) -> verdict.Verdict:
    """Everything ran; 1/32 above 1/1 and ResNet-34 above ResNet-18, as published; the published numbers."""
    runs = Runs.of(runs)
    pairs = [(f"{net}-1w32a", f"{net}-1w1a") for net in ("resnet18", "resnet34")]
    pairs += [(f"resnet34-{bits}", f"resnet18-{bits}") for bits in ("1w1a", "1w32a")]
    checks = [pipeline_check(runs), *_orderings(runs, pairs)]
    checks += number_checks("table2", runs) + number_checks("table2", runs, "top5")
    lacking = measured.not_run(_published_rows("table2"), runs)
    return verdict.judge(profile, checks, measured.noted(LAST_EPOCH, runs), lacking)


def _published_rows(item: str) -> list[str]:
    """The rows that stand in the paper's table with a figure."""
    return [c.row for c in paper.cells(item, metric="top1") if c.row and c.in_table and c.value is not None]


def _orderings(runs: list[Any], pairs: Iterable[tuple[str, str]]) -> list[verdict.Check]:
    budgets, checks = sorted({run.recipe.epochs for run in runs}), []
    recipes = {(run.recipe.row, run.recipe.epochs): run.recipe for run in runs}
    for epochs in budgets:
        groups, at = measured.by_seed(runs, epochs), f" at {epochs} epochs" if len(budgets) > 1 else ""
        for a, b in pairs:
            if a in groups and b in groups:
                near = _pooled([recipes[row, epochs] for row in dict.fromkeys((a, b, *groups))])
                checks.append(ordering_check(a, b, {row: groups[row] for row in near}, f"{a} above {b}{at}"))
    return checks


def _pooled(recipes: Sequence[Any]) -> list[str]:
    """The rows whose variance is pooled for a comparison of the first two: those of their backbones, since seeds
    scatter alike within one and not across, and of rows that are one and the same run only one.
    """
    backbones = {measured.BACKBONES.get(r.model, r.model) for r in recipes[:2]}
    near = {r.identity: r.row for r in reversed(recipes) if measured.BACKBONES.get(r.model, r.model) in backbones}
    return list(dict.fromkeys([r.row for r in recipes[:2]] + list(near.values())))
