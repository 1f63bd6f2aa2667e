"""Estimators against tables, against autograd of independently written surrogates, and against properties."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import resteutils as ru

INF, NAN = math.inf, math.nan
HALF_AND_MORE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

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

settings.register_profile("suite", deadline=None, max_examples=60)  # never time things in tests
settings.load_profile("suite")

powers = st.floats(1.0, 50.0)
numbers = st.floats(-4.0, 4.0)


def float64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- the formulas ----------------------------------------------------------------------------------------------------

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


# --- dtypes, shapes, numbers at the edge -----------------------------------------------------------------------------

FUNCTIONS = ("surrogate", "derivative", "untruncated")


@every
@pytest.mark.parametrize("dtype", HALF_AND_MORE, ids=str)
def test_finite_at_every_finite_number_and_nan_stays_nan(e, dtype: torch.dtype, device) -> None:
    tiny = torch.finfo(dtype).tiny
    z = torch.tensor([0.0, -0.0, tiny, -tiny / 4, 0.1, -0.1, 1.0, 1.5, -2.0, 60.0], dtype=dtype, device=device)
    infinite = torch.tensor([INF, -INF], dtype=dtype, device=device)
    for function in FUNCTIONS:
        values = getattr(e, function)(z)
        assert values.dtype == dtype
        assert values.device == z.device
        assert values.isfinite().all(), function
        assert getattr(e, function)(torch.full((2,), NAN, dtype=dtype, device=device)).isnan().all(), function
    assert e.derivative(infinite).isfinite().all()
    if e != ru.STE(clip=INF):
        assert e.surrogate(infinite).isfinite().all()


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_reduced_precision_agrees_with_double(e, dtype: torch.dtype, device) -> None:
    z = torch.linspace(-1.91, 1.93, 96, device=device).to(dtype)  # misses m and t, where f' jumps
    tolerance = {torch.float16: 1e-2, torch.bfloat16: 6e-2, torch.float32: 1e-5}[dtype]
    for function in ("surrogate", "derivative"):
        exact = getattr(e, function)(z.double())
        scale = exact.abs().max()
        assert ((getattr(e, function)(z).double() - exact).abs().max() / scale).item() < tolerance, function


@every
@pytest.mark.parametrize("shape", [(), (0,), (0, 3, 2), (1,), (2, 3, 4, 5)], ids=str)
def test_shape_is_kept(e, shape: tuple) -> None:
    z = torch.randn(shape)
    for function in FUNCTIONS:
        assert getattr(e, function)(z).shape == z.shape


@every
def test_strides_do_not_matter(e) -> None:
    z = torch.randn(2, 4, 6, 8)
    for view in (
        z.to(memory_format=torch.channels_last),
        z.transpose(0, 3),
        z[:, ::2, 1:, ::3],
        z[:1].expand(5, 4, 6, 8),
    ):
        for function in FUNCTIONS:
            torch.testing.assert_close(getattr(e, function)(view), getattr(e, function)(view.contiguous()))


@every
def test_the_argument_is_left_as_it_is(e) -> None:
    z = torch.linspace(-2, 2, 41)
    kept = z.clone()
    for function in FUNCTIONS:
        out = getattr(e, function)(z)
        out += 1  # the result is the caller's own
        assert z.equal(kept), function


@every
@pytest.mark.parametrize(
    "bad", [torch.ones(3, dtype=torch.int64), torch.ones(3, dtype=torch.bool), 0.5, [1.0]], ids=str
)
def test_only_floating_point_tensors(e, bad) -> None:
    for function in FUNCTIONS:
        with pytest.raises(TypeError, match=r"floating-point tensors, not a .*z\.float\(\)"):
            getattr(e, function)(bad)


@every
def test_slope_takes_its_coefficients_as_tensors(e) -> None:
    z = torch.linspace(-2.03, 2.03, 301, dtype=torch.float64)
    tensors = [torch.tensor(value, dtype=torch.float64) for value in e.coefficients()]
    torch.testing.assert_close(type(e).slope(z, *tensors), e.derivative(z))
    assert all(type(value) is float for value in e.coefficients())


@every
def test_a_derivative_under_vmap(e) -> None:
    z = torch.randn(3, 7)
    torch.testing.assert_close(torch.vmap(e.derivative)(z), e.derivative(z))


# --- properties ------------------------------------------------------------------------------------------------------


@given(o=powers, z=numbers)
def test_reste_derivative_is_even_non_negative_and_zero_beyond_t(o: float, z: float) -> None:
    e = ru.ReSTE(o=o)
    here, there = e.derivative(float64(z, -z)).tolist()
    assert here == there >= 0
    assert (here == 0) == (abs(z) > e.t)


@given(o=powers, z=numbers)
def test_reste_surrogate_is_odd_and_never_crosses_sign(o: float, z: float) -> None:
    here, there = ru.ReSTE(o=o).surrogate(float64(z, -z)).tolist()
    assert here == -there
    assert here * z >= 0


@given(o=powers, a=st.floats(0, 1.5), b=st.floats(0, 1.5))
def test_reste_surrogate_rises_up_to_t(o: float, a: float, b: float) -> None:
    low, high = ru.ReSTE(o=o).surrogate(float64(min(a, b), max(a, b))).tolist()
    assert low <= high + 1e-15


@given(z=st.lists(numbers, min_size=1, max_size=20), t=st.floats(0.2, 3.0))
def test_reste_at_o_1_is_a_straight_through_estimator_clipped_at_t(z: list[float], t: float) -> None:
    z = float64(*z)
    assert ru.ReSTE(o=1, t=t).derivative(z).equal(ru.STE(clip=t).derivative(z))
    inside = z[z.abs() <= t]
    torch.testing.assert_close(ru.ReSTE(o=1, t=t).surrogate(inside), inside)


@given(z=st.floats(1e-3, 1.5))
def test_reste_goes_to_sign_as_o_grows(z: float) -> None:
    # Outside the chord: |z|^(1/o) -> 1. The chord reaches from 0 to m, so m must go with it.
    values = [ru.ReSTE(o=o, m=1e-4).surrogate(float64(z)).item() for o in (1, 10, 1e3, 1e6)]
    distances = [abs(1 - value) for value in values]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-4


@given(z=st.lists(st.floats(-3, 3), min_size=1, max_size=30), o1=powers, o2=powers)
def test_lemma_the_estimating_error_falls_as_o_grows(z: list[float], o1: float, o2: float) -> None:
    """Lemma 3.1, stated for f without truncations."""
    z = float64(*z)
    larger, smaller = (
        torch.linalg.vector_norm(torch.sign(z) - ru.ReSTE(o=o).untruncated(z)) for o in (max(o1, o2), min(o1, o2))
    )
    assert larger <= smaller + 1e-12


@pytest.mark.parametrize("o", [1, 1.5, 3, 10])
@pytest.mark.parametrize("progress", [0, 0.3, 1])
def test_reste_is_rational_with_its_truncations(o: float, progress: float) -> None:
    """Its error is never above that of the straight-through estimator: (1 - f)^2 <= (1 - z)^2 for z > 0."""
    z = torch.linspace(1e-3, 2, 4000, dtype=torch.float64)
    error = (1 - ru.ReSTE(o=o).at(progress).surrogate(z)) ** 2
    assert (error <= (1 - z) ** 2 + 1e-12).all()


@pytest.mark.parametrize(
    ("e", "rational"),
    [(ru.ApproxSign(), True), (ru.EDE(t=0.1), False), (ru.EDE(t=1), False), (ru.EDE(t=10), True),
     (ru.RBNN(t=0.1), False), (ru.RBNN(t=1), False), (ru.RBNN(t=10), True), (ru.FDA(n=9), False),
     (ru.FDA(n=18), False), (ru.DSQ(alpha=0.2), True)],
    ids=str,
)  # fmt: skip
def test_which_rivals_are_rational(e, rational: bool) -> None:
    """The grid check of paper.md section 4, truncations included. FDA's excess near 1 is inside its interval."""
    z = torch.linspace(1e-3, 2, 4000, dtype=torch.float64)
    assert bool(((1 - e.surrogate(z)) ** 2 <= (1 - z) ** 2 + 1e-9).all()) == rational


