"""The pictures of ``docs/``: ``python tests/explorer/pictures.py`` takes one of each tab of the explorer's page."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.browser import CHROMIUM, FLAGS, TABS  # noqa: E402

from resteutils.explorer.page import document  # noqa: E402


def take(folder: Path = ROOT / "docs") -> list[Path]:
    """Write ``explorer-<tab>.png`` of every tab, as it opens, in light colours, and return the files."""
    from playwright.sync_api import sync_playwright

    made = []
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as play:
        page_file = Path(temporary, "explorer.html")
        page_file.write_text(document(str(ROOT / "results"), head=""), encoding="utf-8")
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1180, "height": 900}, color_scheme="light")
        page.goto(f"file://{page_file}")
        for tab in TABS:
            page.get_by_role("tab", name=tab, exact=True).click()
            made.append(folder / f"explorer-{tab.lower().replace('-', '')}.png")
            page.locator(".rx").screenshot(path=made[-1])
        browser.close()
    return made


if __name__ == "__main__":
    print(*take(), sep="\n")
