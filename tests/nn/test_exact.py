"""Convolutions of signs are integers, and an algorithm of which that is not true is found."""

from __future__ import annotations

import pytest
import torch

from resteutils.nn import exact

CPU = torch.device("cpu")
SHAPES = [
    ((3, 16, 9, 9), (8, 16, 3, 3), (2, 2), (1, 1), (1, 1), 1),
    ((2, 8, 11), (4, 2, 5), (1,), (2,), (2,), 4),
]


def like_winograd(x: torch.Tensor, *rest) -> torch.Tensor:
    """Sums that went through fractions, as F(4x4)'s, and are that much beside an integer."""
    return PLAIN(x, *rest) + (0.0 if x.dtype == torch.float64 else 1e-6)


PLAIN = exact.convolve


@pytest.mark.parametrize("call", SHAPES, ids=["2d", "1d"])
def test_signs_convolve_to_integers(call: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    assert exact.integral(*call, CPU)
    monkeypatch.setattr(exact, "convolve", like_winograd)
    assert not exact.integral(*call, CPU)


def test_integers_that_are_wrong_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As from sums kept in too few bits."""
    monkeypatch.setattr(exact, "convolve", lambda x, *rest: PLAIN(x, *rest) + 2 * (x.dtype == torch.float32))
    assert not exact.integral(*SHAPES[0], CPU)


def test_the_operation_for_compilers_knows_its_shape_and_layout() -> None:
    from torch._subclasses import FakeTensorMode

    x = torch.ones(2, 4, 9, 9).to(memory_format=torch.channels_last)
    with FakeTensorMode() as mode:
        fake, kernel = mode.from_tensor(x), mode.from_tensor(torch.ones(6, 4, 3, 3))
        out = torch.ops.resteutils.convolve_signs(fake, kernel, (2, 2), (1, 1), (1, 1), 1)
    assert out.shape == (2, 6, 5, 5)
    assert out.is_contiguous(memory_format=torch.channels_last)
