"""Both indicators in both readings, against computations by hand and against published values at initialisation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import resteutils as ru
from resteutils.nn.indicators import READINGS, error_ceilings, zone_ends


@pytest.fixture
def small() -> nn.Sequential:
    """Two binary layers with known weights between float ones, o on its way to 3."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        ru.BinaryConv2d(4, 1, (1, 2), scale="none"),
        nn.Flatten(),
        ru.BinaryLinear(2, 1, estimator=ru.ReSTE(o=2), scale="none"),
    )
    model[1].weight.data = torch.tensor([0.0, 0.05, -0.1, 0.2, -0.5, 1.0, -1.5, 1.6]).view(1, 4, 1, 2)
    model[3].weight.data = torch.tensor([[0.25, -0.09]])
    ru.anneal(model, 0.5)
    return model


def test_error_by_hand_as_in_the_code(small: nn.Sequential) -> None:
    """Sum over layers of L2 norms; the power at the end of the path, neither chord nor cut. sign(0) is 1 here."""
    first = [1, *((1 - abs(w) ** (1 / 3)) for w in (0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 1.6))]
    second = [1 - 0.25**0.5, 1 - 0.09**0.5]
    expected = math.hypot(*first) + math.hypot(*second)
    assert ru.estimating_error(small, reading="code") == pytest.approx(expected, rel=1e-6)


def test_error_by_hand_as_defined(small: nn.Sequential) -> None:
    """One L2 norm over all binary weights; the power of now, chord and cut included."""
    o1, o2 = small[1].current.o, small[3].current.o
    assert (o1, o2) == pytest.approx((1.586, 1.293), abs=1e-3)
    gaps = [1, 1 - 0.05 * 0.1 ** (1 / o1 - 1), 1 - 0.1 ** (1 / o1), 1 - 0.2 ** (1 / o1), 1 - 0.5 ** (1 / o1), 0]
    gaps += [1 - 1.5 ** (1 / o1), 0]  # at 1.5 the power, at 1.6 sign
    gaps += [1 - 0.25 ** (1 / o2), 1 - 0.09 * 0.1 ** (1 / o2 - 1)]
    assert ru.estimating_error(small, reading="definition") == pytest.approx(math.hypot(*gaps), rel=1e-6)
    assert ru.estimating_error(small) == ru.estimating_error(small, reading="definition")


def test_the_reading_of_the_code_does_not_move_with_the_path(small: nn.Sequential) -> None:
    before = ru.estimating_error(small, "code"), ru.estimating_error(small)
    ru.anneal(small, 0.0)
    assert ru.estimating_error(small, "code") == before[0]
    assert ru.estimating_error(small) > before[1]  # o = 1: further from sign


def give_gradients(model: nn.Module) -> torch.Tensor:
    for p in model.parameters():
        p.grad = torch.randn_like(p) * torch.rand(())
    return torch.cat([p.grad.flatten() for p in model.parameters()]).double().abs()


def test_instability_by_hand(small: nn.Sequential) -> None:
    sizes = give_gradients(small)
    assert ru.gradient_instability(small) == pytest.approx(sizes.var().item(), rel=1e-6)
    layers = [small[1].weight.grad, small[3].weight.grad]
    expected = sum(g.double().abs().var().item() for g in layers)
    assert ru.gradient_instability(small, "code") == pytest.approx(expected, rel=1e-6)
    assert ru.gradient_spread(small) == pytest.approx((sizes.std() / sizes.mean()).item(), rel=1e-6)


def test_instability_grows_with_the_square_of_a_common_gain_and_the_spread_does_not(small: nn.Sequential) -> None:
    give_gradients(small)
    before = [ru.gradient_instability(small, reading) for reading in READINGS], ru.gradient_spread(small)
    for p in small.parameters():
        p.grad *= 4.642
    for reading, value in zip(READINGS, before[0], strict=True):
        assert ru.gradient_instability(small, reading) == pytest.approx(4.642**2 * value, rel=1e-5)
    assert ru.gradient_spread(small) == pytest.approx(before[1], rel=1e-5)


def test_equal_gradients_have_no_instability(small: nn.Sequential) -> None:
    for p in small.parameters():
        p.grad = torch.full_like(p, -0.1)
    assert ru.gradient_instability(small) == pytest.approx(0, abs=1e-12)
    assert ru.gradient_instability(small) >= 0
    assert ru.gradient_spread(small) == pytest.approx(0, abs=1e-6)


def test_zones_by_hand(small: nn.Sequential) -> None:
    shares = ru.zone_shares(small)
    assert shares == {
        "plateau": pytest.approx(4 / 10),
        "power": pytest.approx(5 / 10),
        "clipped": pytest.approx(1 / 10),
    }
    assert sum(shares.values()) == pytest.approx(1)
    wide = ru.zone_shares(small, m=0.04, t=0.9)
    assert (wide["plateau"], wide["clipped"]) == (pytest.approx(1 / 10), pytest.approx(3 / 10))


