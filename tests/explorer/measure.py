"""What the explorer costs its reader: ``python tests/explorer/measure.py --write`` puts it into ``docs/explorer.md``.

A move of the slider, median and largest of 20, in ms: processor time of the page's thread for script, style and layout,
and time until the picture that shows it. A start: seconds until the first chart stands and until all four tabs were
opened, and the resident memory of what serves it. Without ``--write`` the tables are printed only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.browser import CHROMIUM, FLAGS, TABS, Lab, free_port, serving  # noqa: E402

PAGE = ROOT / "docs" / "explorer.md"
MOVES = 20
MOVE = """async (place) => {
    const root = document.querySelector(".rx"), slider = root.querySelector(".rx-slider input[type=range]");
    const begun = performance.now();
    slider.value = place;
    slider.dispatchEvent(new Event("input"));
    root.getBoundingClientRect();
    await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - begun;
}"""
SPENT = ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration")


def resident(pid: int) -> float:
    """MB of a process and its children."""
    status = Path(f"/proc/{pid}/status").read_text()
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024
    return own + sum(resident(int(child)) for child in children(pid))


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def server_of(port: int) -> int:
    """The process that serves ``port``: a child of this one that has it on its command line."""
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in children(os.getpid())}
    return next(int(pid) for pid, command in commands.items() if str(port) in command)


def opened(page, began: float) -> tuple[float, float]:
    """Seconds to the first chart, and to all four tabs."""
    page.locator(".rx svg.rx-chart").first.wait_for()
    first = time.monotonic() - began
    for tab in TABS:
        page.get_by_role("tab", name=tab, exact=True).click()
        page.locator("[role=tabpanel]:visible svg, [role=tabpanel]:visible canvas").first.wait_for()
    return first, time.monotonic() - began


def moves(page, place: str) -> list[str]:
    """Rows of the first table: the slider of o on three tabs."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.setTimeDomain", {"timeDomain": "threadTicks"})
    session.send("Performance.enable")

    def spent() -> float:
        found = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        return 1000 * sum(found[name] for name in SPENT)

    rows = []
    for tab in TABS[:3]:
        page.get_by_role("tab", name=tab, exact=True).click()
        cpu, seen = [], []
        for i in range(MOVES):
            before = spent()
            seen.append(page.evaluate(MOVE, 0.1 + 0.04 * i))
            cpu.append(spent() - before)
        figures = " | ".join(f"{value:.1f}" for value in (median(cpu), max(cpu), median(seen), max(seen)))
        rows.append(f"| slider of o, {tab.lower()} | {place} | {figures} |")
    return rows


def start_row(what: str, first: float, every: float | None, held: str) -> str:
    return f"| {what} | {first:.1f} | {'-' if every is None else f'{every:.1f}'} | {held} |"


@contextlib.contextmanager
def browser_of(play) -> Iterator:
    browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    try:
        yield browser
    finally:
        browser.close()


def of_the_report(play, folder: Path) -> tuple[list[str], list[str]]:
    """The explorer as a page of the report, opened from the disk."""
    from resteutils.explorer.page import document

    target = folder / "explorer.html"
    target.write_text(document(str(ROOT / "results")), encoding="utf-8")
    with browser_of(play) as browser:
        page, began = browser.new_page(), time.monotonic()
        page.goto(f"file://{target}")
        first, every = opened(page, began)
        size = f"none but the browser's; {target.stat().st_size / 1e3:.0f} kB of page"
        return moves(page, "report"), [start_row("the report's page", first, every, size)]


def of_the_app(play, folder: Path) -> tuple[list[str], list[str]]:
    """``make app``: one visitor, then five at once."""
    port = free_port()
    command = [sys.executable, "-m", "resteutils.explorer.serve", "--port", str(port)]
    command += ["--results-dir", str(ROOT / "results")]
    address, began = f"http://127.0.0.1:{port}/", time.monotonic()
    with serving(command, address, folder, dict(os.environ)), browser_of(play) as browser:
        answers, page = time.monotonic() - began, browser.new_page()
        began = time.monotonic()
        page.goto(address)
        first, every = opened(page, began)
        held = f"{resident(server_of(port)):.0f}, the server"
        starts = [start_row(f"`make app`, which answers after {answers:.1f} s", first, every, held)]
        began, visitors = time.monotonic(), [browser.new_context().new_page() for _ in range(5)]
        for visitor in visitors:
            visitor.goto(address, wait_until="commit")
        for visitor in visitors:
            visitor.locator(".rx svg.rx-chart").first.wait_for()
        took, held = time.monotonic() - began, f"{resident(server_of(port)):.0f}, the server"
        return [], [*starts, start_row("`make app`, five visitors at once, all five", took, None, held)]


