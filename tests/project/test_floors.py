"""The house: every folder imports from the floors below it only, and no two modules import each other in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "resteutils"
# From the top. Folders of one line do not know each other.
FLOORS = (
    ("cli",),
    ("items", "explorer", "results"),
    ("evidence",),
    ("runs",),
    ("training",),
    ("onebit",),
    ("recipes",),
    ("models",),
    ("nn",),
    ("data", "kernels"),
    ("estimators", "system"),
)
FLOOR = {folder: -number for number, folders in enumerate(FLOORS) for folder in folders}


def imports(path: Path) -> set[str]:
    """The modules of ours that a file imports, wherever in it, as dotted paths below ``resteutils``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "resteutils":
            inside = node.module.split(".")[1:]
            names = [[*inside, alias.name] for alias in node.names]
            found |= {".".join(name if module_of(name).exists() else inside) for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("resteutils.")}
    return found - {""}


def module_of(name: list[str]) -> Path:
    path = PACKAGE.joinpath(*name)
    return path if path.is_dir() else path.with_suffix(".py")


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def test_every_folder_has_a_floor() -> None:
    assert {path.relative_to(PACKAGE).parts[0] for path in MODULES} == set(FLOOR)
    assert len(list(PACKAGE.glob("*.py"))) <= 2  # __init__ and __main__


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    folder = path.relative_to(PACKAGE).parts[0]
    up = [name for name in imports(path) if (other := name.split(".")[0]) != folder and FLOOR[other] >= FLOOR[folder]]
    assert not up, f"{folder} may not import {', '.join(sorted(up))}: the order of the folders is {FLOORS}"


def test_no_circle_within_a_folder() -> None:
    """A package's ``__init__`` stands for what it imports first: only modules proper are followed."""
    names = {".".join(p.relative_to(PACKAGE).with_suffix("").parts): p for p in MODULES if p.name != "__init__.py"}
    edges = {name: imports(path) & names.keys() for name, path in names.items()}
    while edges:
        free = [name for name, others in edges.items() if not others & edges.keys()]
        assert free, f"a circle of imports among {', '.join(sorted(edges))}"
        for name in free:
            del edges[name]