# --- paths -----------------------------------------------------------------------------------------------------------

# share of training: cosine to 3, linear to 3, cosine to 10, linear to 10
PATH = {
    0: (1.000, 1.0, 1.00, 1.0),
    0.25: (1.152, 1.5, 1.69, 3.25),
    0.5: (1.586, 2.0, 3.64, 5.5),
    0.6: (1.824, 2.2, 4.71, 6.4),
    0.7: (2.092, 2.4, 5.91, 7.3),
    0.75: (2.235, 2.5, 6.56, 7.75),
    0.999: (2.997, 2.998, 9.99, 9.99),
}


@pytest.mark.parametrize("progress", PATH)
def test_path_of_o(progress: float) -> None:
    columns = [("cosine", 3, 5.1e-4), ("linear", 3, 5.1e-4), ("cosine", 10, 5.1e-3), ("linear", 10, 5.1e-3)]
    for (path, o, tolerance), expected in zip(columns, PATH[progress], strict=True):
        assert ru.ReSTE(o=o, path=path).at(progress).o == pytest.approx(expected, abs=tolerance)
    assert ru.GainSTE(o=3).at(progress).o == ru.ReSTE(o=3).at(progress).o


def test_path_of_o_in_the_last_of_1000_epochs() -> None:
    assert ru.ReSTE(o=3).at(999 / 1000).o == pytest.approx(2.99686, abs=5e-6)


