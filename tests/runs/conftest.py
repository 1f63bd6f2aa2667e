"""A finished run, and copies of it to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.tiny import RECIPE

from resteutils.runs import store as module
from resteutils.runs.store import load_or_train


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders runs/ and results/ that hold one finished run."""
    home = tmp_path_factory.mktemp("made")
    load_or_train(RECIPE, home / "runs", "cpu", results_dir=home / "results", show=False)
    return home / "runs", home / "results"


@pytest.fixture
def folders(made, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of them to spoil."""
    for source, name in zip(made, ("runs", "results"), strict=True):
        shutil.copytree(source, tmp_path / name)
    return tmp_path / "runs", tmp_path / "results"


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever trains now fails."""

    def fail(*arguments, **options):
        raise AssertionError("this run was finished: nothing was to be trained")

    monkeypatch.setattr(module, "train", fail)
