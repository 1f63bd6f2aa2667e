"""Every published number, with where it comes from and how far it can be trusted.

The numbers live in ``paper.csv`` beside this file and nowhere else. One line is one cell: ``table, row, backbone,
method, bits, metric, value, source, status, note``. ``row`` is this project's own name of the row that reproduces the
cell; it is empty for competitors. ``status`` says what stands behind the value:

- ``sourced``: the method's own authors state it (README, code, figure file, answer in their issue tracker);
- ``quoted``: somebody else states it (another paper's table, a secondary reading of the PDF);
- ``recalled``: from memory, checked against nothing; never shown without that mark;
- ``not sourced``: looked for and not found; the value is empty.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["SOURCES", "STATUSES", "Cell", "cells", "competitors", "find", "published", "published_recipe", "value"]

STATUSES = ("sourced", "quoted", "recalled", "not sourced")

SOURCES = {
    "RM": "README and figure files of the authors' repository, DravenALG/ReSTE, commit 0d3c36a",
    "OC": "the authors' code, same commit",
    "I2": "the author's answer in DravenALG/ReSTE issue 2",
    "I3": "the author's answer in DravenALG/ReSTE issue 3",
    "V": "measured by us on the authors' files",
    "SR": "a machine-written secondary reading of the paper; fallible",
    "BEAN": "a BEANet manuscript that quotes older methods",
    "LNS-R": "a secondary reading of the LNS paper (Han et al., ICML 2020)",
    "SURGE-R": "a secondary reading of the SURGE paper",
    "IR": "README of htqin/IR-Net",
    "RBNN": "README of lmbxmu/RBNN",
    "BR": "README of liuzechun/Bi-Real-net",
    "MS": "the official FDA release in mindspore-ai/models, research/cv/FDA-BNN",
    "SiBNN": "README of the SiBNN repository",
}


@dataclass(frozen=True)
class Cell:
    """One published cell. ``value`` is a float, a word (``"yes"``) or None where no source was found."""

    table: str
    row: str
    backbone: str
    method: str
    bits: str
    metric: str
    value: float | str | None
    source: str
    status: str
    note: str

    @property
    def in_table(self) -> bool:
        """False for figures that others print about the same method and backbone, outside this table."""
        return "not a cell of this table" not in self.note

    @property
    def mark(self) -> str:
        """What a table prints beside the value, e.g. ``"sourced [RM; SR]"`` or ``"recalled, unverified"``."""
        if self.status == "recalled":
            return "recalled, unverified"
        return f"{self.status} [{self.source}]" if self.source else self.status


@cache
def _all() -> tuple[Cell, ...]:
    with files(__package__).joinpath("paper.csv").open(encoding="utf-8", newline="") as file:
        return tuple(Cell(**{**line, "value": _value(line["value"])}) for line in csv.DictReader(file))


def _value(text: str) -> float | str | None:
    if text == "":
        return None
    try:
        return float(text)
    except ValueError:
        return text


def cells(table: str, **where: str) -> tuple[Cell, ...]:
    """All cells of a table or figure whose fields equal ``where``, in the paper's order.

    >>> [cell.value for cell in cells("table3", metric="type")]
    ['identity', 'tanh-like', 'tanh-like', 'Fourier', 'polynomial', 'power']

    Raises ValueError for a table that does not exist and TypeError for a field that does not.
    """
    known = sorted({cell.table for cell in _all()})
    if table not in known:
        raise ValueError(f"unknown table {table!r}: paper.csv holds {', '.join(known)}")
    unknown = set(where) - set(Cell.__dataclass_fields__)
    if unknown:
        raise TypeError(
            f"unknown field {', '.join(sorted(unknown))}: a cell has {', '.join(Cell.__dataclass_fields__)}"
        )
    return tuple(c for c in _all() if c.table == table and all(getattr(c, key) == v for key, v in where.items()))


def find(table: str, row: str, metric: str = "top1") -> Cell | None:
    """The cell that ``row`` reproduces, or None for rows that the paper does not have (twins, controls)."""
    hits = cells(table, row=row, metric=metric) if row else ()
    return hits[0] if hits else None


def value(table: str, row: str, metric: str = "top1") -> float | str | None:
    """What was published for ``row``; None for rows that the paper does not have, and where no source was found."""
    cell = find(table, row, metric)
    return cell.value if cell else None


def published(table: str, row: str, metric: str = "top1") -> Cell:
    """The cell that ``row`` reproduces.

    >>> published("table1", "resnet20-1w1a").status
    'sourced'

    Raises ValueError naming the rows and metrics that exist.
    """
    cell = find(table, row, metric)
    if cell is None:
        known = sorted({f"{c.row} ({c.metric})" for c in cells(table) if c.row})
        raise ValueError(f"{table} has no published {metric!r} for row {row!r}: it has {', '.join(known)}")
    return cell


def competitors(table: str, metric: str = "top1") -> tuple[Cell, ...]:
    """The cells of a table that belong to other methods or that merely surround it; values may be None."""
    return tuple(cell for cell in cells(table, metric=metric) if not cell.row)


def published_recipe(name: str) -> dict[str, float]:
    """The training recipe that the authors state for ``name``, e.g. ``"table1/resnet20-1w1a"``.

    Keys: epochs, batch_size, test_batch_size, warmup_epochs, lr, momentum, weight_decay, o_end.
    Raises ValueError naming the recipes that exist.
    """
    found = {cell.metric: cell.value for cell in cells("recipe", row=name)}
    if not found:
        known = sorted({cell.row for cell in cells("recipe")})
        raise ValueError(f"the authors state no recipe {name!r}: they state {', '.join(known)}")
    return found