def test_paths_of_the_rivals() -> None:
    assert ru.EDE().at(0.0).t == 1e-3
    assert ru.EDE(t_min=0.1).at(0.5).t == pytest.approx(1.0)
    assert ru.RBNN().at(1 / 3).t == pytest.approx(0.1)
    assert [ru.FDA().at(i / 10).n for i in range(11)] == [9, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]
    for still in (ru.STE(), ru.ApproxSign(), ru.DSQ(), ru.SwishSign()):
        assert still.at(0.3) == still


@given(o=st.floats(1.0, 1e6), path=st.sampled_from(["cosine", "linear"]))
def test_the_path_ends_at_the_estimator_itself(o: float, path: str) -> None:
    for e in (ru.ReSTE(o=o, path=path), ru.GainSTE(o=o)):
        assert e.at(1.0) == e
        assert e.at(1) == e
        assert e.at(0.0).o == 1.0


@given(t=st.floats(1e-3, 1e3), first=st.floats(1e-3, 1e3), n=st.integers(0, 40), n_min=st.integers(0, 40))
def test_the_path_of_the_rivals_ends_at_them_too(t: float, first: float, n: int, n_min: int) -> None:
    for e in (ru.EDE(t=t, t_min=first), ru.RBNN(t=t, t_min=first), ru.FDA(n=n, n_min=n_min)):
        assert e.at(1.0) == e


@given(o=st.floats(1.0, 100.0), a=st.floats(0, 1), b=st.floats(0, 1), path=st.sampled_from(["cosine", "linear"]))
def test_the_power_never_falls_and_stays_between_its_ends(o: float, a: float, b: float, path: str) -> None:
    e = ru.ReSTE(o=o, path=path)
    first, second = e.at(min(a, b)).o, e.at(max(a, b)).o
    assert 1.0 <= first <= second <= o * (1 + 1e-15)


@every
@pytest.mark.parametrize("progress", [-1e-9, 1.0000001, NAN, INF, -INF])
def test_progress_out_of_range(e, progress: float) -> None:
    with pytest.raises(ValueError, match=r"progress = .*share of training in \[0, 1\]"):
        e.at(progress)


# --- building, naming, refusing --------------------------------------------------------------------------------------

