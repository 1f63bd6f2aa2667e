"""The report and an executed notebook in a real browser: axe-core finds nothing, and no page is wider than a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from helpers.axe import violations
from helpers.browser import CHROMIUM, browsing
from helpers.looks import objections

from resteutils.results import report
from resteutils.results.notebook import notebook_html

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no {CHROMIUM}: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory) -> Path:
    """The report of the committed results, and a page of a notebook with code, a table of pandas and one of ours."""
    folder = tmp_path_factory.mktemp("report")
    said = {
        "findings": "* **Found.**",
        "findings-budget": "Ten epochs.",
        "findings-table": "| a | |\n| --- | --- |\n| 1 | 2 |",
    }
    report.build(root / "results", out=folder / "site", findings=said)
    notebook = nbformat.read(root / "notebooks" / "table1_cifar10.ipynb", as_version=4)
    frame = '<table border="1" class="dataframe"><thead><tr><th></th><th>row</th></tr></thead><tbody><tr><td>0</td>'
    frame += f"<td>{'a-long-name-' * 12}</td></tr></tbody></table>"
    shown = nbformat.v4.new_output("display_data", {"text/html": frame})
    next(cell for cell in notebook.cells if cell.cell_type == "code").outputs = [shown]
    (folder / "site" / "notebook.html").write_text(notebook_html(notebook, "table1"), encoding="utf-8")
    return folder / "site"


@pytest.fixture(scope="module")
def page(site: Path, tmp_path_factory) -> Iterator:
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    with sync_playwright() as play, browsing(play.chromium, tmp_path_factory.mktemp("browser"), errors) as opened:
        yield opened
        assert errors == []


@pytest.mark.parametrize("name", ["index", "table3", "figure1", "README", "docs/evidence", "notebook"])
def test_axe_finds_nothing_and_nothing_is_wider_than_a_phone(site: Path, page, name: str) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto(f"file://{site / name}.html")
        page.evaluate("() => document.querySelectorAll('details').forEach(each => { each.open = true; })")
        assert objections(page, "outside", "body") == []
        assert violations(page) == []
        assert objections(page, "small") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_forced_colours_everything_is_seen(site: Path, page, scheme: str) -> None:
    page.emulate_media(forced_colors="active", color_scheme=scheme)
    for name in ("index", "table3", "README", "notebook"):
        page.goto(f"file://{site / name}.html")
        page.evaluate("() => document.querySelectorAll('details').forEach(each => { each.open = true; })")
        assert objections(page, "unseen") == [], name
    page.goto(f"file://{site / 'index'}.html")
    edge = "each => [getComputedStyle(each).borderTopWidth, getComputedStyle(each).borderTopColor]"
    for part in (".badge", ".copied button"):
        width, colour = page.locator(part).first.evaluate(edge)
        assert width != "0px" and colour != "rgba(0, 0, 0, 0)", part
    page.emulate_media(forced_colors="none")


def test_a_command_is_copied(site: Path, page) -> None:
    page.goto(f"file://{site / 'table3.html'}")
    button = page.get_by_role("button", name="copy make reproduce-table3 PROFILE=short")
    assert button.bounding_box()["height"] >= 24
    button.click()
    page.wait_for_function("() => /Copied|Selected/.test(document.querySelector('.copied button').textContent)")
