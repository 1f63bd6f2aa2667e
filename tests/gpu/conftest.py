"""One built runtime for all tests of GPU paths."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.fake_gpu import built

collect_ignore = ["compiled.py", "steps.py"]  # scripts of processes on the runtime


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Most of these tests take minutes together: `make test` runs the first two, `make test-gpu` all."""
    if not config.getoption("--fakecuda"):
        for item in items:
            if item.get_closest_marker("fakecuda"):
                item.add_marker(pytest.mark.skip(reason="`make test-gpu` runs it"))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built runtime; skips, with the reason, where this machine or this torch cannot load it."""
    return built(tmp_path_factory.mktemp("fakecuda"))
