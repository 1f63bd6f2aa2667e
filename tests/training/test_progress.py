"""How a long run shows that it is alive."""

from __future__ import annotations

import sys

import pytest

from resteutils.training.progress import watched


def test_nobody_watches_an_error_output_that_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", None)
    assert watched() == ""
