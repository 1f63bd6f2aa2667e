"""`make -n` prints the exact commands. Nothing is installed or trained here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
VARIABLES = ("DATA_DIR", "RUNS_DIR", "RESULTS_DIR", "WANDB_MODE", "PYTEST_ARGS", "TEST_JOBS", "MAKEFLAGS", "MAKELEVEL")


def make(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = ["make", "--no-print-directory", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=clean | environment, check=False)


def dry(root: Path, *arguments: str, **environment: str) -> list[str]:
    done = make(root, "-n", "PYTHON=py", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def items(root: Path) -> list[str]:
    return re.search(r"^ITEMS := (.*)$", (root / "Makefile").read_text(), re.MULTILINE)[1].split()


def test_help_is_the_default_goal_and_names_every_documented_target(root: Path) -> None:
    printed = make(root).stdout
    for target in ("reproduce", "reproduce-<item>", "lab", "explore", "app", "test", "bench", "bench-full", "report"):
        assert re.search(rf"^  {re.escape(target)} +\S", printed, re.MULTILINE), target
    for target in ("doctor", "verify-models", "test-slurm", "test-arm", "lint", "clean"):
        assert re.search(rf"^  {target} +\S", printed, re.MULTILINE), target
    assert " ".join(items(root)) in printed


def test_every_item_of_the_package_has_its_target(root: Path) -> None:
    from resteutils.recipes import ITEMS

    assert set(items(root)) == set(ITEMS)


def test_reproduce_an_item_with_the_defaults(root: Path) -> None:
    assert dry(root, "reproduce-table1") == ["'py' -m resteutils reproduce table1 --profile 'demo'"]


def test_reproduce_passes_every_variable_on(root: Path) -> None:
    command = dry(
        root,
        *("reproduce-table3", "PROFILE=short", "ROWS=ste,reste", "EPOCHS=3", "SEEDS=0,1", "DEVICE=cuda"),
        *("DATA_DIR=/d", "RUNS_DIR=/r", "RESULTS_DIR=/s", "WANDB_MODE=offline"),
    )
    assert command == [
        "WANDB_MODE='offline' 'py' -m resteutils reproduce table3 --profile 'short' --rows 'ste,reste' --epochs '3' "
        "--seeds '0,1' --device 'cuda' --data-dir '/d' --runs-dir '/r' --results-dir '/s'"
    ]


def test_folders_may_come_from_the_environment_but_an_empty_variable_counts_as_unset(root: Path) -> None:
    assert "--data-dir '/d'" in dry(root, "reproduce-figure4", DATA_DIR="/d")[0]
    assert dry(root, "reproduce-figure4", WANDB_MODE="", DATA_DIR="") == dry(root, "reproduce-figure4")
    # PROFILE and PYTHON are common names: only the command line sets them.
    assert "'demo'" in dry(root, "reproduce-figure4", PROFILE="paper")[0]
    assert "'.venv/bin/python' -m resteutils" in make(root, "-n", "list", PYTHON="/elsewhere/python").stdout


def test_an_unknown_item_is_an_error_that_lists_the_items(root: Path) -> None:
    done = make(root, "reproduce-table9")
    assert done.returncode == 2
    assert "no item 'table9'" in done.stderr
    assert all(item in done.stderr for item in items(root))


def test_reproduce_runs_every_item_and_then_the_report(root: Path) -> None:
    assert dry(root, "reproduce") == ["'py' -m resteutils reproduce all --profile 'demo'"]


def test_the_test_target_passes_its_arguments(root: Path) -> None:
    assert dry(root, "test", "PYTEST_ARGS=-k layers -x", "TEST_JOBS=3") == [
        "OMP_NUM_THREADS=1 WANDB_MODE=disabled 'py' -m pytest -n '3' --dist loadfile -k layers -x"
    ]


def test_list_shows_the_rows_of_one_item(root: Path) -> None:
    assert dry(root, "list") == ["'py' -m resteutils list"]
    command = dry(root, "list", "ITEM=table1", "PROFILE=short", "RUNS_DIR=/r")
    assert command == ["'py' -m resteutils list 'table1' --profile 'short' --runs-dir '/r'"]


def copied(root: Path, folder: Path) -> Path:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(root / name, folder / name)
    return folder


def test_the_first_target_makes_and_fills_the_environment(root: Path, tmp_path: Path) -> None:
    printed = make(copied(root, tmp_path), "-n", "reproduce-table1", "TORCH_INDEX=http://index").stdout
    steps = ["-m venv .venv", "--index-url 'http://index' torch torchvision", "--editable '.'", "reproduce table1"]
    places = [printed.index(step) for step in steps]
    assert places == sorted(places)
    assert "--editable '.[dev,app,cluster,export,integrations,hub]'" in make(tmp_path, "-n", "test").stdout


def interpreters(root: Path) -> list[str]:
    return re.search(r"^PYTHONS := (.*)$", (root / "Makefile").read_text(), re.MULTILINE)[1].split()


def test_the_environment_is_made_from_any_python_that_is_classified(root: Path) -> None:
    classified = re.findall(r"Python :: (3\.\d+)", (root / "pyproject.toml").read_text())
    assert interpreters(root) == ["python3", *(f"python{version}" for version in reversed(classified))]


def test_an_old_python_is_refused_with_what_to_do(root: Path, tmp_path: Path) -> None:
    for name in interpreters(root):
        fake = tmp_path / "bin" / name
        fake.parent.mkdir(exist_ok=True)
        fake.write_text("#!/bin/sh\nexit 1\n")
        fake.chmod(0o755)
    done = make(copied(root, tmp_path), ".venv/bin/python", PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert done.returncode == 2
    assert "no Python 3.11 or later found" in done.stderr and "BASE_PYTHON=" in done.stderr
    assert " ".join(interpreters(root)) in done.stderr
    assert not (tmp_path / ".venv").exists()


ODD = """/a 'b' "c" $HOME ${HOME} $(shell touch nasty) `id` %d {e} \\f ü 猫 #g ;h &i"""
WHAT = {"DATA_DIR": "--data-dir", "RUNS_DIR": "--runs-dir", "RESULTS_DIR": "--results-dir", "ROWS": "--rows"}
WHAT |= {"PROFILE": "--profile", "EPOCHS": "--epochs", "SEEDS": "--seeds", "SET": "--set", "DEVICE": "--device"}


