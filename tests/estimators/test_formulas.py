"""Every estimator against tables, and against autograd of surrogates written independently from the formulas."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.every_estimator import EVERY, INF, NAN, every, float64

import resteutils as ru

# o: plateau, just outside m, at t; m = 0.1, t = 1.5
TABLE = {
    1: (1.000, 1.000, 1.000),
    1.5: (2.154, 1.436, 0.582),
    2: (3.162, 1.581, 0.408),
    3: (4.642, 1.547, 0.254),
    5: (6.310, 1.262, 0.145),
    10: (7.943, 0.794, 0.069),
}


@pytest.mark.parametrize("o", TABLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_reste_derivative_table(o: float, dtype: torch.dtype) -> None:
    e = ru.ReSTE(o=o)
    m, t, up = torch.tensor(0.1, dtype=dtype), torch.tensor(1.5, dtype=dtype), torch.tensor(INF, dtype=dtype)
    plateau, outside, at_t = TABLE[o]
    expected = [
        (torch.zeros_like(m), plateau),
        (torch.tensor(-0.0, dtype=dtype), plateau),
        (m / 2, plateau),
        (m, plateau),  # closed at m
        (torch.nextafter(m, up), outside),
        (t, at_t),  # closed at t
        (torch.nextafter(t, up), 0.0),
        (up, 0.0),
    ]
    for z, value in expected:
        for signed in (z, -z):
            assert e.derivative(signed).item() == pytest.approx(value, abs=5.1e-4), (o, signed)
    assert e.derivative(torch.tensor(NAN, dtype=dtype)).isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_interval_is_closed_at_m_as_the_dtype_rounds_it(dtype: torch.dtype) -> None:
    m = torch.tensor(0.1, dtype=dtype)
    assert ru.ReSTE().derivative(m).item() == pytest.approx(4.642, rel=4e-3)
    assert ru.ReSTE().derivative(m * 1.02).item() == pytest.approx(1.52, rel=2e-2)


@pytest.mark.parametrize("o", TABLE)
def test_reste_gain_at_m_is_o(o: float) -> None:
    """The chord is o times steeper than the curve where they meet."""
    z = float64(0.1, math.nextafter(0.1, 1))
    inside, outside = ru.ReSTE(o=o).derivative(z).tolist()
    assert inside / outside == pytest.approx(o)


@pytest.mark.parametrize("o", TABLE)
def test_reste_surrogate_is_chord_power_then_sign(o: float) -> None:
    z = float64(0.0, 0.05, 0.1, 0.5, 1.0, 1.5, math.nextafter(1.5, 2), 7.0)
    root = 1 / o
    expected = float64(0.0, 0.05 * 0.1**root / 0.1, 0.1**root, 0.5**root, 1.0, 1.5**root, 1.0, 1.0)
    torch.testing.assert_close(ru.ReSTE(o=o).surrogate(z), expected)
    torch.testing.assert_close(ru.ReSTE(o=o).surrogate(-z), -expected)
    assert ru.ReSTE(o=o).surrogate(float64(NAN)).isnan()


@pytest.mark.parametrize("o", [1e6, 1e50, 1e300])
def test_a_power_beyond_all_measure_is_sign_with_a_chord_and_hides_no_nan(o: float) -> None:
    """1/o is 0 in float32, and NaN ** 0 = 1."""
    z, e = torch.tensor([NAN, 0.0, 0.05, 0.2, -1.5]), ru.ReSTE(o=o)
    expected = {
        "surrogate": [NAN, 0.0, 0.5, 1.0, -1.0],
        "untruncated": [NAN, 0.0, 1.0, 1.0, -1.0],
        "derivative": [NAN, 10.0, 10.0, 0.0, 0.0],
    }
    for function, values in expected.items():
        found = getattr(e, function)(z)
        torch.testing.assert_close(found, torch.tensor(values), rtol=1e-3, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize(("o", "at_infinity"), [(1, 1.0), (3, 0.0)])
def test_without_saturation_the_derivative_is_still_a_number_at_infinity(o: float, at_infinity: float) -> None:
    z = torch.tensor([INF, -INF, 1e30, NAN])
    found = ru.ReSTE(o=o, t=INF).derivative(z)
    torch.testing.assert_close(found, torch.tensor([at_infinity] * 3 + [NAN]), rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("o", TABLE)
def test_reste_untruncated_has_neither_chord_nor_cut(o: float) -> None:
    z = float64(-3.0, -0.01, 0.0, 0.01, 3.0)
    expected = float64(-(3 ** (1 / o)), -(0.01 ** (1 / o)), 0.0, 0.01 ** (1 / o), 3 ** (1 / o))
    torch.testing.assert_close(ru.ReSTE(o=o).untruncated(z), expected)


def reste(z, e):
    size = z.abs()
    chord = size * (e.m ** (1 / e.o) / e.m)
    curve = torch.where(size <= e.m, chord, size.clamp(min=e.m).pow(1 / e.o))
    return torch.sgn(z) * torch.where(size <= e.t, curve, torch.ones_like(z))


def fda(z, e):
    inside = z.clamp(-1, 1)
    return sum(4 / math.pi / (2 * i + 1) * torch.sin((2 * i + 1) * e.w * inside) for i in range(e.n + 1))


def dsq(z, e):
    k, centre = math.log(2 / e.alpha - 1) / (e.u - e.l), (e.u + e.l) / 2
    inside = torch.tanh(k * (z - centre)) / (1 - e.alpha)
    return torch.where((z >= e.l) & (z <= e.u), inside, torch.sgn(z - centre))


def rbnn(z, e):
    t = max(e.t, e.floor)
    k = max(1 / t, 1)
    curve = 2**0.5 * t * z - torch.sgn(z) * t**2 * z**2 / 2
    return k * torch.where(z.abs() < 2**0.5 / t, curve, torch.sgn(z))


# Written from the formulas of paper.md sections 1 and 4, one expression each, to be differentiated by autograd.
SURROGATES = {
    "reste": reste,
    "ste": lambda z, e: z.clamp(-e.clip, e.clip),
    "ste_gain": lambda z, e: e.m ** (1 / e.o - 1) * z.clamp(-e.t, e.t),
    "approx_sign": lambda z, e: torch.where(z.abs() < 1, 2 * z - torch.sgn(z) * z**2, torch.sgn(z)),
    "dsq": dsq,
    "ede": lambda z, e: max(1 / e.t, 1) * torch.tanh(e.t * z),
    "fda": fda,
    "rbnn": rbnn,
    "swish_sign": lambda z, e: 2 * torch.sigmoid(e.beta * z) * (1 + e.beta * z * (1 - torch.sigmoid(e.beta * z))) - 1,
}


def test_every_registered_estimator_is_tested() -> None:
    assert set(SURROGATES) == set(ru.ESTIMATORS) == {e.name for e in EVERY}


@every
def test_derivative_is_autograd_of_an_independent_surrogate(e) -> None:
    z = torch.linspace(-2.03, 2.03, 2001, dtype=torch.float64, requires_grad=True)  # misses kinks and edges
    f = SURROGATES[e.name](z, e)
    (gradient,) = torch.autograd.grad(f.sum(), z)
    torch.testing.assert_close(e.surrogate(z.detach()), f.detach())
    torch.testing.assert_close(e.derivative(z.detach()), gradient, rtol=1e-9, atol=1e-12)


@every
def test_untruncated_agrees_with_the_surrogate_where_nothing_is_truncated(e) -> None:
    z = torch.linspace(-0.45, 0.7, 200, dtype=torch.float64)
    z = z[z.abs() > 0.11]
    torch.testing.assert_close(e.untruncated(z), e.surrogate(z))


@pytest.mark.parametrize(
    ("e", "z", "slope", "tolerance"),
    [
        (ru.DSQ(alpha=0.5), 0.0, 1.10, 5e-3),
        (ru.DSQ(alpha=0.5), 1.0, 0.82, 5e-3),
        (ru.DSQ(alpha=0.2), 0.0, 1.37, 5e-3),
        (ru.DSQ(alpha=0.2), 1.0, 0.49, 5e-3),
        (ru.DSQ(alpha=0.1), 0.0, 1.64, 5e-3),
        (ru.DSQ(alpha=0.1), 1.0, 0.31, 5e-3),
        (ru.DSQ(alpha=0.01), 0.0, 2.67, 5e-3),
        (ru.DSQ(alpha=0.01), 1.0, 0.05, 5e-3),
        (ru.EDE(t=0.5), 0.0, 1.0, 1e-9),
        (ru.EDE(t=10), 0.0, 10.0, 1e-9),
        (ru.EDE(t=10), 1.0, 8e-8, 5e-9),
        (ru.FDA(n=9), 0.0, 1.27, 5e-3),
        (ru.FDA(n=18), 0.0, 2.42, 5e-3),
        (ru.FDA(n=9), 1.0, 0.58, 5e-3),
        (ru.FDA(n=18), 1.0, -0.39, 5e-3),
        (ru.RBNN(t=0.3), 0.0, math.sqrt(2), 1e-9),
        (ru.RBNN(t=1), 0.0, math.sqrt(2), 1e-9),
        (ru.RBNN(t=10), 0.0, 14.1, 5e-2),
        (ru.RBNN(t=10), 0.1415, 0.0, 1e-9),
        (ru.ApproxSign(), 0.0, 2.0, 0),
        (ru.ApproxSign(), 1.0, 0.0, 0),
        (ru.SwishSign(), 0.0, 5.0, 1e-9),
    ],
    ids=str,
)
def test_published_slopes(e, z: float, slope: float, tolerance: float) -> None:
    assert e.derivative(float64(z)).item() == pytest.approx(slope, abs=tolerance)


@pytest.mark.parametrize(("n", "edge"), [(15, None), (17, 0.873), (18, 0.827)])
def test_fda_turns_negative_inside_its_interval(n: int, edge: float | None) -> None:
    edge = edge or math.pi / (2 * (n + 1) * 0.1)
    z = float64(edge - 1e-3, edge + 1e-3, -edge - 1e-3)
    before, after, mirrored = ru.FDA(n=n).derivative(z).tolist()
    assert before > 0 > after == mirrored
    assert ru.FDA(n=14).derivative(torch.linspace(-1, 1, 999, dtype=torch.float64)).min() > 0
    assert ru.FDA(n=n).derivative(float64(1.0, math.nextafter(1, 2))).tolist()[1] == 0.0


@pytest.mark.parametrize("beta", [1, 5, 20])
def test_swish_sign_turns_negative_where_it_peaks(beta: float) -> None:
    e, edge = ru.SwishSign(beta=beta), 2.3994 / beta
    before, after = e.derivative(float64(edge * 0.999, edge * 1.001)).tolist()
    assert before > 0 > after
    assert e.surrogate(float64(edge)).item() == pytest.approx(1.200, abs=5e-4)


def test_rbnn_saturates_at_its_gain_and_its_activation_curve_is_held_at_one() -> None:
    start = ru.RBNN().at(0.0)
    assert start.surrogate(float64(1000.0)).item() == pytest.approx(100.0)
    activations = ru.RBNN(floor=1.0)
    grid = torch.linspace(-2, 2, 101, dtype=torch.float64)
    for progress in (0.0, 0.3, 2 / 3):  # t passes 1 at two thirds of the way from 0.01 to 10
        torch.testing.assert_close(activations.at(progress).derivative(grid), ru.RBNN(t=1).derivative(grid))
    assert activations.at(1.0).derivative(grid).equal(ru.RBNN().derivative(grid))
