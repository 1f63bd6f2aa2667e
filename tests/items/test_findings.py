"""README and docs print what the records say."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from helpers.made_up import fake_runs

from resteutils.evidence.markers import blocks as blocks_in
from resteutils.items import findings, why
from resteutils.recipes import recipe
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


def cells(table: str) -> list[list[str]]:
    """The cells of a Markdown table, without its head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_differences_are_those_of_the_means(made: dict[str, str]) -> None:
    """Not those over the seeds that both rows have."""
    rows = {row[0]: row for row in cells(made["evidence-table"])}
    mean = {name: float(rows[name][2].split()[0]) for name in ("DSQ", "FDA", "STE, clipped at 1")}
    for name in ("DSQ", "FDA"):
        shown = float(rows[name][4].split()[0])
        assert shown == pytest.approx(mean[name] - mean["STE, clipped at 1"], abs=0.011)


def test_machines_and_blocks_count_the_committed_records(made: dict[str, str]) -> None:
    """By the files themselves; a run that diverged has no epoch, and so no time."""
    records = [json.loads(path.read_text()) for path in (ROOT / "results" / "short" / "runs").glob("*.json")]
    ended = [record for record in records if "result" in record]
    hours = sum(sum(record["history"]["seconds"]) for record in ended) / 3600
    rows = cells(made["evidence-machines"])
    assert sum(int(row[2]) for row in rows) == len(ended)
    assert sum(float(row[3]) for row in rows) == pytest.approx(hours, abs=0.06 * len(rows))
    minutes = [int(word) for row in rows for word in row[4].split(" to ") if word.isdigit()]
    assert f"10 epochs: [{min(minutes)} to {max(minutes)} minutes]" in (ROOT / "README.md").read_text(encoding="utf-8")
    (curve,) = (line for line in made["evidence-blocks"].splitlines() if line.startswith("* **E "))
    own = [
        r for r in ended if r["identity"] in {recipe(f"why/{w}", "short").identity for w in ("reste", "ste-gain-clip")}
    ]
    assert f" {len(own)} runs, " in curve


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


def test_the_bullet_on_adam_waits_for_its_block() -> None:
    levels = {"ste-adam": 57.3, "reste-o1-adam": 59.6, "reste-adam": 58.9}
    for rows, bullets in ((levels, 1), ({"ste-adam": 57.3}, 0)):
        runs = fake_runs("why", rows=",".join(rows), seeds="0,1,2,3", score=lambda row, s: levels[row] + s % 2)
        (outcome,) = (each for each in why.measure(runs) if each.block.name.startswith("A "))
        found = findings._adam(outcome)
        assert len(found) == bullets
        assert not found or ("ReSTE minus STE is +1.60 [" in found[0] and "its clip is -0.70 [" in found[0])


def test_rewriting_changes_only_what_differs(tmp_path: Path, made: dict[str, str]) -> None:
    page = tmp_path / "README.md"
    page.write_text("# A\n<!-- begin items -->\nold\n<!-- end items -->\nend\n")
    drawn = tmp_path / findings.PICTURE
    assert findings.rewrite(tmp_path, PLACES, made) == [page, drawn]
    assert struct.unpack(">II", drawn.read_bytes()[16:24]) == (1200, 600)
    assert "`why_the_lead`" in page.read_text() and page.read_text().endswith("end\n")
    assert findings.rewrite(tmp_path, PLACES, made) == []
