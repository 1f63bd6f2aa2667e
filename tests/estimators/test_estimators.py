"""Estimators as functions of tensors and as values: dtypes, shapes, refusals, names, the registry."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest
import torch
from helpers.every_estimator import INF, NAN, every

import resteutils as ru

HALF_AND_MORE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


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


@pytest.mark.parametrize("lacking", ["name", "surrogate", "slope"])
def test_a_class_that_lacks_something_is_refused_with_an_example(registry: dict, lacking: str) -> None:
    from resteutils.estimators import Estimator, register

    parts = {
        "name": "incomplete",
        "surrogate": lambda self, z: z,
        "slope": staticmethod(lambda z: torch.ones_like(z)),
    }
    cls = type("Incomplete", (Estimator,), {part: value for part, value in parts.items() if part != lacking})
    with pytest.raises(TypeError, match=f"Incomplete is no estimator yet, it lacks, for instance: .*{lacking}"):
        register(cls)
    assert "" not in registry and "incomplete" not in registry
    with pytest.raises(ValueError, match="estimator name 'my/hat', expected letters"):
        register(type("Slashed", (Estimator,), parts | {"name": "my/hat"}))
    dashed = register(type("Dashed", (Estimator,), parts | {"name": "my-hat"}))
    assert isinstance(ru.recipe("table3/reste", "smoke", estimator="my-hat").estimator, dashed)
    with pytest.raises(TypeError, match="expected a class derived from Estimator"):
        register(int)
