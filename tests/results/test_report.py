"""The report: one page of plain HTML whose every link and picture is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.fakes import fake_runs

from resteutils.evidence import html as pages
from resteutils.items import table1
from resteutils.recipes import ITEMS
from resteutils.results import report
from resteutils.results.folder import Item


def add(results_dir: Path, profile: str, seeds: str = "") -> Path:
    runs = fake_runs("table1", profile, rows="resnet20-1w1a,resnet20-1w1a-ste", seeds=seeds)
    made = (table1.table(runs, profile), table1.figure(runs), table1.judge(runs, profile))
    folder = Item("table1", profile, results_dir=results_dir).save(*made, runs=runs)
    (folder / "notebook.html").write_text(pages.page("n", "<p>n</p>"))
    (folder / "notebook.ipynb").write_text("{}")
    return folder


def test_every_link_leads_somewhere_and_nothing_comes_from_elsewhere(results_dir: Path) -> None:
    add(results_dir, "short")
    add(results_dir, "demo")
    index = report.build(results_dir)
    assert index == results_dir / "report" / "index.html"
    text = index.read_text(encoding="utf-8")
    targets = re.findall(r'(?:href|src)="([^"]+)"', text)
    assert len(targets) > 20
    for target in targets:
        if target.startswith("#"):
            assert f'id="{target[1:]}"' in text
        else:
            assert (index.parent / target).is_file(), target
    for page in index.parent.rglob("*.html"):
        assert not re.search(r"https?://(?!www\.w3\.org)", page.read_text(encoding="utf-8")), page
        assert "<script" not in page.read_text(encoding="utf-8")


def test_the_profile_that_may_claim_most_comes_first(results_dir: Path) -> None:
    for profile in ("smoke", "demo", "short"):
        add(results_dir, profile)
    text = report.build(results_dir).read_text(encoding="utf-8")
    assert text.index("Profile short:") < text.index("The same in profile demo")
    assert "smoke" not in text
    assert "<img" in text
    assert "Published competitors" in text


@pytest.mark.parametrize("name", ["provenance.json", "verdict.json"])
@pytest.mark.parametrize("content", ['{"item": ', "{}", "[]", "3", '{"runs": [{}]}', '{"status": 1, "checks": {}}'])
def test_a_damaged_item_is_said_and_left_out(results_dir: Path, name: str, content: str, capsys) -> None:
    add(results_dir, "demo")
    (add(results_dir, "short") / name).write_text(content)
    text = report.build(results_dir).read_text(encoding="utf-8")
    assert "Profile demo:" in text and "Profile short:" not in text
    assert f"is left out of the report: {name} is damaged" in capsys.readouterr().out


def test_an_empty_report_names_the_commands(results_dir: Path) -> None:
    text = report.build(results_dir).read_text(encoding="utf-8")
    assert text.count("not reproduced yet") == len(ITEMS)
    assert "make reproduce-figure4" in text


def test_smoke_alone_is_shown_and_a_second_build_replaces_the_first(results_dir: Path) -> None:
    add(results_dir, "smoke")
    assert "Profile smoke" in report.build(results_dir).read_text(encoding="utf-8")
    add(results_dir, "demo")
    index = report.build(results_dir)
    assert not (index.parent / "smoke").exists()
    assert (index.parent / "demo" / "table1" / "picture.png").is_file()


def test_foreign_pages_are_refused() -> None:
    assert pages.body_of(pages.page("t", "<p>x</p>")) == "<p>x</p>"
    with pytest.raises(ValueError, match="not a page of this project"):
        pages.body_of("<html></html>")


def test_the_explorer_s_page_is_beside_the_index_and_linked(results_dir: Path) -> None:
    assert "explorer.html" not in report.build(results_dir).read_text(encoding="utf-8")
    index = report.build(results_dir, explorer="<!doctype html><p>explorer</p>")
    assert 'href="explorer.html"' in index.read_text(encoding="utf-8")
    assert "<p>explorer</p>" in (index.parent / "explorer.html").read_text(encoding="utf-8")
