"""README and docs print what the records say."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from helpers.made_up import fake_runs

from resteutils.evidence.markers import blocks as blocks_in
from resteutils.items import findings, why
from resteutils.system.settings import Places

ROOT = Path(__file__).resolve().parents[2]
PLACES = Places(ROOT / "data", ROOT / "results" / "none", ROOT / "results")
# What no record says: `python tests/explorer/measure.py --write` and `python -m benchmarks.tasks` write these.
MEASURED_APART = ("explorer.md", "other-libraries.md")
PAGES = [
    path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if "<!-- begin" in path.read_text() and path.name not in MEASURED_APART
]


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return findings.blocks(PLACES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_prints_what_the_records_say(page: Path, made: dict[str, str]) -> None:
    for name, content in blocks_in(page.read_text(encoding="utf-8")).items():
        assert name in made, f"{page.name}: no code writes the block {name}"
        assert content.strip() == made[name].strip(), f"{page.name}: make report writes {name} again"


def test_differences_are_those_of_the_means(made: dict[str, str]) -> None:
    (line,) = (line for line in made["evidence-table"].splitlines() if line.startswith("| DSQ "))
    assert "53.88 | 1 | +0.10 [" in line


def test_the_bullet_on_the_order_says_what_block_c_decided() -> None:
    levels = {"ste": 53.8, "reste": 60.3, "ste-gain-clip": 61.3}
    begun = levels | {"reste-before": 62.3}
    whole = begun | {"ste-before": 54.0, "ste-gain-clip-before": 63.0}
    said = {}
    for name, rows in (("begun", begun), ("whole", whole)):
        runs = fake_runs("why", rows=",".join(rows), seeds="0,1,2", score=lambda row, s, of=rows: of[row] + 0.3 * s)
        (outcome,) = (each for each in why.measure(runs) if each.block.name.startswith("C "))
        said[name] = findings._scaling(outcome)
    assert "is open" in said["begun"] and "3 of 9 runs" in said["begun"]
    assert "minus ours: +2.00 [" in said["whole"] and "above 0" in said["whole"]
    assert "changes by +1.80 [" in said["whole"] and "each claim holds for its order only" in said["whole"]
    assert "both in their order: -0.70 [" in said["whole"]


def test_rewriting_changes_only_what_differs(tmp_path: Path, made: dict[str, str]) -> None:
    page = tmp_path / "README.md"
    page.write_text("# A\n<!-- begin items -->\nold\n<!-- end items -->\nend\n")
    drawn = tmp_path / findings.PICTURE
    assert findings.rewrite(tmp_path, PLACES, made) == [page, drawn]
    assert struct.unpack(">II", drawn.read_bytes()[16:24]) == (1200, 600)
    assert "`why_the_lead`" in page.read_text() and page.read_text().endswith("end\n")
    assert findings.rewrite(tmp_path, PLACES, made) == []
