"""What holds for every power, value and share of training: properties and paths."""

from __future__ import annotations

import pytest
import torch
from helpers.every_estimator import INF, NAN, every, float64, numbers, powers
from hypothesis import given
from hypothesis import strategies as st

import resteutils as ru

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
