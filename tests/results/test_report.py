"""The report: pages of plain HTML whose every link and picture is there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.made_up import fake_runs

from resteutils.evidence import html as pages
from resteutils.items import table1
from resteutils.recipes import ITEMS
from resteutils.results import documents, report
from resteutils.results.folder import Item


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Table 1 in three profiles: drawing it takes longer than reporting it."""
    results = tmp_path_factory.mktemp("results")
    for profile in ("smoke", "demo", "short"):
        runs = fake_runs("table1", profile, rows="resnet20-1w1a,resnet20-1w1a-ste")
        shown = (table1.table(runs, profile), table1.figure(runs), table1.judge(runs, profile))
        folder = Item("table1", profile, results_dir=results).save(*shown, runs=runs)
        (folder / "notebook.html").write_text(pages.page("n", "<p>n</p>"))
        (folder / "notebook.ipynb").write_text("{}")
    return results


@pytest.fixture
def add(made: Path, results_dir: Path) -> Callable[[str], Path]:
    """Copy the item in a profile to the test's results; return its folder."""
    return lambda profile: shutil.copytree(made / profile / "table1", results_dir / profile / "table1")


def text_of(index: Path, name: str = "index") -> str:
    return (index.parent / f"{name}.html").read_text(encoding="utf-8")


def test_every_link_leads_somewhere_and_nothing_comes_from_elsewhere(add, results_dir: Path) -> None:
    add("short")
    add("demo")
    index = report.build(results_dir, explorer="<!doctype html><p>explorer</p>", picture=b"png")
    assert index == results_dir / "report" / "index.html"
    pages_there = sorted(index.parent.rglob("*.html"))
    assert {"table1.html", "lemma.html", "README.html", "protocol.html", "explorer.html"} <= {
        p.name for p in pages_there
    }
    seen = 0
    for page in pages_there:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'(?:src="|<link[^>]* href="|@import |url\()(?:https?:|//)', text)
        assert not loaded, page
        for target in re.findall(r'<(?:a|img)\b[^>]* (?:href|src)="([^"]+)"', text):
            if target.startswith(("http", "data:")):
                continue
            path, _, anchor = target.partition("#")
            aim = page.parent / path if path else page
            assert aim.is_file(), f"{page}: {target}"
            assert not anchor or f'id="{anchor}"' in aim.read_text(encoding="utf-8"), f"{page}: {target}"
            seen += 1
    assert seen > 100


def test_the_start_page_says_what_was_found_before_anything_else(add, results_dir: Path) -> None:
    add("short")
    said = {"findings": "* **ReSTE beats STE** by 6.5 <points>.", "findings-budget": "Ten epochs.",
            "findings-table": "| a | b |\n| --- | ---: |\n| x | 1 |"}  # fmt: skip
    text = text_of(report.build(results_dir, findings=said))
    places = [text.index(word) for word in ("What was found", "Ten epochs.", "<strong>ReSTE beats STE</strong>")]
    places += [text.index(word) for word in ("<td>x</td>", 'href="table1.html"', "make reproduce", "<h2>Citation")]
    assert places == sorted(places)
    assert "What was found" not in text_of(report.build(results_dir))


def test_what_was_found_is_said_by_names_not_ids_and_counts(add, results_dir: Path) -> None:
    folder = add("short")
    index = report.build(results_dir)
    judged = json.loads((folder / "verdict.json").read_text())
    compared = next(check for check in judged["checks"] if check["kind"] == "ordering")
    assert compared["claim"].startswith("resnet20-1w1a above resnet20-1w1a-ste")
    for text in (text_of(index), text_of(index, "table1")):
        assert "ResNet-20 1/1 ReSTE above ResNet-20 1/1 STE" in text
        assert "The paper's claims: " not in text and "<td>resnet20-1w1a</td>" not in text
    assert "<td>ResNet-20 1/1 STE</td>" in text_of(index, "table1")


def test_of_a_list_of_figures_none_stands_for_all(add, results_dir: Path) -> None:
    folder = add("short")
    path = folder / "verdict.json"
    verdict = json.loads(path.read_text())
    check = {"status": "supported", "kind": "ordering", "tolerance": ""}
    shown = {"the error falls": "RMS error 0.5, 0.407, 0.35 at o = 1, 1.5, 2", "it is above": "+6.53 points, 3 seeds"}
    verdict["checks"] = [{**verdict["checks"][0], **check, "claim": c, "shown": s} for c, s in shown.items()]
    path.write_text(json.dumps(verdict))
    assert "Seen here: the error falls; it is above (+6.53 points)." in text_of(report.build(results_dir))


