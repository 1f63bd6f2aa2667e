"""docs/api.md is what the docstrings say."""

from __future__ import annotations

import re
from pathlib import Path

import resteutils as ru
from resteutils.results import api


def test_the_page_follows_the_docstrings(root: Path) -> None:
    """Else: ``python -m resteutils.results.api``."""
    written = (root / "docs" / "api.md").read_text(encoding="utf-8")
    assert written == api.page()
    assert sorted(re.findall(r"^### `ru\.(\w+)", written, re.MULTILINE)) == sorted(ru.__all__)


def test_every_public_name_says_what_it_is() -> None:
    undocumented = [name for name in ru.__all__ if name not in api.VALUES and not getattr(ru, name).__doc__]
    assert undocumented == []
