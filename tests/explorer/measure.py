"""What the explorer costs its reader: ``python tests/explorer/measure.py`` prints the tables of ``docs/explorer.md``.

A move of the slider: processor time of the page's script, style and layout, median and largest of 20, in ms.
A start: seconds until the first chart stands and until every tab was opened, and the resident memory of what serves it.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.browser import CHROMIUM, FLAGS, Lab, free_port, serving  # noqa: E402

TABS = ("Curve", "Trade-off", "Training", "Inside")
MOVE = """(place) => {
    const root = document.querySelector(".rx"), slider = root.querySelector(".rx-slider input[type=range]");
    slider.value = place;
    slider.dispatchEvent(new Event("input"));
    root.getBoundingClientRect();
}"""
SPENT = ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration")


def resident(pid: int) -> float:
    """MB of a process and its children."""
    status = Path(f"/proc/{pid}/status").read_text()
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(resident(int(child)) for child in children)


def opened(page, began: float) -> tuple[float, float]:
    """Seconds to the first chart, and to all four tabs."""
    page.locator(".rx svg.rx-chart").first.wait_for()
    first = time.monotonic() - began
    for tab in TABS:
        page.get_by_role("tab", name=tab, exact=True).click()
        page.locator("[role=tabpanel]:visible svg, [role=tabpanel]:visible canvas").first.wait_for()
    return first, time.monotonic() - began


def moves(page, place: str) -> None:
    """Processor time of the page's thread for a move: what else the machine does has no part in it."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.setTimeDomain", {"timeDomain": "threadTicks"})
    session.send("Performance.enable")

    def spent() -> float:
        found = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        return 1000 * sum(found[name] for name in SPENT)

    for tab in TABS[:3]:
        page.get_by_role("tab", name=tab, exact=True).click()
        took = []
        for i in range(20):
            before = spent()
            page.evaluate(MOVE, 0.1 + 0.04 * i)
            took.append(spent() - before)
        print(f"| slider of o, {tab.lower()} | {place} | {median(took):.1f} | {max(took):.1f} |", flush=True)


def of_the_page(play, results: str) -> None:
    port = free_port()
    command = [sys.executable, "-m", "resteutils.explorer.serve", "--port", str(port), "--results-dir", results]
    address, began = f"http://127.0.0.1:{port}/", time.monotonic()
    with tempfile.TemporaryDirectory() as folder, serving(command, address, Path(folder), dict(os.environ)):
        print(f"make app: answers after {time.monotonic() - began:.1f} s", flush=True)
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        began = time.monotonic()
        page.goto(address)
        first, every = opened(page, began)
        print(
            f"page: first chart {first:.1f} s, all tabs {every:.1f} s, {len(page.content()) / 1e3:.0f} kB", flush=True
        )
        moves(page, "page")
        server = next(int(pid) for pid in _children(os.getpid()) if str(port) in _command(pid))
        began, visitors = time.monotonic(), [browser.new_context().new_page() for _ in range(5)]
        for visitor in visitors:
            visitor.goto(address, wait_until="commit")
        for visitor in visitors:
            visitor.locator(".rx svg.rx-chart").first.wait_for()
        took = time.monotonic() - began
        print(f"five visitors: first chart of all {took:.1f} s; the server holds {resident(server):.0f} MB", flush=True)
        browser.close()


def of_lab(play) -> None:
    port, token, errors = free_port(), secrets.token_urlsafe(16), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "explore_reste.ipynb").write_bytes((ROOT / "notebooks" / "explore_reste.ipynb").read_bytes())
        env = {**os.environ, "PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": name, "JUPYTERLAB_WORKSPACES_DIR": name}
        env |= {"RESULTS_DIR": str(ROOT / "results"), "RUNS_DIR": str(folder / "runs")}
        command = [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
            f"--ServerApp.root_dir={name}", f"--IdentityProvider.token={token}", "--LabApp.expose_app_in_browser=True",
        ]  # fmt: skip
        base, began = f"http://127.0.0.1:{port}", time.monotonic()
        with serving(command, f"{base}/api/status?token={token}", folder, env):
            browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(180_000)
            page.goto(f"{base}/lab/tree/explore_reste.ipynb?token={token}")
            lab = Lab(page, errors, folder)
            lab.ready()
            ran = time.monotonic()
            lab.command("notebook:run-all-cells")
            lab.show()
            first, every = opened(page, ran)
            server = next(int(pid) for pid in _children(os.getpid()) if str(port) in _command(pid))
            print(f"make explore: Lab stands after {ran - began:.1f} s; run all: first chart {first:.1f} s, all tabs "
                  f"{every:.1f} s; server and kernel hold {resident(server):.0f} MB", flush=True)  # fmt: skip
            moves(page, "JupyterLab")
            browser.close()


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _command(pid: str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


if __name__ == "__main__":
    from playwright.sync_api import sync_playwright

    load = subprocess.run(["uptime"], capture_output=True, text=True).stdout.split("load")[-1].strip()
    print(f"load {load}")
    with sync_playwright() as playing:
        of_the_page(playing, str(ROOT / "results"))
        of_lab(playing)
