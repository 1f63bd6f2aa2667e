"""The explorer in a real browser: headless Chromium on the page alone, and against JupyterLab and Voila on loopback.

Nothing here is timed. Pictures of every state go to ``.cache/browser/`` (ignored by git).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from statistics import geometric_mean, mean

import pytest
from helpers.axe import violations
from helpers.browser import CHROMIUM, SECONDS, Lab, browsing, free_port, serving

from resteutils.explorer.serve import server
from resteutils.explorer.shelf import Shelf
from resteutils.recipes import ITEMS, recipe

TABS = ("Curve", "Trade-off", "Training", "Inside")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(600),  # the first test starts the server, the browser and the kernel
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no {CHROMIUM}: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def pictures(root: Path) -> Path:
    folder = root / ".cache" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def place(root: Path, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A folder with a copy of the notebook for the smoke profile, and an environment without the user's settings."""
    folder = tmp_path_factory.mktemp("browser")
    notebook = (root / "notebooks" / "explore_reste.ipynb").read_text(encoding="utf-8")
    assert r"profile: str = \"demo\"" in notebook
    smoke = notebook.replace(r"profile: str = \"demo\"", r"profile: str = \"smoke\"")
    (folder / "explore_reste.ipynb").write_text(smoke, encoding="utf-8")
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    own = {
        "RUNS_DIR": str(folder / "runs"),
        "RESULTS_DIR": str(folder / "results"),
        "WANDB_MODE": "disabled",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(root),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
    }
    return folder, {**os.environ, **own}


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=SECONDS)
    with sync_playwright() as play:
        yield play.chromium


# --- the page alone: what `make app` serves and the report holds -----------------------------------------------------


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
    errors: list[str] = []
    with browsing(chromium, tmp_path, errors) as opened:
        asked: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(address)
        opened.locator(".rx").wait_for()
        yield opened
        assert errors == []
        assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def gain(page) -> float:
    return float(page.locator(".rx-gain").inner_text())


def test_buttons_in_every_order_end_with_what_was_pressed(page) -> None:
    expected = {"STE (o = 1)": 1.0, "paper (o = 3)": 4.642, "o = 10": 7.943, "sign (o = 100)": 9.772}
    for first in expected:
        for second, wanted in expected.items():
            page.get_by_role("button", name=first, exact=True).click()
            page.get_by_role("button", name=second, exact=True).click()
            assert gain(page) == wanted
    page.get_by_label("estimator", exact=True).select_option("fda")
    page.get_by_label("estimator", exact=True).select_option("reste")
    assert gain(page) == 9.772
    assert page.evaluate("() => window.explorer.final().o") == 100


def test_the_slider_obeys_keyboard_and_mouse_and_the_link_brings_it_back(page, address: str) -> None:
    page.get_by_role("button", name="paper (o = 3)").click()
    slider = page.get_by_role("slider", name="power o")
    slider.focus()
    page.keyboard.press("ArrowRight")
    moved = page.evaluate("() => window.explorer.final().o")
    assert 3 < moved < 3.2
    assert slider.get_attribute("aria-valuetext") == f"o {moved:g}"
    box = slider.bounding_box()
    assert box["height"] >= 24
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2)
    chosen = page.evaluate("() => window.explorer.final().o")
    assert 20 < chosen < 50
    page.get_by_role("tab", name="Trade-off").click()
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    assert page.evaluate("() => window.explorer.final().o") == chosen
    assert page.get_by_role("tab", name="Trade-off").get_attribute("aria-selected") == "true"


def test_the_read_out_is_linked_and_zoom_and_pins_work(page) -> None:
    first = page.locator("svg.rx-chart").first
    first.hover()
    assert page.locator(".rx-cursor[visibility=visible]").count() == 2
    assert "ReSTE: f = " in page.locator(".rx-readout").first.inner_text()
    first.focus()
    page.keyboard.press("+")
    assert page.locator("svg.rx-chart").first.locator("text", has_text="0.5").count() >= 1
    page.keyboard.press("0")
    page.get_by_role("button", name="Pin this curve").click()
    assert page.locator(".rx-entry", has_text="pinned: ReSTE").count() == 1


