"""The explorer with a kernel behind it, in a real browser: JupyterLab and Voila on loopback. Nothing here is timed."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.axe import violations
from helpers.browser import CHROMIUM, TABS, Lab, browsing, free_port, gain, serving
from helpers.looks import objections

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(600),  # the first test starts the server, the browser and the kernel
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no {CHROMIUM}: apt-get install chromium"),
]


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
def lab(place, chromium, pictures: Path, root: Path) -> Iterator[Lab]:
    folder, env = place
    port, token, errors = free_port(), secrets.token_urlsafe(16), []
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}",
        "--LabApp.expose_app_in_browser=True", f"--config={root / '.jupyter' / 'jupyter_server_config.py'}",
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
    for name, o in (("sign (o = 100)", 100.0), ("paper (o = 3)", 3.0), ("o = 10", 10.0)):
        lab.page.get_by_role("button", name=name, exact=True).click()
        lab.says("explorer.chosen.o", str(o))
    assert "10" in lab.kernel("explorer.link")
    for tab in TABS:
        lab.page.get_by_role("tab", name=tab, exact=True).click()
        assert violations(lab.page, ".rx") == [], tab
    lab.page.get_by_role("tab", name="Curve", exact=True).click()
    lab.picture("lab-curve")


def test_saving_a_notebook_that_was_not_run_leaves_its_file_as_it_was(lab: Lab, place, root: Path) -> None:
    """JupyterLab itself would write this machine's Python into the notebook, and git would see a change."""
    copy = place[0] / "lemma_estimating_error.ipynb"
    before = (root / "notebooks" / copy.name).read_bytes()
    copy.write_bytes(before)
    lab.open(copy.name)
    assert "python" in lab.kernel("__import__('sys').executable")
    lab.save()
    assert copy.read_bytes() == before
    lab.open("explore_reste.ipynb")


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


def test_at_the_width_of_a_phone_no_cell_is_wider_than_its_box(lab: Lab) -> None:
    page = lab.page
    page.set_viewport_size({"width": 390, "height": 844})
    try:
        for tab in TABS:
            page.get_by_role("tab", name=tab, exact=True).click()
            lab.picture(f"lab-{tab}-390")
            assert objections(page, "outside", ".rx") == [], tab
            assert objections(page, "crossed") == [], tab
    finally:
        page.set_viewport_size({"width": 1280, "height": 800})
        page.get_by_role("tab", name="Curve").click()


def test_after_a_restart_of_the_kernel_the_page_still_works(lab: Lab) -> None:
    page = lab.page
    page.get_by_role("tab", name="Curve").click()
    lab.restart()
    page.get_by_role("button", name="paper (o = 3)").click()
    assert gain(page) == 4.642
    page.get_by_role("tab", name="Training").click()
    page.get_by_role("button", name="Train this").click()
    page.get_by_text("run the cell again").wait_for()


def test_a_reload_brings_it_back_or_says_what_to_do(lab: Lab) -> None:
    """The kernel of before: the widget is back. Another kernel: a line says what to do, and doing it helps."""
    lab.command("notebook:clear-all-cell-outputs")
    lab.command("notebook:run-all-cells")
    lab.show()
    lab.page.get_by_role("button", name="o = 10", exact=True).click()
    lab.says("explorer.chosen.o", "10.0")
    lab.save()
    lab.reload()
    lab.show()
    assert gain(lab.page) == 7.943
    assert lab.page.locator(".rx-again:visible").count() == 0
    lab.restart()
    lab.reload()
    lab.show(".rx-again")
    assert "Shift+Enter" in lab.page.locator(".rx-again").inner_text()
    assert lab.page.locator(".rx").count() == 0
    lab.picture("lab-reloaded")
    lab.command("notebook:run-all-cells")
    lab.show()
    assert lab.page.locator(".rx-again:visible").count() == 0


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
