"""axe-core in a page under test: the npm package, fetched once into a temporary folder."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

VERSION = "4.10.3"


@functools.cache
def source() -> str:
    """axe-core's script; the test is skipped where npm or its registry is not there."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm to fetch axe-core with")
    folder = Path(tempfile.mkdtemp(prefix="axe-"))
    try:
        done = subprocess.run(
            [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), f"axe-core@{VERSION}"],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        script = folder / "node_modules" / "axe-core" / "axe.min.js"
        if done.returncode or not script.is_file():
            pytest.skip(f"npm could not fetch axe-core {VERSION}: {done.stderr.strip()[-200:]}")
        return script.read_text(encoding="utf-8")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def violations(page, within: str = "") -> list[str]:
    """What axe-core objects to, as "rule: element" lines; ``within`` a selector, or the whole page."""
    page.evaluate(source())
    found = page.evaluate("async (within) => (await axe.run(within || document)).violations", within)
    return [f"{v['id']}: {node['html'][:160]} {node['any'][:1]}" for v in found for node in v["nodes"]]