def test_a_chart_is_saved_as_picture_and_numbers(page) -> None:
    page.locator(".rx-save summary").nth(1).click()
    saved = {}
    for kind in ("SVG", "PNG", "CSV"):
        with page.expect_download() as download:
            page.get_by_role("button", name=re.compile(f"^{kind}: Backward")).click()
        saved[kind] = Path(download.value.path()).read_bytes()
    assert saved["SVG"].startswith(b"<svg") and saved["PNG"].startswith(b"\x89PNG")
    assert b"ReSTE (o = 3" in saved["CSV"] and saved["CSV"].count(b"\n") > 400


def test_play_walks_the_path_and_stands_still_for_whoever_prefers_that(page) -> None:
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("() => window.explorer.state().progress === 100 && window.explorer.current().o === 3")
    page.emulate_media(reduced_motion="reduce")
    page.get_by_role("button", name="Step 10 %").click()
    assert page.evaluate("() => window.explorer.state().progress") == 10


def powers_of(root: Path) -> dict[float, dict[str, float]]:
    """What the records say of Figure 4's rows by power: means over seeds, of s in logarithms."""
    rows = {recipe(f"figure4/{row}", "short").identity for row in ITEMS["figure4"].rows}
    powers: dict[float, list] = {}
    for run in Shelf(runs_dir=str(root / "nowhere"), results_dir=str(root / "results")).measured():
        if run.recipe.identity in rows:
            powers.setdefault(run.recipe.estimator.o, []).append(run)
    return {
        o: {
            "n": len(runs),
            "e": mean(run.history.error_definition.iloc[-1] for run in runs),
            "s": geometric_mean(run.history.instability_definition.iloc[-1] for run in runs),
            "top1": mean(run.result["top1"] for run in runs),
        }
        for o, runs in powers.items()
    }


def test_the_measured_runs_are_part_of_the_picture(page, root: Path) -> None:
    known = powers_of(root)
    assert {1.0, 3.0, 10.0} <= set(known) and known[3.0]["n"] == 3
    page.get_by_role("tab", name="Trade-off").click()
    said = page.locator("[role=tabpanel]:visible .rx-said")
    for button, o in (("STE (o = 1)", 1.0), ("o = 10", 10.0), ("paper (o = 3)", 3.0)):
        page.get_by_role("button", name=button, exact=True).click()
        shown = dict(re.findall(r"(o|e|s|top-1) =? ?(\d[\d.e-]*)", said.inner_text().split(". The")[0]))
        assert float(shown["o"]) == o
        assert float(shown["e"]) == pytest.approx(known[o]["e"], rel=1e-3)
        assert float(shown["s"]) == pytest.approx(known[o]["s"], rel=5e-3)
        assert float(shown["top-1"]) == pytest.approx(known[o]["top1"], abs=0.06)
    assert "control ends at" in said.inner_text()
    page.get_by_role("tab", name="Training").click()
    assert "STE, seed 0" in page.locator(".rx-legend:visible").inner_text()
    page.get_by_role("tab", name="Inside").click()
    assert "The label is" in page.locator("[role=tabpanel]:visible .rx-said").inner_text()


def test_five_steps_go_where_they_say(page) -> None:
    page.locator(".rx-tour summary").click()
    buttons = page.locator(".rx-steps button")
    assert buttons.count() == 5
    seen = []
    for i in range(5):
        buttons.nth(i).click()
        seen.append(page.evaluate("() => [window.explorer.state().tab, window.explorer.final().o]"))
    assert seen == [["curve", 1], ["curve", 3], ["tradeoff", 5], ["training", 10], ["tradeoff", 3]]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_tab_is_wider_than_the_page_and_axe_finds_nothing(page, pictures: Path, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        page.screenshot(path=pictures / f"page-{tab}-{width}-{scheme}.png", full_page=True)
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), tab
    if width == 1280:
        for tab in TABS:
            page.get_by_role("tab", name=tab).click()
            assert violations(page) == [], tab