def test_the_profile_that_may_claim_most_comes_first(add, results_dir: Path) -> None:
    for profile in ("smoke", "demo", "short"):
        add(profile)
    text = text_of(report.build(results_dir), "table1")
    assert text.index("Profile short:") < text.index("The same in profile demo")
    assert "smoke" not in text
    assert "<img" in text
    assert "Published competitors" in text


@pytest.mark.parametrize("name", ["provenance.json", "verdict.json"])
@pytest.mark.parametrize("content", ['{"item": ', "{}", "[]", "3", '{"runs": [{}]}', '{"status": 1, "checks": {}}'])
def test_a_damaged_item_is_said_and_left_out(add, results_dir: Path, name: str, content: str, capsys) -> None:
    add("demo")
    (add("short") / name).write_text(content)
    text = text_of(report.build(results_dir), "table1")
    assert "Profile demo:" in text and "Profile short:" not in text
    assert f"is left out of the report: {name} is damaged" in capsys.readouterr().out


def test_an_empty_report_names_the_commands(results_dir: Path) -> None:
    text = report.build(results_dir).read_text(encoding="utf-8")
    assert text.count("not reproduced yet") == len(ITEMS) - 1
    assert "make reproduce-figure4" in text


def test_an_item_that_needs_imagenet_says_so(results_dir: Path) -> None:
    index = report.build(results_dir)
    assert "needs ImageNet</span>" in text_of(index)
    for text in (text_of(index), text_of(index, "table2")):
        assert text.count("it needs ImageNet") == 1 and "make reproduce-table2 PROFILE=short DATA_DIR=FOLDER" in text
    assert "Not reproduced yet." in text_of(index, "figure4") and "ImageNet" not in text_of(index, "figure4")


def test_smoke_alone_is_shown_and_a_second_build_replaces_the_first(add, results_dir: Path) -> None:
    add("smoke")
    assert "Profile smoke" in text_of(report.build(results_dir), "table1")
    add("demo")
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
    assert 'href="explorer.html"' in text_of(index, "figure4")
    assert "<p>explorer</p>" in (index.parent / "explorer.html").read_text(encoding="utf-8")


def test_a_damaged_card_of_a_model_is_said_and_left_out(results_dir: Path, capsys) -> None:
    (results_dir / "models").mkdir(parents=True)
    card = {"name": "net", "dataset": "cifar10", "epochs": 10, "seed": 0, "top1": 60.98, "bytes": 1098944}
    (results_dir / "models" / "net.json").write_text(json.dumps(card))
    (results_dir / "models" / "other.json").write_text("{")
    index = report.build(results_dir)
    assert "60.98" in text_of(index) and (index.parent / "models" / "net.json").is_file()
    assert "other.json is left out of the report" in capsys.readouterr().out


def test_links_of_the_documents_lead_to_pages_or_nowhere(tmp_path: Path) -> None:
    root, site = tmp_path / "root", tmp_path / "site"
    (root / "docs").mkdir(parents=True)
    (root / "docs" / "a.png").write_bytes(b"png")
    (root / "README.md").write_text(
        "[one](docs/one.md#the-x-y) [code](setup.py) [out](https://example.org) ![a](docs/a.png)"
    )
    (root / "docs" / "one.md").write_text("## The X: y\n\n[back](../README.md)\n\n| | n |\n| --- | ---: |\n| a | 1 |\n")
    documents.write(root, site, '<a href="index.html">top</a>', "")
    readme, one = (site / "README.html").read_text(), (site / "docs" / "one.html").read_text()
    assert '<a href="docs/one.html#the-x-y">one</a> code <a href="https://example.org">out</a>' in readme
    assert 'src="docs/a.png"' in readme and (site / "docs" / "a.png").is_file()
    assert 'id="the-x-y"' in one and 'href="../index.html"' in one and 'href="../README.html"' in one
    assert '<th scope="col" class="num">n</th>' in one and "<th></th>" not in one


def test_a_folder_without_results_is_said_and_a_file_in_its_place_refused(tmp_path: Path, capsys) -> None:
    """A misspelt RESULTS_DIR would else give an empty report without a word."""
    assert report.build(results_dir=tmp_path / "misspelt").is_file()
    assert f"{tmp_path / 'misspelt'} holds no finished item" in capsys.readouterr().out
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file cannot be made; set RESULTS_DIR elsewhere"):
        report.build(results_dir=tmp_path / "file")
