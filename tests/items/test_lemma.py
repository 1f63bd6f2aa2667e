"""The lemma: the error goes to zero, but for what the chord leaves."""

from __future__ import annotations

import math

import pytest
import torch

from resteutils.items import lemma


def test_the_lemma_holds_and_its_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lemma.judge(lemma.distances(), "smoke").status == "supported"
    monkeypatch.setattr(lemma, "POWERS", (3, 1))  # the wrong way round
    assert lemma.violation()[0] > 0.1
    assert lemma.judge(lemma.distances(), "smoke").status == "contradicted"


def test_what_the_chord_leaves_of_small_weights() -> None:
    z = torch.tensor([0.0, 0.05, -0.05, 0.2], dtype=torch.float64)
    assert lemma.limit(z) == pytest.approx(math.sqrt((1 + 0.25 + 0.25) / 4))
    assert lemma.distance(z, 1e7, truncated=True) == pytest.approx(lemma.limit(z), abs=1e-5)
