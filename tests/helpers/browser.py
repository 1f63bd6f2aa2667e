"""A server on loopback, a headless Chromium in front of it, and JupyterLab with the explorer open."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SECONDS = 180_000  # milliseconds that a wait may take on a busy machine
PANELS = {"curve": 4, "tradeoff": 6, "training": 8, "inside": 10}  # cell of each panel in the notebook

# Messages of the applications themselves about what a closed loopback network cannot have, not of the explorer.
HARMLESS = ("favicon", "net::ERR_INTERNET_DISCONNECTED", "net::ERR_NAME_NOT_RESOLVED", "ResizeObserver loop")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(command: list[str], url: str, folder: Path, env: dict[str, str]) -> Iterator[None]:
    """A server for as long as the block lasts; its output goes to ``folder/server.log``."""
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 180
            while not answers(url):
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{command[2]} did not start: {(folder / 'server.log').read_text()[-800:]}")
                time.sleep(0.2)
            yield
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


@contextlib.contextmanager
def browsing(chromium, folder: Path, errors: list[str]) -> Iterator:
    """A page in a browser with a fresh profile; whatever its console calls an error is added to ``errors``."""

    def noted(text: str) -> None:
        if not any(word in text for word in HARMLESS):
            errors.append(text)

    profile = folder / f"profile-{secrets.token_hex(4)}"
    context = chromium.launch_persistent_context(
        str(profile), executable_path=CHROMIUM, args=FLAGS, viewport={"width": 1280, "height": 800}
    )
    context.set_default_timeout(SECONDS)
    page = context.new_page()
    page.on("console", lambda message: noted(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: noted(str(error)))
    try:
        yield page
    finally:
        context.close()
        shutil.rmtree(profile, ignore_errors=True)


def playwright_timeout() -> type[Exception]:
    from playwright.sync_api import TimeoutError

    return TimeoutError


class Lab:
    """JupyterLab with the explorer open and all cells run."""

    READY = """() => {
        const panel = window.jupyterapp?.shell?.currentWidget, session = panel?.sessionContext;
        return panel?.context?.isReady && session?.isReady && session?.session?.kernel?.connectionStatus === 'connected'
            && session?.session?.kernel?.status === 'idle';
    }"""

    def __init__(self, page, errors: list[str], pictures: Path) -> None:
        self.page, self.errors, self.pictures = page, errors, pictures

    def ready(self) -> None:
        self.page.wait_for_function(self.READY)

    def command(self, name: str, **arguments) -> None:
        script = "([name, args]) => { window.jupyterapp.commands.execute(name, args) }"  # not awaited: some never end
        self.page.evaluate(script, [name, arguments])

    def show(self, panel: str) -> None:
        """Scroll to a panel; the notebook attaches a cell to the page only when it comes into view."""
        script = """async (cell) => {
            const notebook = window.jupyterapp.shell.currentWidget.content;
            notebook.activeCellIndex = cell;
            await notebook.scrollToItem(cell, 'start');
        }"""
        for _ in range(SECONDS // 5_000):
            self.page.evaluate(script, PANELS[panel])
            with contextlib.suppress(
                playwright_timeout()
            ):  # charts that arrive meanwhile push the cell out of view again
                self.panel(panel).wait_for(state="visible", timeout=5_000)
                break
        self.panel(panel).scroll_into_view_if_needed()

    def panel(self, name: str):
        return self.page.locator(f".jp-Cell:has-text('explorer.{name}()') .ru-panel").last

    def picture(self, name: str) -> None:
        self.page.screenshot(path=self.pictures / f"{name}.png")

    def kernel(self, expression: str) -> str:
        """What the kernel prints for an expression: the other end of the widgets on the page."""
        script = """async (code) => {
            const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            let said = '';
            const future = kernel.requestExecute({code, store_history: false});
            future.onIOPub = (message) => {
                if (message.header.msg_type === 'stream') said += message.content.text;
                if (message.header.msg_type === 'error') said += message.content.evalue;
            };
            await future.done;
            return said;
        }"""
        return self.page.evaluate(script, f"print({expression})").strip()

    def line(self) -> str:
        """The points of the estimator's own derivative in the curve panel, as the page has them."""
        line = self.panel("curve").locator(".ru-chart").nth(1).locator("polyline[data-key$='-0']")
        return line.get_attribute("points")

    def wait_for_other_line(self, points: str) -> None:
        script = """([points, title]) => [...document.querySelectorAll('.ru-chart')].some(chart => {
            const line = chart.querySelector("polyline[data-key$='-0']");
            return chart.textContent.includes(title) && line && line.getAttribute('points') !== points;
        })"""
        self.page.wait_for_function(script, arg=[points, "Backward"])

    def settled(self, name: str) -> float:
        """The value of a slider, once the kernel and both charts have what its handle shows.

        A busy kernel gets the last of many moves late: until then the handle is ahead of it, and it of the charts.
        After a click on a button it is the handle that comes late.
        """
        for _ in range(SECONDS // 100):
            value = float(self.kernel(f"explorer.controls.final.{name}"))
            shown = float(self.handle(name).get_attribute("aria-valuenow"))
            if value == pytest.approx(shown, abs=0.06):  # the handle tells one digit after the point
                break
            self.page.wait_for_timeout(100)
        else:
            pytest.fail(f"the handle of {name} shows {shown}, the kernel still has {value}")
        for chart, part in enumerate(("forward", "slope")):
            drawn = self.kernel(f"explorer.curve_panel.{part}.value")
            self.page.wait_for_function(
                """([chart, drawn]) => { const shown = document.querySelectorAll('.ru-panel .ru-chart')[chart];
                    return drawn.includes(shown.querySelector("polyline[data-key$='-0']").getAttribute('points')); }""",
                arg=[chart, drawn],
            )
        return value

    def handle(self, name: str):
        """The handle of a slider in the curve panel, by its label."""
        return self.panel("curve").locator(f".widget-slider:has(label:text-is('{name}')) .noUi-handle").first
