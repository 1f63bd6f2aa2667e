"""Figures 1 and 3: the curves, and what is said of them."""

from __future__ import annotations

import pytest
import torch

from resteutils import curves


def test_figure_1_and_3_hold() -> None:
    assert {c.status for c in curves.figure1_verdict("smoke").checks} == {"supported"}
    assert {c.status for c in curves.figure3_verdict("smoke").checks} == {"supported"}


def test_the_two_plateaus() -> None:
    z = torch.tensor([0.0, 0.03, 0.05, 0.1, 0.5, 1.6], dtype=torch.float64)
    trained, drawn = curves.as_trained().derivative(z), curves.drawn_derivative(z)
    assert trained[:4].tolist() == pytest.approx([0.1 ** (-2 / 3)] * 4)
    assert drawn[:3].tolist() == pytest.approx([0.05 ** (-2 / 3) / 3] * 3)
    assert drawn[3] == pytest.approx(0.1 ** (-2 / 3) / 3)
    assert trained[4:].tolist() == drawn[4:].tolist()