@pytest.fixture
def shown(tmp_path: Path) -> str:
    """A program that prints its arguments and WANDB_MODE, a line each, in a folder of an odd name."""
    program = tmp_path / "it's a $HOME {dir}" / "python"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "$WANDB_MODE"\n')
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("name", WHAT)
def test_any_text_reaches_the_command_as_it_is(root: Path, name: str, shown: str) -> None:
    done = make(root, f"PYTHON={shown}", "reproduce-table3", f"{name}={ODD}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")[-50:]
    assert lines[lines.index(WHAT[name], 1) + 1] == ODD
    assert not (root / "nasty").exists()


@pytest.mark.parametrize("name", ["DATA_DIR", "RUNS_DIR", "RESULTS_DIR", "WANDB_MODE"])
def test_any_text_of_the_environment_does_too(root: Path, name: str, shown: str) -> None:
    done = make(root, f"PYTHON={shown}", "-s", "doctor", **{name: ODD})
    assert done.returncode == 0 and ODD in done.stdout.split("\n"), done.stderr


def test_the_other_variables_hold_any_text_too(root: Path, shown: str) -> None:
    assert ODD in make(root, f"PYTHON={shown}", "-s", "list", f"ITEM={ODD}").stdout.split("\n")
    assert ODD in make(root, f"PYTHON={shown}", "-s", "test", f"TEST_JOBS={ODD}").stdout.split("\n")


@pytest.mark.parametrize("name", ["profile", "PROFIL", "Data_Dir"])
def test_a_variable_that_is_none_is_refused_with_those_there_are(root: Path, name: str) -> None:
    done = make(root, "PYTHON=py", "reproduce-table1", f"{name}=short")
    assert done.returncode == 2 and done.stdout == ""
    assert f"no variable '{name}'" in done.stderr and "PROFILE" in done.stderr


def test_uv_installs_where_it_is_there(root: Path, tmp_path: Path) -> None:
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\n")
    uv.chmod(0o755)
    folder = copied(root, tmp_path)
    with_uv = make(folder, "-n", "list", PATH=f"{uv.parent}:/usr/bin:/bin").stdout
    assert "uv pip install --python .venv/bin/python --editable '.'" in with_uv
    without = make(folder, "-n", "list", PATH="/usr/bin:/bin").stdout
    assert ".venv/bin/python -m pip install --editable '.'" in without and "--quiet" not in without
