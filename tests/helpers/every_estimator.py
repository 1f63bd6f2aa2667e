"""What the tests of estimators share: one of every kind, and numbers to give them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import strategies as st

import resteutils as ru

INF, NAN = math.inf, math.nan

EVERY = [
    ru.ReSTE(),
    ru.ReSTE(o=1),
    ru.ReSTE(o=1.7, t=1.0, m=0.05),
    ru.STE(),
    ru.STE(clip=INF),
    ru.GainSTE(),
    ru.ApproxSign(),
    ru.DSQ(),
    ru.DSQ(alpha=0.05, l=-0.5, u=0.75),
    ru.EDE(),
    ru.EDE(t=0.5),
    ru.FDA(),
    ru.FDA(n=9),
    ru.RBNN(),
    ru.RBNN(t=0.5),
    ru.RBNN(t=0.5, floor=1.0),
    ru.SwishSign(),
    ru.SwishSign(beta=2),
]
every = pytest.mark.parametrize("e", EVERY, ids=repr)

powers = st.floats(1.0, 50.0)
numbers = st.floats(-4.0, 4.0)


def float64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)
