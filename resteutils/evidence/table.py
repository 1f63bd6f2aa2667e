"""A table of results: the machine-readable frame (``table.csv``) and the sections that people read (``table.md``,
``table.html``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resteutils.evidence import html, summary

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Table", "every_run"]


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
            parts += [f"## {title}", html.table_markdown(frame)]
        return "\n\n".join(parts) + "\n"

    def to_html(self, level: int = 3) -> str:
        """The sections with headings of ``level``, 1 to 6."""
        tables = [(title, html.table_html(frame)) for title, frame in self.sections.items()]
        return html.render("sections.html", remarks=(self.caption, *self.notes), tables=tables, level=level)

    _repr_html_ = to_html
    _repr_markdown_ = to_markdown


def every_run(runs: Iterable[Any], metrics: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One line per run, for reading: accuracies in percent, seconds per epoch, the run's folder."""
    metrics = metrics or {"top1": "Top-1"}
    frame = summary.per_run(runs)
    columns = {
        "row": "Row",
        "seed": "Seed",
        "epochs": "Epochs",
        **{m: f"{label}, last" for m, label in metrics.items()},
        "best_top1": "Best top-1",
        "best_epoch": "In epoch",
        "seconds_per_epoch": "s per epoch",
        "run_id": "Run",
    }
    frame = frame[list(columns)].rename(columns=columns)
    return frame.round({name: 2 for name in frame.columns if "top-" in name.lower()} | {"s per epoch": 2})
