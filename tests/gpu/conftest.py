"""One built runtime for all tests of GPU paths."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.fake_gpu import built


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built runtime; skips, with the reason, where this machine or this torch cannot load it."""
    return built(tmp_path_factory.mktemp("fakecuda"))
