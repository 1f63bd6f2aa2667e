"""The table of tasks beside other libraries: what counts as a line, and that the page shows what was run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from benchmarks.tasks import LIBRARIES, TASKS, needing
from benchmarks.tasks import __main__ as tasks
from resteutils.evidence.markers import blocks


def helper(x: int) -> int:
    """Is counted with what needs it."""
    return x + 1


@needing.needs("helper")
def example(folder: Path) -> None:
    """A docstring is no line."""
    made = helper(
        1,
    )
    for _ in range(2):
        made += 1
        assert made > 1
    assert made == 4, "a check is no line"


def test_lines_are_those_that_a_user_writes() -> None:
    assert tasks.lines_of(example) == 5


def test_a_task_that_fails_says_why() -> None:
    def fails(folder: Path) -> None:
        (folder / "file").touch()
        raise OSError("no such\nthing")

    assert tasks.tried(fails) == {"lines": 2, "works": False, "error": "OSError: no such thing"}


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_library_has_functions_of_the_tasks_only(library: str, root: Path) -> None:
    source = (root / "benchmarks" / "tasks" / f"with_{library}.py").read_text(encoding="utf-8")
    functions = [each for each in ast.parse(source).body if isinstance(each, ast.FunctionDef)]
    tried = {each.name for each in functions if [argument.arg for argument in each.args.args] == ["folder"]}
    assert tried and tried == {each.name for each in functions} & set(TASKS)


def test_the_page_shows_what_was_run(root: Path) -> None:
    """Else: ``python -m benchmarks.tasks --table``."""
    page = (root / "docs" / "other-libraries.md").read_text(encoding="utf-8")
    assert blocks(page)["tasks"].strip() == tasks.table(tasks.measured(root / "results" / "bench" / "tasks"))


def test_this_package_s_functions_are_those_that_were_counted(root: Path) -> None:
    """A function that changed was not run: ``python -m benchmarks.tasks resteutils``."""
    from benchmarks.tasks import with_resteutils

    counted = tasks.measured(root / "results" / "bench" / "tasks")["resteutils"]["tasks"]
    lines = {name: tasks.lines_of(function) for name in TASKS if (function := getattr(with_resteutils, name, None))}
    assert lines == {name: task["lines"] for name, task in counted.items()}
    assert all(task["works"] for task in counted.values())


CHEAP = ("layer", "depthwise", "estimator", "anneal", "resume", "autocast", "packed", "bits", "types")


@pytest.mark.parametrize("name", CHEAP)
def test_the_cheap_tasks_still_work(name: str, tmp_path: Path) -> None:
    from benchmarks.tasks import with_resteutils

    getattr(with_resteutils, name)(tmp_path)


def test_a_checkpoint_that_is_not_loaded_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The float network differs from what its seed gives, so that the way there and back counts."""
    from torch import nn

    from benchmarks.tasks import with_resteutils

    with_resteutils.checkpoint(tmp_path)
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda self, state, *args, **options: None)
    with pytest.raises(AssertionError):
        with_resteutils.checkpoint(tmp_path)