# --- with a kernel ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(place, chromium, pictures: Path) -> Iterator[Lab]:
    folder, env = place
    port, token, errors = free_port(), secrets.token_urlsafe(16), []
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}",
        "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    with serving(command, f"{base}/api/status?token={token}", folder, env), browsing(chromium, folder, errors) as page:
        page.goto(f"{base}/lab/tree/explore_reste.ipynb?token={token}")
        opened = Lab(page, errors, pictures)
        opened.ready()
        page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
        opened.command("notebook:run-all-cells")
        try:
            opened.show()
            opened.ready()
        except Exception:
            opened.picture("failed")
            raise
        yield opened


def test_the_kernel_has_what_the_page_shows(lab: Lab) -> None:
    lab.page.get_by_role("button", name="sign (o = 100)").click()
    lab.page.get_by_role("button", name="paper (o = 3)").click()
    assert gain(lab.page) == 4.642
    lab.page.get_by_role("button", name="o = 10", exact=True).click()
    lab.page.wait_for_timeout(1000)
    assert "10" in lab.kernel("explorer.link")
    for tab in TABS:
        lab.page.get_by_role("tab", name=tab, exact=True).click()
        assert violations(lab.page, ".rx") == [], tab
    lab.page.get_by_role("tab", name="Curve", exact=True).click()
    lab.picture("lab-curve")


def test_train_stop_and_train_to_the_end(lab: Lab, place) -> None:
    page = lab.page
    page.get_by_role("tab", name="Training").click()
    page.get_by_label("epochs", exact=True).fill("60")
    page.get_by_role("button", name="Train this").click()
    page.locator(".rx-said", has_text="Epoch ").first.wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_text("Stopped; everything is saved").wait_for()
    runs = place[0] / "runs"
    assert not list(runs.glob("*/record.json"))
    page.get_by_label("epochs", exact=True).fill("2")
    page.get_by_role("button", name="Train this").click()
    page.get_by_text("Done: ").wait_for()
    (record,) = runs.glob("*/record.json")
    written = json.loads(record.read_text())
    assert written["result"]["epochs"] == 2
    assert written["recipe"]["estimator"]["o"] == 10.0
    assert page.get_by_label("dataset").input_value() == "digits"
    lab.picture("lab-trained")
    page.get_by_role("tab", name="Inside").click()
    page.get_by_label("network", exact=True).select_option(index=1)
    page.get_by_text("Binary network says").wait_for()
    lab.picture("lab-inside")
    assert lab.errors == []


def test_after_a_restart_of_the_kernel_the_page_still_works(lab: Lab) -> None:
    page = lab.page
    page.get_by_role("tab", name="Curve").click()
    lab.page.evaluate("() => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart() }")
    page.wait_for_timeout(3000)
    page.get_by_role("button", name="paper (o = 3)").click()
    assert gain(page) == 4.642
    page.get_by_role("tab", name="Training").click()
    page.get_by_role("button", name="Train this").click()
    page.get_by_text("run the cell again").wait_for()


def test_voila_serves_it_without_code(place, chromium, pictures: Path) -> None:
    folder, env = place
    pytest.importorskip("voila")
    port, errors = free_port(), []
    token = secrets.token_urlsafe(16)
    command = [
        sys.executable, "-m", "voila", str(folder / "explore_reste.ipynb"), "--no-browser", "--Voila.ip=127.0.0.1",
        f"--port={port}", f"--Voila.token={token}", "--Voila.port_retries=0",
    ]  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    ready = f"{base}/voila/static/voila.js?token={token}"
    with serving(command, ready, folder, env), browsing(chromium, folder, errors) as page:
        page.goto(f"{base}/?token={token}")
        page.locator(".rx").wait_for()
        assert page.locator(".jp-InputArea-editor, .CodeMirror, .highlight").count() == 0
        page.get_by_role("button", name="o = 10", exact=True).click()
        assert gain(page) == 7.943
        page.screenshot(path=pictures / "voila.png")
        assert violations(page, ".rx") == []
        assert errors == []