BAD = [
    ("reste", "o", 0.999),
    ("reste", "o", 0),
    ("reste", "o", -3),
    ("reste", "o", NAN),
    ("reste", "o", INF),
    ("reste", "o", "3"),
    ("reste", "o", None),
    ("reste", "o", True),
    ("reste", "m", 0),
    ("reste", "m", 1.5),
    ("reste", "m", 2),
    ("reste", "m", NAN),
    ("reste", "m", -0.1),
    ("reste", "t", 0.1),
    ("reste", "t", -1),
    ("reste", "t", NAN),
    ("reste", "path", "quadratic"),
    ("ste", "clip", 0),
    ("ste", "clip", -1),
    ("ste", "clip", NAN),
    ("ste_gain", "o", 0.5),
    ("ste_gain", "m", 9),
    ("dsq", "alpha", 0),
    ("dsq", "alpha", 1),
    ("dsq", "alpha", NAN),
    ("dsq", "l", 1),
    ("dsq", "u", INF),
    ("ede", "t", 0),
    ("ede", "t", INF),
    ("ede", "t_min", -1),
    ("fda", "n", -1),
    ("fda", "n", 9.5),
    ("fda", "n", True),
    ("fda", "n_min", -1),
    ("fda", "w", 0),
    ("fda", "w", 4),
    ("rbnn", "t", 0),
    ("rbnn", "t_min", 0),
    ("rbnn", "floor", -1),
    ("rbnn", "floor", INF),
    ("swish_sign", "beta", 0),
    ("swish_sign", "beta", INF),
]


@pytest.mark.parametrize(("name", "field", "value"), BAD, ids=str)
def test_a_value_out_of_range_is_named_with_what_is_accepted(name: str, field: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"\w+: \w+ = .+, expected .+") as caught:
        ru.estimator(name, **{field: value})
    message = str(caught.value)
    if field not in {"t", "u"} or name in {
        "ede",
        "rbnn",
    }:  # t and u also bound their partner, which is then the one named
        assert f"{field} = {value!r}" in message.replace(f"{field} = {value}", f"{field} = {value!r}")


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown estimator 'rest'; known: reste, ste"):
        ru.estimator("rest")
    with pytest.raises(ValueError, match=r"ReSTE has no parameter 'power'; it has: o, t, m, path"):
        ru.estimator("reste", power=3)
    with pytest.raises(ValueError, match=r"ApproxSign has no parameter 'o'; it has: none"):
        ru.estimator("approx_sign", o=3)


@every
def test_to_dict_is_json_and_builds_the_same_again(e) -> None:
    text = json.dumps(e.to_dict(), allow_nan=False)
    assert ru.estimator(**json.loads(text)) == e


def test_numbers_of_other_libraries_are_numbers() -> None:
    import numpy as np

    for number in (np.float32(3), np.int64(3), np.float64(3), 3):
        assert repr(ru.ReSTE(o=number)) == "ReSTE(o=3.0, t=1.5, m=0.1, path='cosine')"
    assert json.dumps(ru.FDA(n=np.int64(12)).to_dict()) == '{"name": "fda", "n": 12, "n_min": 9, "w": 0.1}'


@every
def test_frozen_hashable_and_equal_by_value(e) -> None:
    assert e == ru.estimator(**e.to_dict())
    assert len({e, ru.estimator(**e.to_dict())}) == 1
    with pytest.raises(FrozenInstanceError):
        e.colour = "red"
    assert e.name == type(e).name
    assert e.label
    assert e.kind


@pytest.fixture
def registry():
    """The known estimators, put back after the test."""
    from resteutils.estimators import ESTIMATORS

    before = dict(ESTIMATORS)
    yield ESTIMATORS
    ESTIMATORS.clear()
    ESTIMATORS.update(before)


def test_adding_an_estimator_takes_ten_lines_and_no_name_twice(registry: dict) -> None:
    from dataclasses import dataclass

    from resteutils.estimators import Estimator, register

    @register
    @dataclass(frozen=True)
    class Hat(Estimator):
        """A triangle."""

        width: float = 1.0
        name = "hat"

        def surrogate(self, z):
            return torch.tanh(z / self.width)

        def coefficients(self):
            return (self.width,)

        @staticmethod
        def slope(z, width):
            return (1 - z.abs() / width).clamp(min=0)

    layer = ru.BinaryConv2d(3, 4, 3, estimator=ru.estimator("hat", width=2.0))
    layer(torch.randn(2, 3, 8, 8)).sum().backward()
    assert layer.weight.grad.isfinite().all()

    with pytest.raises(ValueError, match="'reste' is registered already"):

        @register
        @dataclass(frozen=True)
        class Impostor(Estimator):
            name = "reste"
