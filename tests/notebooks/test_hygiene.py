"""Notebooks are kept as sources: no outputs, the portable kernel, readable parameters, no shell, no paths, no keys."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
# A parameter as papermill's inspector understands it: name: type = literal  # help
PARAMETER = re.compile(r"[a-z_]+: (int|float|str|bool) = \S.*?(  # \S.*)?")
ABSOLUTE = re.compile(r"(?<![\w.:/])/(home|root|Users|work|tmp|mnt)/|[A-Z]:\\\\")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def notebook(request: pytest.FixtureRequest) -> dict:
    return json.loads(request.param.read_text(encoding="utf-8"))


def code(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


def test_no_outputs_and_no_counts(notebook: dict) -> None:
    for cell in code(notebook):
        assert cell["outputs"] == [], (
            f"outputs are committed in: {''.join(cell['source'])[:60]!r}; make format removes them"
        )
        assert cell["execution_count"] is None
    assert "widgets" not in notebook["metadata"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_saving_it_without_running_it_changes_nothing(path: Path) -> None:
    """JupyterLab writes a notebook by nbformat: keys in order, one space of indent, a newline at the end."""
    text = path.read_text(encoding="utf-8")
    assert nbformat.writes(nbformat.reads(text, as_version=4)) + "\n" == text, "save it once in JupyterLab"


def test_the_kernel_is_the_portable_one(notebook: dict) -> None:
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["nbformat"] == 4


def test_one_parameters_cell_that_papermill_reads(notebook: dict) -> None:
    tagged = [cell for cell in code(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1, "exactly one code cell carries the tag `parameters`"
    lines = [line for line in "".join(tagged[0]["source"]).splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        assert PARAMETER.fullmatch(line), f"papermill cannot read this parameter: {line!r}"


def test_the_first_call_gets_every_parameter_and_refuses_those_it_does_not_know(notebook: dict) -> None:
    """A misspelt one would else leave the default in force, whoever runs the notebook: papermill, Voila, nbconvert."""
    first = next(cell for cell in code(notebook) if "parameters" not in cell["metadata"].get("tags", []))
    takes = r"(ru\.Item\(\"\w+\", |Explorer\()\*\*ru\.parameters\(globals\(\)\)\)|^ru\.parameters\(globals\(\), known="
    assert re.search(takes, "".join(first["source"]), re.MULTILINE)


@pytest.mark.slow
def test_papermill_s_numbers_are_taken_for_text_and_a_misspelt_name_is_refused(tmp_path: Path) -> None:
    import papermill

    source = next(path for path in NOTEBOOKS if path.stem == "lemma_estimating_error")
    made = nbformat.read(source, as_version=4)
    first = next(i for i, cell in enumerate(made.cells) if "ru.Item(" in cell.source)
    # the second begins as a new kernel would, without an item: else what later cells leave is no parameter
    more = ["print(item.profile, item.seeds)", f"del item\nprofil = 'smoke'\n{made.cells[first].source}"]
    made.cells = [*made.cells[: first + 1], *map(nbformat.v4.new_code_cell, more)]
    nbformat.write(made, tmp_path / "in.ipynb")
    given, out = {"profile": "smoke", "seeds": 0}, tmp_path / "out.ipynb"
    with pytest.raises(papermill.PapermillExecutionError, match="unknown parameter 'profil': did you mean profile"):
        papermill.execute_notebook(tmp_path / "in.ipynb", out, given, kernel_name="python3", progress_bar=False)
    outputs = [output for cell in code(nbformat.read(out, as_version=4)) for output in cell["outputs"]]
    assert "smoke (0,)\n" in [output.get("text") for output in outputs]


def test_no_installs_no_shell_no_absolute_paths_no_keys(notebook: dict) -> None:
    for cell in code(notebook):
        source = "".join(cell["source"])
        assert not re.search(r"^\s*[!%]{1,2}(?!matplotlib\b|config\b)", source, re.MULTILINE), source
        assert not ABSOLUTE.search(source), source
        assert not re.search(r"(api[_-]?key|token|password)\s*=\s*[\"']\w", source, re.IGNORECASE), source
