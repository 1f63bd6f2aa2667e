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
TABS = ("Curve", "Trade-off", "Training", "Inside")
CELL = 2  # the notebook's cell that shows the explorer

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


def gain(page) -> float:
    """By what the page says that a gradient near zero is multiplied."""
    return float(page.locator(".rx-gain").inner_text())


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
        page.on("dialog", lambda dialog: dialog.accept())  # whether to leave what is not saved

    def ready(self) -> None:
        self.page.wait_for_function(self.READY)

    def command(self, name: str, **arguments) -> None:
        script = "([name, args]) => { window.jupyterapp.commands.execute(name, args) }"  # not awaited: some never end
        self.page.evaluate(script, [name, arguments])

    def show(self, what: str = ".rx") -> None:
        """Scroll to the explorer; the notebook attaches a cell to the page only when it comes into view."""
        script = """async (cell) => {
            const notebook = window.jupyterapp.shell.currentWidget.content;
            notebook.activeCellIndex = cell;
            await notebook.scrollToItem(cell, 'start');
        }"""
        for _ in range(SECONDS // 5_000):
            self.page.evaluate(script, CELL)
            with contextlib.suppress(playwright_timeout()):  # what arrives meanwhile pushes the cell out of view again
                self.page.locator(what).wait_for(state="visible", timeout=5_000)
                break

    def restart(self) -> None:
        """Give the notebook a new kernel, and wait for it."""
        asked = """async () => {
            const session = window.jupyterapp.shell.currentWidget.sessionContext.session;
            await session.kernel.restart();
        }"""
        self.page.evaluate(asked)
        self.ready()

    def open(self, path: str) -> None:
        """Open a notebook beside the others, or show it where it is open."""
        self.page.evaluate("(path) => window.jupyterapp.commands.execute('docmanager:open', {path})", path)
        shown = "(path) => window.jupyterapp.shell.currentWidget?.context?.path === path"
        self.page.wait_for_function(shown, arg=path)
        self.ready()

    def save(self) -> None:
        """Write the notebook to the disk, outputs included."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")

    def reload(self) -> None:
        """Load the whole application again, as F5 does; what is not saved may go."""
        self.page.reload()
        self.ready()

    def says(self, expression: str, wanted: str) -> None:
        """Wait until the kernel prints that for an expression: what the page sends takes a moment."""
        for _ in range(SECONDS // 500):
            if self.kernel(expression) == wanted:
                return
            self.page.wait_for_timeout(500)
        pytest.fail(f"{expression} is {self.kernel(expression)}, not {wanted}")

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
