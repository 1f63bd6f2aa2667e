"""The command line of benchmarks.tasks."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.metadata as metadata
import inspect
import json
import platform
import sys
import tempfile
import textwrap
import traceback
import warnings
from pathlib import Path
from typing import Any

from benchmarks.tasks import LIBRARIES, TASKS


class _Written(ast.NodeTransformer):
    """Leaves out checks and docstrings."""

    def visit_Assert(self, node: ast.Assert) -> None:
        return None

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node


def lines_of(function: Any) -> int:
    """Lines that a user writes: the function's body, and what it needs, as ``ast`` prints them, without blank lines."""
    (own,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    module = ast.parse(Path(function.__code__.co_filename).read_text(encoding="utf-8")).body
    others = [each for each in module if getattr(each, "name", "") in getattr(function, "needs", ())]
    text = ast.unparse(_Written().visit(ast.Module([*others, *own.body], [])))
    return sum(bool(line.strip()) for line in text.splitlines())


def tried(function: Any) -> dict[str, Any]:
    """Run a task in an empty folder: its lines, whether it works, and where it does not, why."""
    found: dict[str, Any] = {"lines": lines_of(function), "works": True}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            function(Path(folder))
        except Exception as error:  # noqa: BLE001 - whatever another library raises is the finding
            traceback.print_exc()
            said = " ".join(str(error).split()) or "a check failed"
            found |= {"works": False, "error": f"{type(error).__name__}: {said}"[:300]}
    return found


def run(library: str, only: list[str]) -> dict[str, Any]:
    """Every task of a library, with the versions that were used."""
    module = importlib.import_module(f"benchmarks.tasks.with_{library}")
    found: dict[str, Any] = {}
    for name in only or TASKS:
        if function := getattr(module, name, None):
            found[name] = tried(function)
            print(f"{library:<11} {name:<11} {found[name]}", flush=True)
    own = {"resteutils": getattr(sys.modules.get("resteutils"), "__version__", "")}  # of the checkout, installed or not
    versions = {name: own.get(name) or metadata.version(name) for name in module.PACKAGES}
    return {"python": platform.python_version(), "versions": versions, "tasks": found}


def table(results: dict[str, dict[str, Any]]) -> str:
    """The Markdown table of what was run."""
    rows = [f"| task | {' | '.join(results)} |", f"| --- |{' --- |' * len(results)}"]
    for name, said in TASKS.items():
        cells = []
        for found in results.values():
            task = found["tasks"].get(name)
            cells.append("-" if task is None else f"{task['lines']}{'' if task['works'] else ', fails'}")
        rows.append(f"| {said} | {' | '.join(cells)} |")
    versions = "; ".join(", ".join(f"{k} {v}" for k, v in each["versions"].items()) for each in results.values())
    pythons = ", ".join(sorted({each["python"] for each in results.values()}))
    fails = [
        f"* {library}, {TASKS[name]}: `{task['error']}`"
        for library, each in results.items()
        for name, task in each["tasks"].items()
        if not task["works"]
    ]
    return "\n".join([*rows, "", f"Python {pythons}; {versions}.", *([""] if fails else []), *fails])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks", description=__doc__)
    parser.add_argument("library", nargs="?", choices=LIBRARIES)
    parser.add_argument("only", nargs="*", help="tasks; all when none is named")
    parser.add_argument("--results", default="results", type=Path, help="the results folder")
    parser.add_argument("--table", action="store_true", help="write the table into docs/other-libraries.md")
    asked = parser.parse_args()
    folder = asked.results / "bench" / "tasks"
    if asked.library:
        file = folder / f"{asked.library}.json"
        folder.mkdir(parents=True, exist_ok=True)
        found = run(asked.library, asked.only)
        if asked.only and file.is_file():
            found["tasks"] = json.loads(file.read_text(encoding="utf-8"))["tasks"] | found["tasks"]
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if asked.table:
        from resteutils.evidence.markers import replaced  # here: larq's environment has no torch

        page = Path("docs/other-libraries.md")
        made = {"tasks": table(measured(folder))}
        page.write_text(replaced(page.read_text(encoding="utf-8"), made), encoding="utf-8")


def measured(folder: Path) -> dict[str, dict[str, Any]]:
    """What was run of each library, in the order of the table."""
    files = {library: folder / f"{library}.json" for library in LIBRARIES}
    return {library: json.loads(file.read_text(encoding="utf-8")) for library, file in files.items() if file.is_file()}


if __name__ == "__main__":
    main()
