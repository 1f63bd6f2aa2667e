"""What a user adds in a module of their own is known to commands, notebooks and workers (RESTEUTILS_IMPORT)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
ESTIMATOR = next(block for block in BLOCKS if "@register\n" in block)
NETWORK = next(block for block in BLOCKS if "@ru.register_model\n" in block)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "my_estimators.py").write_text(ESTIMATOR)
    mine = {"PYTHONPATH": str(tmp_path), "RESTEUTILS_IMPORT": "my_estimators", "OMP_NUM_THREADS": "1"}
    return os.environ | mine


def run(environment: dict[str, str], *arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)


FAULTS = {  # what stands in the module, and what is said of it
    "def oops(:": "SyntaxError: invalid syntax (my_estimators.py, line 1)",
    "\nimport not_there": "ModuleNotFoundError: No module named 'not_there' (my_estimators.py, line 2)",
    "from resteutils.estimators import register\n\nregister(int)": "(my_estimators.py, line 3)",
    None: "Python does not find it; put its folder on PYTHONPATH",
}


@pytest.mark.parametrize("source", FAULTS, ids=["syntax", "import", "refused", "absent"])
def test_a_command_says_what_is_wrong_with_the_module_in_one_line(environment, tmp_path: Path, source) -> None:
    module = tmp_path / "my_estimators.py"
    module.unlink() if source is None else module.write_text(source)
    done = run(environment, "-m", "resteutils", "list")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("resteutils: RESTEUTILS_IMPORT=my_estimators: ") and done.stderr.count("\n") == 1
    assert done.stderr.endswith(f"{FAULTS[source]}\n")


def test_the_console_script_says_it_too(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "my_estimators.py").write_text("def oops(:")
    script = tmp_path / "resteutils"  # as pip writes it
    script.write_text("import sys\nfrom resteutils.cli.commands import main\nsys.exit(main())\n")
    environment["PYTHONPATH"] += f"{os.pathsep}{ROOT}"
    done = run(environment, str(script), "list")
    assert done.returncode == 2
    assert done.stderr == f"resteutils: RESTEUTILS_IMPORT=my_estimators: {FAULTS['def oops(:']}\n"


def test_a_program_of_the_reader_s_own_gets_the_whole_error(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "my_estimators.py").write_text("import not_installed_at_all")
    done = run(environment, "-c", "import resteutils")
    assert done.returncode == 1
    assert 'my_estimators.py", line 1' in done.stderr
    last = done.stderr.splitlines()[-1]
    assert "RESTEUTILS_IMPORT=my_estimators: ModuleNotFoundError: No module named 'not_installed_at_all'" in last


def test_the_guide_s_network_is_trained_by_its_name(environment: dict[str, str], tmp_path: Path) -> None:
    """By the guide's own command, in profile smoke."""
    (tmp_path / "my_networks.py").write_text(NETWORK)
    command = re.search(
        r"^`PYTHONPATH=\. RESTEUTILS_IMPORT=my_networks resteutils (train .*)`\.$", GUIDE, re.MULTILINE
    )[1]
    environment |= {"PYTHONPATH": f".{os.pathsep}{ROOT}", "RESTEUTILS_IMPORT": "my_networks"}
    smoke = ["--profile", "smoke", "--epochs", "1", "--device", "cpu"]
    done = run(environment, "-m", "resteutils", *command.split(), *smoke, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "table3/reste smoke seed 0: top-1" in done.stdout
    (folder,) = (tmp_path / "runs").glob("plain5-*")
    assert (folder / "record.json").is_file()


@pytest.mark.slow
def test_the_readme_s_estimator_becomes_a_row_of_table_3(
    environment: dict[str, str], results_dir: Path, tmp_path: Path
) -> None:
    command = ["-m", "resteutils", "reproduce", "table3", "--profile", "smoke", "--rows", "ste,triangle"]
    environment["PYTHONPATH"] = f".{os.pathsep}{ROOT}"
    done = run(environment, *command, cwd=tmp_path)  # where the kernel does not start
    assert done.returncode == 0, done.stderr
    table = (results_dir / "smoke" / "table3" / "table.md").read_text()
    assert "Triangle" in table
    again = run(environment | {"RESTEUTILS_IMPORT": ""}, "-m", "resteutils", "list", "table3", "--profile", "smoke")
    assert again.returncode == 0  # its record is skipped, with a word, where nobody knows the estimator
    said = "1 run(s) with an estimator 'triangle', which is not registered here, are left out: RESTEUTILS_IMPORT=MODULE"
    assert (again.stdout + again.stderr).count(said) == 1
    lost = run(environment | {"RESTEUTILS_IMPORT": ""}, *command[:-1], "ste")
    assert "would lose: triangle (2 epochs, seed 0)" in lost.stderr  # and nothing is trained before that is said
    assert "RESTEUTILS_IMPORT where an estimator, model or dataset is one of your own" in lost.stderr
