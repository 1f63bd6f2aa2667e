"""Figures 1 and 3: the curves, and what is said of them."""

from __future__ import annotations

import pytest
import torch

from resteutils.items import figure1, figure3


def test_figure_1_and_3_hold() -> None:
    assert {c.status for c in figure1.judge("smoke").checks} == {"supported"}
    assert {c.status for c in figure3.judge("smoke").checks} == {"supported"}


def test_the_two_plateaus() -> None:
    z = torch.tensor([0.0, 0.03, 0.05, 0.1, 0.5, 1.6], dtype=torch.float64)
    trained, drawn = figure3.as_trained().derivative(z), figure3.drawn_derivative(z)
    assert trained[:4].tolist() == pytest.approx([0.1 ** (-2 / 3)] * 4)
    assert drawn[:3].tolist() == pytest.approx([0.05 ** (-2 / 3) / 3] * 3)
    assert drawn[3] == pytest.approx(0.1 ** (-2 / 3) / 3)
    assert trained[4:].tolist() == drawn[4:].tolist()
