"""A real browser: headless Chromium in front of the explorer's page, as ``make app`` serves it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.browser import SECONDS, browsing

from resteutils.explorer.serve import server


@pytest.fixture(scope="module")
def pictures(root: Path) -> Path:
    """Where pictures of every state go; ignored by git."""
    folder = root / ".cache" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=SECONDS)
    with sync_playwright() as play:
        yield play.chromium


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    """The page as ``make app`` serves it, with the committed results."""
    with server(port=0, results_dir=str(root / "results")) as serving_page:
        thread = threading.Thread(target=serving_page.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{serving_page.server_port}/"
        serving_page.shutdown()


@pytest.fixture
def page(address: str, chromium, tmp_path: Path) -> Iterator:
    """The page in a fresh browser; no error in its console, no request to another place."""
    errors: list[str] = []
    with browsing(chromium, tmp_path, errors) as opened:
        asked: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(address)
        opened.locator(".rx").wait_for()
        yield opened
        assert errors == []
        assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