def notebook_in(folder: Path) -> dict[str, str]:
    """Put the notebook into a folder, and return an environment without the user's settings."""
    (folder / "explore_reste.ipynb").write_bytes((ROOT / "notebooks" / "explore_reste.ipynb").read_bytes())
    own = {"PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(folder), "JUPYTERLAB_WORKSPACES_DIR": str(folder)}
    return {**os.environ, **own, "RESULTS_DIR": str(ROOT / "results"), "RUNS_DIR": str(folder / "runs")}


def of_lab(play, folder: Path) -> tuple[list[str], list[str]]:
    """``make explore``, from Run All Cells on."""
    port, token, env = free_port(), secrets.token_urlsafe(16), notebook_in(folder)
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}", "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    base, began = f"http://127.0.0.1:{port}", time.monotonic()
    with serving(command, f"{base}/api/status?token={token}", folder, env), browser_of(play) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(180_000)
        page.goto(f"{base}/lab/tree/explore_reste.ipynb?token={token}")
        lab = Lab(page, [], folder)
        lab.ready()
        ran = time.monotonic()
        lab.command("notebook:run-all-cells")
        lab.show()
        first, every = opened(page, ran)
        held = f"{resident(server_of(port)):.0f}, server and kernel"
        what = f"`make explore`, after Run All ({ran - began:.1f} s until JupyterLab stands)"
        return moves(page, "JupyterLab"), [start_row(what, first, every, held)]


def of_voila(play, folder: Path) -> tuple[list[str], list[str]]:
    """The notebook by Voila, which starts a kernel for the visitor."""
    port, token, env = free_port(), secrets.token_urlsafe(16), notebook_in(folder)
    command = [
        sys.executable, "-m", "voila", str(folder / "explore_reste.ipynb"), "--no-browser", "--Voila.ip=127.0.0.1",
        f"--port={port}", f"--Voila.token={token}", "--Voila.port_retries=0",
    ]  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    with serving(command, f"{base}/voila/static/voila.js?token={token}", folder, env), browser_of(play) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(180_000)
        began = time.monotonic()
        page.goto(f"{base}/?token={token}", wait_until="commit")
        first, every = opened(page, began)
        held = f"{resident(server_of(port)):.0f}, server and kernel"
        return moves(page, "Voila"), [start_row("Voila, from the request on", first, every, held)]


def tables() -> dict[str, str]:
    """Measure everything; the two tables and the machine, by the names of their blocks."""
    from playwright.sync_api import sync_playwright

    from resteutils.runs.provenance import machine

    about, load = machine(), os.getloadavg()[0]
    rows: list[str] = []
    starts: list[str] = []
    with sync_playwright() as play:
        for measure in (of_the_report, of_the_app, of_lab, of_voila):
            with tempfile.TemporaryDirectory() as folder:
                more, start = measure(play, Path(folder))
            print(*start, *more, sep="\n", flush=True)
            rows, starts = rows + more, starts + start
    moved = "| interaction | place | processor, median | largest | until the picture, median | largest |\n"
    moved += "| --- | --- | ---: | ---: | ---: | ---: |\n" + "\n".join(rows)
    begun = "| start | first chart, s | all four tabs, s | MB |\n| --- | ---: | ---: | ---: |\n" + "\n".join(starts)
    where = f"On {about['cores']} cores of an {about['cpu']}, load {load:.1f}. Of {MOVES} moves each, in ms."
    return {"explorer-machine": where, "explorer-moves": moved, "explorer-starts": begun}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/explorer.md")
    write, found = parser.parse_args().write, tables()
    print("\n\n".join(found.values()))
    if write:
        from resteutils.evidence.markers import replaced
        from resteutils.system.files import write_atomic

        write_atomic(PAGE, replaced(PAGE.read_text(encoding="utf-8"), found))
