"""Every notebook of an item runs headlessly in the smoke profile, and is thin: it names, draws and judges."""

from __future__ import annotations

import ast
import csv
import json
import re
from html import unescape
from pathlib import Path

import pytest

from resteutils.recipes import ITEMS
from resteutils.results.reproduce import ReproductionError, notebook_of, reproduce

PARAMETERS = ["profile", "rows", "seeds", "epochs", "device", "data_dir", "runs_dir", "results_dir", "out_dir"]
SKELETON = ["Provenance", "Verdict", "What would change this"]
# A row of each kind is enough to run every line of these; the other items have few rows or none.
ROWS = {
    "table1": "resnet20-1w1a,resnet20-1w1a-ste,resnet20-fp,resnet20-1w32a,resnet20-bireal-1w1a,vgg-small-1w1a",
    "table2": "resnet18-1w1a,resnet18-1w32a",
    "table3": "ste,ste-identity,ede,reste,reste-weights,reste-standardised",
    "why": "ste,reste-o1,ste-gain,ste-gain-clip,reste,reste-before,reste-adam",
    "figure4": "resnet20-o1,resnet20-o3,resnet20-o10,resnet18-o3,vgg-small-o3",
}
PRESENT = [
    item for item in ITEMS if (Path(__file__).parents[2] / "notebooks" / f"{ITEMS[item].notebook}.ipynb").is_file()
]


def cells(item: str, kind: str) -> list[str]:
    notebook = json.loads(notebook_of(item).read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def code_of(item: str) -> ast.Module:
    return ast.parse("\n".join(cells(item, "code")))


@pytest.fixture(scope="module")
def shared_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Items share their runs, here as everywhere."""
    return tmp_path_factory.mktemp("runs")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("item", PRESENT)
def test_it_runs_in_the_smoke_profile(item: str, shared_runs: Path, results_dir: Path) -> None:
    folder = reproduce(item, profile="smoke", rows=ROWS.get(item, ""), runs_dir=str(shared_runs))
    names = {path.name for path in folder.iterdir()}
    assert {"notebook.ipynb", "notebook.html", "provenance.json", "verdict.json"} <= names
    assert "picture.png" in names or "table.csv" in names
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    made = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert verdict["profile"] == made["profile"] == "smoke"
    trained = [check for check in verdict["checks"] if check["kind"] != "formula"]
    assert {check["status"] for check in trained} <= {"not claimed"}
    rows = ROWS.get(item, "").split(",") if item in ROWS else list(ITEMS[item].rows)
    if item.startswith("table"):
        assert sorted({run["row"] for run in made["runs"]}) == sorted(rows)
    assert "Profile smoke. " in made["caption"], "profile, dataset, epochs and n stand under every table and picture"
    assert made["caption"] in unescape((folder / "notebook.html").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_overrides_reach_the_runs_and_are_said(shared_runs: Path, results_dir: Path) -> None:
    folder = reproduce("table3", "smoke", rows="ste", runs_dir=str(shared_runs), overrides="lr=0.05,accumulate=2")
    said = "Every run with accumulate = 2, lr = 0.05."
    assert said in (folder / "table.md").read_text()
    assert said in json.loads((folder / "verdict.json").read_text())["text"]
    with pytest.raises(ReproductionError, match="by another recipe, which these overrides would replace"):
        reproduce("table3", "smoke", rows="ste", runs_dir=str(shared_runs), overrides="lr=0.1")


@pytest.mark.parametrize("item", PRESENT)
def test_it_has_the_skeleton(item: str) -> None:
    text = cells(item, "markdown")
    assert text[0].startswith("# ")
    assert "**Claim**" in text[0]
    assert "**Source**" in text[0]
    headings = [line.removeprefix("## ") for part in text for line in part.splitlines() if line.startswith("## ")]
    assert [heading for heading in headings if heading in SKELETON] == SKELETON
    assert headings[-1] == "What would change this"


@pytest.mark.parametrize("item", PRESENT)
def test_it_takes_the_common_parameters(item: str) -> None:
    import papermill

    found = papermill.inspect_notebook(str(notebook_of(item)))
    assert list(found)[: len(PARAMETERS)] == PARAMETERS
    assert all(parameter["help"] for parameter in found.values())
    assert {parameter["inferred_type_name"] for parameter in found.values()} <= {"str", "int", "float", "bool"}


@pytest.mark.parametrize("item", PRESENT)
def test_it_is_thin(item: str) -> None:
    """No loop, no function, no formula: what needs one belongs to the package, where it is tested."""
    tree = code_of(item)
    thick = (ast.For, ast.While, ast.FunctionDef, ast.Lambda, ast.ClassDef, ast.ListComp, ast.DictComp, ast.SetComp,
             ast.GeneratorExp, ast.Try)  # fmt: skip
    assert not [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, thick)]
    assert not [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.BinOp)]
    assert all(len(cell.splitlines()) <= 15 for cell in cells(item, "code"))


@pytest.mark.parametrize("item", PRESENT)
def test_it_repeats_no_published_number(item: str, root: Path) -> None:
    with (root / "resteutils" / "evidence" / "paper.csv").open(encoding="utf-8") as file:
        values = {line["value"] for line in csv.DictReader(file)}
    published = {value for value in values if re.fullmatch(r"\d+\.\d+|\d{3,}", value)} - {"0.1", "1.5"}
    text = "\n".join(cells(item, "markdown") + cells(item, "code"))
    assert not published & set(re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w-])", text))
