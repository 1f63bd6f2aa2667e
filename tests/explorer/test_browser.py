"""The explorer in a real browser: headless Chromium against JupyterLab and Voila on loopback.

Nothing here is timed but on request (EXPLORER_LATENCY=1). Pictures of every state go to ``.cache/browser/`` (ignored by
git), also when a test fails.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.browser import CHROMIUM, PANELS, SECONDS, Lab, browsing, free_port, serving

CHARTS = {"curve": 2, "tradeoff": 2, "training": 6, "inside": 0}  # that a panel has without any finished run

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
            for name in PANELS:
                opened.show(name)
            opened.ready()
        except Exception:
            opened.picture("failed")
            raise
        yield opened


def pixels(locator) -> bytes:
    return locator.screenshot()


def test_every_panel_shows_something_and_nothing_fails(lab: Lab) -> None:
    from playwright.sync_api import expect

    for name, count in CHARTS.items():
        lab.show(name)
        expect(lab.panel(name).locator(".ru-chart svg.ru")).to_have_count(count)
        lab.picture(f"lab-{name}")
    for name in ("training", "inside"):  # no runs yet: how to make one
        lab.show(name)
        expect(lab.panel(name)).to_contain_text("make reproduce-table1")
    assert (
        lab.page.locator(
            ".jp-RenderedText[data-mime-type*='stderr'], .jp-RenderedText[data-mime-type*='error']"
        ).count()
        == 0
    )
    assert lab.errors == []


def test_dragging_the_power_with_the_mouse_bends_the_curve(lab: Lab) -> None:
    lab.show("curve")
    handle, chart = lab.handle("o"), lab.panel("curve").locator(".ru-chart").nth(1)
    points, before = lab.line(), pixels(chart)
    handle.hover()  # waits until the page has stopped moving
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    lab.page.mouse.down()
    lab.page.mouse.move(x + 25, y, steps=5)
    lab.wait_for_other_line(points)  # still dragging
    lab.page.mouse.move(x + 60, y, steps=5)
    lab.page.mouse.up()
    power = lab.settled("o")
    assert power > 4
    assert lab.kernel("explorer.curve_panel.slope.value.count(chr(60) + 'polyline')") == "1"
    drawn = float(lab.kernel("explorer.curve_panel.slope.marks[-1].y.max()"))
    assert drawn == pytest.approx(0.1 ** ((1 - power) / power))
    assert pixels(chart) != before
    lab.picture("lab-dragged")


def test_the_slider_obeys_the_keyboard(lab: Lab) -> None:
    lab.show("curve")
    lab.panel("curve").get_by_role("button", name="paper (o = 3)").click()
    assert lab.settled("o") == 3
    points, handle = lab.line(), lab.handle("o")
    handle.focus()
    lab.page.keyboard.press("ArrowRight")
    lab.wait_for_other_line(points)
    assert lab.settled("o") == 3.1
    assert handle.get_attribute("role") == "slider"
    assert lab.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"  # focus is seen


SEEN = """() => {
    window.seen = [];
    const note = () => {
        const percent = document.querySelector('.ru-panel').textContent.match(/ at (\\d+) % of training/);
        if (percent) window.seen.push(Number(percent[1]));
    };
    new MutationObserver(note).observe(document.querySelector('.ru-panel'), {childList: true, subtree: true});
}"""


def test_play_animates_a_training(lab: Lab) -> None:
    lab.show("curve")
    points = lab.line()
    lab.page.evaluate(SEEN)  # a slow page may be on the way for a moment only
    lab.panel("curve").locator(".jupyter-widget-play button, .widget-play button").first.click()
    lab.wait_for_other_line(points)
    lab.page.wait_for_function("() => window.seen.some(percent => percent < 100) && window.seen.at(-1) === 100")
    assert lab.kernel("explorer.controls.current == explorer.controls.final") == "True"


def test_every_estimator_can_be_chosen_and_laid_over(lab: Lab) -> None:
    from playwright.sync_api import expect

    lab.show("curve")
    panel = lab.panel("curve")
    for name in ("STE", "EDE (IR-Net)", "DSQ"):
        panel.get_by_role("button", name=name, exact=True).click()
    for name in ("ste", "ede", "dsq"):
        expect(panel.locator(f"polyline[data-key^='{name}-']")).to_have_count(2)
    lab.picture("lab-overlay")
    panel.get_by_role("button", name="Clear").click()
    expect(panel.locator("polyline[data-key^='dsq-']")).to_have_count(0)
    choice = panel.locator("select").first
    choice.select_option(label="FDA")
    expect(panel.locator("polyline[data-key='fda-0']")).to_have_count(2)
    expect(panel.locator(".widget-slider")).to_have_count(4)  # n, n_min, w and the progress
    choice.select_option(label="ReSTE")
    expect(panel.locator("polyline[data-key='reste-0']")).to_have_count(2)


def test_the_trade_off_on_a_fresh_network(lab: Lab) -> None:
    lab.show("tradeoff")
    panel = lab.panel("tradeoff")
    panel.locator("select").filter(has_text="freshly initialised").select_option(
        label="a freshly initialised ResNet-20"
    )
    panel.get_by_text("267,264 binary weights of a fresh ResNet-20").wait_for()
    dot = panel.locator("circle[data-key='now']")
    before = dot.get_attribute("cx"), dot.get_attribute("cy")
    panel.get_by_role("button", name="STE (o = 1)").click()
    lab.page.wait_for_function(
        """(before) => { const dot = document.querySelector("circle[data-key='now']");
            return dot && (dot.getAttribute('cx') !== before[0] || dot.getAttribute('cy') !== before[1]); }""",
        arg=list(before),
    )
    lab.picture("lab-tradeoff-network")
    panel.get_by_role("button", name="paper (o = 3)").click()


EVENT_TO_REDRAW = """async (handle, watched) => {
    const panel = handle.closest('.ru-panel'), times = [];
    const shown = () => [...panel.querySelectorAll(watched)].map(e => e.outerHTML).join();
    for (let i = 0; i < 23; i++) {
        const before = shown(), begun = performance.now();
        const key = i % 2 ? 'ArrowLeft' : 'ArrowRight';
        handle.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
        while (shown() === before && performance.now() - begun < 5000) await new Promise(requestAnimationFrame);
        times.push(performance.now() - begun);
        await new Promise(resolve => setTimeout(resolve, 300));
    }
    return times.slice(3);
}"""


@pytest.mark.skipif(not os.environ.get("EXPLORER_LATENCY"), reason="timed on request: EXPLORER_LATENCY=1")
@pytest.mark.parametrize(
    ("panel", "watched"), [("curve", "polyline[data-key$='-0']"), ("tradeoff", "circle[data-key='now']")]
)
def test_from_the_event_to_the_redraw(lab: Lab, panel: str, watched: str) -> None:
    """Median of 20 steps of the power, from the key on the slider to the first frame that shows other marks."""
    lab.show("curve")
    lab.panel("curve").get_by_role("button", name="paper (o = 3)").click()
    lab.settled("o")
    lab.show(panel)
    handle = lab.panel(panel).locator(".widget-slider:has(label:text-is('o')) .noUi-handle").first
    times = sorted(handle.evaluate(EVENT_TO_REDRAW, watched))
    print(f"{panel}: {times[10]:.0f} ms, {times[5]:.0f} to {times[15]:.0f} (middle half), n = {len(times)}")
    assert times[10] < 5000


def test_train_stop_and_train_to_the_end(lab: Lab, place) -> None:
    from playwright.sync_api import expect

    lab.show("training")
    panel = lab.panel("training")
    epochs = panel.locator(".widget-text:has(label:text-is('epochs')) input")
    epochs.fill("60")
    epochs.press("Enter")
    panel.get_by_role("button", name="Train this").click()
    panel.get_by_text(re.compile(r"epoch \d+,")).wait_for()  # any: a fast machine is past the first within a moment
    panel.get_by_role("button", name="Stop").click()
    panel.get_by_text("Stopped; everything is saved").wait_for()
    lab.picture("lab-stopped")
    runs = place[0] / "runs"
    assert not list(runs.glob("*/record.json"))
    assert list(runs.glob("*-60ep-*/checkpoint*.pt"))
    epochs.fill("2")
    epochs.press("Enter")
    panel.get_by_role("button", name="Train this").click()
    panel.get_by_text("Done: ").wait_for()
    lab.ready()
    (record,) = runs.glob("*/record.json")
    assert json.loads(record.read_text())["result"]["epochs"] == 2
    expect(panel.locator("polyline[data-key='test_top1']")).to_have_count(1)
    lab.picture("lab-trained")
    lab.show("inside")  # the new run is what the last panel shows
    expect(lab.panel("inside").locator("image")).to_have_count(2)
    expect(lab.panel("inside")).to_contain_text("No float twin")
    lab.picture("lab-inside-trained")


def test_the_dark_theme_is_followed(lab: Lab) -> None:
    lab.show("curve")
    chart = lab.panel("curve").locator(".ru-chart").first
    colour = "(chart) => getComputedStyle(chart.querySelector('text')).fill"
    light, bright = chart.evaluate(colour), pixels(chart)
    lab.command("apputils:change-theme", theme="JupyterLab Dark")
    lab.page.wait_for_selector("body[data-jp-theme-light='false']", state="attached")
    lab.page.wait_for_function(
        "(light) => getComputedStyle(document.querySelector('.ru-chart text')).fill !== light", arg=light
    )
    assert pixels(chart) != bright
    lab.picture("lab-dark")


def test_a_tablet_s_width_needs_no_sideways_scrolling(lab: Lab) -> None:
    lab.page.set_viewport_size({"width": 820, "height": 1100})
    for name in PANELS:
        lab.show(name)
        lab.page.wait_for_function(
            "(panel) => panel.scrollWidth <= panel.clientWidth + 1", arg=lab.panel(name).element_handle()
        )
        lab.picture(f"lab-820-{name}")
    lab.page.set_viewport_size({"width": 1280, "height": 800})


def test_the_console_stayed_free_of_errors(lab: Lab) -> None:
    assert lab.errors == []


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
        try:
            page.wait_for_function("() => document.querySelectorAll('.ru-panel').length === 4")
            page.wait_for_function("() => document.querySelectorAll('.ru-chart svg.ru').length >= 10")
        except Exception:
            page.screenshot(path=pictures / "voila-failed.png")
            raise
        assert page.locator(".jp-InputArea-editor, .CodeMirror, .highlight").count() == 0
        assert "explorer.curve()" not in page.inner_text("body")
        line = page.locator("polyline[data-key='reste-0']").first
        points = line.get_attribute("points")
        page.locator(".noUi-handle").first.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function(
            "(points) => document.querySelector(\"polyline[data-key='reste-0']\").getAttribute('points') !== points",
            arg=points,
        )
        page.screenshot(path=pictures / "voila.png")
        assert errors == []
