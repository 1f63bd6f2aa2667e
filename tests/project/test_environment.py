"""pyproject.toml, environment.yml and the Makefile speak of the same packages; importing the package stays cheap."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
HEAVY = (
    "wandb",
    "papermill",
    "matplotlib",
    "pandas",
    "ipywidgets",
    "sklearn",
    "torchvision",
    "submitit",
    "onnx",
    "torch._dynamo",
)


@pytest.fixture(scope="module")
def pyproject(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def conda(root: Path) -> dict:
    return yaml.safe_load((root / "environment.yml").read_text())


def bounds(requirements: list[str]) -> dict[str, str]:
    """``["torch>=2.6"]`` as ``{"torch": ">=2.6"}``."""
    return dict(re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", line).groups() for line in requirements)


def test_environment_yml_holds_the_core_dependencies_with_the_same_bounds(pyproject: dict, conda: dict) -> None:
    core = {CONDA_NAMES.get(name, name): bound for name, bound in bounds(pyproject["project"]["dependencies"]).items()}
    listed = bounds([line for line in conda["dependencies"] if isinstance(line, str)])
    assert listed.pop("pip") == ""
    assert listed.pop("python") == pyproject["project"]["requires-python"]
    assert listed == core


def test_environment_yml_uses_conda_forge_alone_and_pip_for_the_checkout_only(conda: dict) -> None:
    assert conda["channels"] == ["conda-forge", "nodefaults"]
    assert conda["dependencies"][-1] == {"pip": ["-e ."]}
    assert sum(isinstance(line, dict) for line in conda["dependencies"]) == 1


def test_every_dependency_has_a_lower_bound_and_no_upper_one(pyproject: dict) -> None:
    groups = [pyproject["project"]["dependencies"], *pyproject["project"]["optional-dependencies"].values()]
    for name, bound in (pair for group in groups for pair in bounds(group).items()):
        assert re.fullmatch(r">=\d[\d.]*", bound), f"{name}{bound}"


def test_the_makefile_installs_extras_that_exist(root: Path, pyproject: dict) -> None:
    named = re.findall(r"EXTRAS := \[([a-z,]+)\]", (root / "Makefile").read_text())
    assert named
    assert set(",".join(named).split(",")) <= set(pyproject["project"]["optional-dependencies"])


def test_pre_commit_pins_the_tools_that_the_dev_extra_asks_for(root: Path, pyproject: dict) -> None:
    config = yaml.safe_load((root / ".pre-commit-config.yaml").read_text())
    pins = [pin for repo in config["repos"] for hook in repo["hooks"] for pin in hook["additional_dependencies"]]
    dev = bounds(pyproject["project"]["optional-dependencies"]["dev"])
    for pin in pins:
        name, version = pin.split("==")
        assert [int(x) for x in version.split(".")] >= [int(x) for x in dev[name].removeprefix(">=").split(".")], pin


@pytest.mark.parametrize("module", ["resteutils", "resteutils.cli.commands"])
def test_importing_pulls_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_package_data_is_tracked_where_the_build_takes_it_from(root: Path, pyproject: dict) -> None:
    assert pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["resteutils"]
    assert (root / "resteutils" / "evidence" / "paper.csv").is_file()


def test_every_public_name_is_the_same_thing_each_time_it_is_read() -> None:
    """A name loaded on first use must not be that of a module: importing the module would put itself in its place."""
    import types

    import resteutils as ru

    for name in ru.__all__:
        assert not isinstance(getattr(ru, name), types.ModuleType), name
        assert getattr(ru, name) is getattr(ru, name), name
