"""The published numbers: every cell has a standing, and no number stands anywhere else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from resteutils.evidence import paper
from resteutils.recipes import ITEMS, recipe

TABLES = ("table1", "table2", "table3", "figure3", "figure4", "figure5", "figure6", "recipe")


@pytest.mark.parametrize("table", TABLES)
def test_every_cell_says_what_stands_behind_it(table: str) -> None:
    for cell in paper.cells(table):
        assert cell.status in paper.STATUSES
        assert (cell.value is None) == (cell.status == "not sourced"), cell
        marks = [mark for mark in cell.source.split("; ") if mark]
        assert set(marks) <= set(paper.SOURCES), cell
        assert bool(marks) == (cell.status in ("sourced", "quoted")), cell
        if cell.metric.startswith("top") and cell.value is not None:
            assert 0 < cell.value < 100, cell


def test_rows_are_those_of_the_project_and_stand_once() -> None:
    for item in ("table1", "table2", "table3", "figure6"):
        named = [(cell.row, cell.metric) for cell in paper.cells(item) if cell.row]
        assert len(named) == len(set(named))
        assert {row for row, _ in named} <= set(ITEMS[item].rows), item


def test_every_row_that_the_authors_trained_has_its_number() -> None:
    for item, marks in (("table1", ("-ste", "-fp")), ("table2", ("-fp",))):
        for row in ITEMS[item].rows:
            if not row.endswith(marks):
                assert paper.published(item, row).status == "sourced", row
    assert all(paper.published("table2", row, "top5").value for row in ITEMS["table2"].rows if "-fp" not in row)


def test_one_figure_in_three_places_is_one_figure() -> None:
    base = paper.published("table1", "resnet20-1w1a").value
    assert base == paper.published("table3", "reste").value == paper.published("figure6", "o3").value


def test_reste_leads_its_tables() -> None:
    """The claim that the tables make; a slip of the pen in paper.csv would break it."""
    for item in ("table1", "table2"):
        for own in (cell for cell in paper.cells(item, metric="top1") if cell.method == "ReSTE"):
            rivals = [c for c in paper.competitors(item) if (c.backbone, c.bits) == (own.backbone, own.bits)]
            values = [c.value for c in rivals if c.value and c.in_table and c.status in ("sourced", "quoted")]
            if "not a cell" not in own.note:
                assert max(values) < own.value, own
    top = {cell.row: cell.value for cell in paper.cells("table3", metric="top1")}
    assert max(top, key=top.get) == "reste"


def test_the_paper_profile_is_the_authors_recipe() -> None:
    names = {cell.row for cell in paper.cells("recipe")}
    assert len(names) == 12
    for name in names:
        stated, ours = paper.published_recipe(name), recipe(name, profile="paper")
        for key in ("epochs", "batch_size", "warmup_epochs", "lr", "momentum", "weight_decay"):
            assert getattr(ours, key) == stated[key], (name, key)
        assert ours.estimator.o == stated["o_end"]


def test_wrong_names_are_answered_with_the_right_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown table 'table9'.*table1"):
        paper.cells("table9")
    with pytest.raises(ValueError, match=r"no published 'top1' for row 'resnet99'.*resnet20-1w1a \(top1\)"):
        paper.published("table1", "resnet99")
    with pytest.raises(TypeError, match="unknown field metrik"):
        paper.cells("table1", metrik="top1")
    with pytest.raises(ValueError, match="the authors state no recipe 'table1/x'"):
        paper.published_recipe("table1/x")
    assert paper.find("table1", "resnet20-1w1a-ste") is None


def test_marks_never_hide_that_a_figure_is_only_remembered() -> None:
    for table in TABLES:
        for cell in paper.cells(table):
            assert ("recalled, unverified" in cell.mark) == (cell.status == "recalled")


def test_no_published_accuracy_is_typed_anywhere_else(root: Path) -> None:
    """Accuracies with two decimals are unmistakable; they may stand in paper.csv only."""
    with (root / "resteutils" / "evidence" / "paper.csv").open(encoding="utf-8") as file:
        numbers = {n for line in file if ",top" in line for n in re.findall(r"(?<=,)\d\d\.\d\d(?=,)", line)}
    assert len(numbers) > 20
    texts = {path: path.read_text(encoding="utf-8") for path in (root / "resteutils").rglob("*.py")}
    for path in (root / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts[path] = "\n".join("".join(cell["source"]) for cell in cells)
    for path, text in texts.items():
        typed = numbers & set(re.findall(r"(?<![\d.])\d\d\.\d\d(?![\d.])", text))
        assert not typed, f"{path.name} repeats published figures {sorted(typed)}: read them from evidence.paper"
