"""README and docs print what the records say."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from resteutils.evidence.markers import blocks as blocks_in
from resteutils.items import findings
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


def test_rewriting_changes_only_what_differs(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("# A\n<!-- begin items -->\nold\n<!-- end items -->\nend\n")
    drawn = tmp_path / findings.PICTURE
    assert findings.rewrite(tmp_path, PLACES) == [page, drawn]
    assert struct.unpack(">II", drawn.read_bytes()[16:24]) == (1200, 600)
    assert "`why_the_lead`" in page.read_text() and page.read_text().endswith("end\n")
    assert findings.rewrite(tmp_path, PLACES) == []