def test_the_zones_end_where_the_estimator_says() -> None:
    assert zone_ends(ru.ReSTE(m=0.2, t=1.2)) == zone_ends(ru.GainSTE(m=0.2, t=1.2)) == (0.2, 1.2)
    assert zone_ends(ru.STE()) == zone_ends(None) == (0.1, 1.5)  # ReSTE's, to compare


def test_standardised_weights_are_measured_as_the_estimator_sees_them() -> None:
    layer = ru.BinaryConv2d(16, 8, 3, standardize=True)
    nn.init.normal_(layer.weight, 0.0, 0.01)
    assert ru.zone_shares(layer)["plateau"] == pytest.approx(0.08, abs=0.03)  # of a standard normal
    assert ru.zone_shares(layer)["clipped"] == pytest.approx(0.13, abs=0.04)
    z = layer.effective_weight().detach()
    expected = torch.linalg.vector_norm(ru.sign(z) - layer.current.surrogate(z)).item()
    assert ru.estimating_error(layer) == pytest.approx(expected, rel=1e-5)


def test_a_float_twin_has_no_error_but_an_instability() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    assert all(math.isnan(ru.estimating_error(model, reading)) for reading in READINGS)
    assert all(math.isnan(share) for share in ru.zone_shares(model).values())
    give_gradients(model)
    assert math.isnan(ru.gradient_instability(model, "code"))
    assert ru.gradient_instability(model) > 0


def test_an_unknown_reading_is_refused(small: nn.Sequential) -> None:
    for indicator in (ru.estimating_error, ru.gradient_instability):
        with pytest.raises(ValueError, match="reading = 'paper', expected one of code, definition"):
            indicator(small, reading="paper")


def test_without_gradients_the_instability_says_what_to_do(small: nn.Sequential) -> None:
    for measure in (lambda: ru.gradient_instability(small), lambda: ru.gradient_spread(small),
                    lambda: ru.gradient_instability(small, "code")):  # fmt: skip
        with pytest.raises(RuntimeError, match=r"call loss\.backward\(\) first"):
            measure()


def test_measuring_changes_nothing(small: nn.Sequential) -> None:
    give_gradients(small)
    before = [(p.clone(), p.grad.clone()) for p in small.parameters()]
    ru.estimating_error(small)
    ru.gradient_instability(small)
    ru.gradient_spread(small)
    ru.zone_shares(small)
    assert all(p.equal(a) and p.grad.equal(b) for p, (a, b) in zip(small.parameters(), before, strict=True))


# --- the published example: ResNet-20 at initialisation, paper.md sections 1.3 and 1.5 -------------------------------

PUBLISHED_ERROR = {1: 1814, 2: 1505, 3: 1249, 5: 917, 10: 544}


@pytest.mark.parametrize("o", PUBLISHED_ERROR)
def test_error_of_resnet20_at_initialisation(o: float) -> None:
    model = ru.create("resnet20", estimator=ru.ReSTE(o=o))
    assert ru.estimating_error(model, reading="code") == pytest.approx(PUBLISHED_ERROR[o], rel=0.02)


def test_the_upper_limit_of_the_error() -> None:
    model = ru.create("resnet20")
    for _, layer in ru.binary_layers(model):
        nn.init.zeros_(layer.weight)
    assert ru.estimating_error(model, reading="code") == pytest.approx(1931.6, abs=0.05)
    assert ru.estimating_error(model) == pytest.approx(math.sqrt(267_264))


@pytest.mark.parametrize(("name", "share"), [("resnet20", 0.856), ("resnet18", 1.000), ("vgg_small", 0.999)])
def test_share_of_weights_on_the_plateau_at_initialisation(name: str, share: float) -> None:
    shares = ru.zone_shares(ru.create(name))
    assert shares["plateau"] == pytest.approx(share, abs=3e-3)
    assert shares["clipped"] == 0


def test_summed_and_pooled_instability_are_far_apart_at_initialisation() -> None:
    """Section 1.5: 44 times in one example; the order of magnitude is what can be reproduced."""
    model = ru.create("resnet20", image_size=16)
    ru.anneal(model, 0.0)
    x, y = torch.randn(32, 3, 16, 16), torch.randint(10, (32,))
    nn.functional.cross_entropy(model(x), y).backward()
    assert ru.gradient_instability(model, "code") > 3 * ru.gradient_instability(model)


def test_ceilings_of_resnet20() -> None:
    top = error_ceilings(ru.create("resnet20"))
    assert top["code"] == pytest.approx(1931.6, abs=0.1)
    assert top["definition"] == pytest.approx(math.sqrt(267_264))
