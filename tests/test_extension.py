"""What a user adds in a module of their own is known to commands, notebooks and workers (RESTEUTILS_IMPORT)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
ESTIMATOR = next(
    block for block in re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL) if "@register" in block
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "my_estimators.py").write_text(ESTIMATOR)
    mine = {"PYTHONPATH": str(tmp_path), "RESTEUTILS_IMPORT": "my_estimators", "OMP_NUM_THREADS": "1"}
    return os.environ | mine


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_a_name_that_is_not_found_is_said(tmp_path: Path) -> None:
    done = run(os.environ | {"RESTEUTILS_IMPORT": "nowhere_at_all"}, "-c", "import resteutils")
    assert done.returncode == 1
    assert "RESTEUTILS_IMPORT names nowhere_at_all, which Python does not find" in done.stderr


def test_the_module_s_own_errors_are_shown_as_they_are(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "my_estimators.py").write_text("import not_installed_at_all")
    done = run(environment, "-c", "import resteutils")
    assert "No module named 'not_installed_at_all'" in done.stderr
    assert "RESTEUTILS_IMPORT names" not in done.stderr


@pytest.mark.slow
def test_the_readme_s_estimator_becomes_a_row_of_table_3(environment: dict[str, str], results_dir: Path) -> None:
    command = ["-m", "resteutils", "reproduce", "table3", "--profile", "smoke", "--rows", "ste,triangle"]
    done = run(environment, *command)
    assert done.returncode == 0, done.stderr
    table = (results_dir / "smoke" / "table3" / "table.md").read_text()
    assert "Triangle" in table
    again = run(environment | {"RESTEUTILS_IMPORT": ""}, "-m", "resteutils", "list", "table3", "--profile", "smoke")
    assert again.returncode == 0  # its record is skipped, with a word, where nobody knows the estimator
    said = "1 run(s) with an estimator 'triangle', which is not registered here, are left out: RESTEUTILS_IMPORT=MODULE"
    assert (again.stdout + again.stderr).count(said) == 1
    lost = run(environment | {"RESTEUTILS_IMPORT": ""}, *command[:-1], "ste")
    assert "would lose: triangle (2 epochs, seed 0)" in lost.stderr  # and nothing is trained before that is said
    assert "RESTEUTILS_IMPORT where the estimator is one of your own" in lost.stderr
