"""Learning rate and path of o, against stored tables."""

from __future__ import annotations

import math

import pytest

from resteutils.estimators import ReSTE
from resteutils.recipes import Recipe
from resteutils.training.schedules import learning_rate, path_progress

STEPS = 7  # of an epoch


def rates(recipe: Recipe) -> list[float]:
    return [learning_rate(recipe, step, STEPS) for step in range(recipe.epochs * STEPS)]


def powers(recipe: Recipe, o: float, path: str = "cosine") -> list[float]:
    end = ReSTE(o=o, path=path)
    return [end.at(path_progress(recipe, step, STEPS)).o for step in range(recipe.epochs * STEPS)]


# epoch: learning rate of the paper's recipe, 1000 epochs, warm-up 5; and o to 3, cosine and linear
PAPER = {
    0: (0.02, 1.0, 1.0),
    1: (0.04, 1.0000025, 1.002),
    4: (0.10, 1.0000395, 1.008),
    5: (0.10, 1.0000617, 1.010),
    250: (0.0857715, 1.1522409, 1.5),
    500: (0.0503946, 1.5857864, 2.0),
    750: (0.0147845, 2.2346331, 2.5),
    999: (2.4923e-07, 2.9968584, 2.998),
}


@pytest.mark.parametrize("epoch", PAPER)
def test_the_papers_recipe_epoch_by_epoch(epoch: int) -> None:
    recipe = Recipe(epochs=1000, warmup_epochs=5, schedule="epoch")
    lr, cosine, linear = PAPER[epoch]
    for step in (epoch * STEPS, epoch * STEPS + STEPS - 1):  # constant within an epoch
        assert learning_rate(recipe, step, STEPS) == pytest.approx(lr, rel=1e-4)
        share = path_progress(recipe, step, STEPS)
        assert share == epoch / 1000
        assert ReSTE(o=3).at(share).o == pytest.approx(cosine, abs=2e-6)
        assert ReSTE(o=3, path="linear").at(share).o == pytest.approx(linear)


def test_short_runs_peak_at_the_rate_asked_for_and_end_near_zero() -> None:
    """What the authors' scheduler misses by eight epochs: with 20 epochs it peaks at 0.117 and ends at 0.026."""
    per_epoch = rates(Recipe(epochs=20, warmup_epochs=5, schedule="epoch"))[::STEPS]
    assert per_epoch[:6] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])
    assert max(per_epoch) == pytest.approx(0.1)
    assert per_epoch[-1] == pytest.approx(0.05 * (1 + math.cos(math.pi * 14 / 15)))
    assert per_epoch[-1] < 0.0012


def test_step_by_step() -> None:
    recipe = Recipe(epochs=10, warmup_epochs=1, schedule="step")
    found = rates(recipe)
    assert found[:STEPS] == pytest.approx([0.1 * (i + 1) / STEPS for i in range(STEPS)])
    assert found[STEPS] == pytest.approx(0.1)
    assert found[STEPS + 9 * STEPS // 2] == pytest.approx(0.05, rel=0.05)  # half of the cosine
    assert found[-1] == pytest.approx(0.05 * (1 + math.cos(math.pi * (1 - 1 / (9 * STEPS)))))
    assert all(a > b for a, b in zip(found[STEPS:], found[STEPS + 1 :], strict=False))


@pytest.mark.parametrize("schedule", ["epoch", "step"])
@pytest.mark.parametrize("warmup", [0, 0.3, 1, 2.5, 6])
@pytest.mark.parametrize("epochs", [6, 7, 40])
def test_rates_rise_then_fall_between_zero_and_the_rate_asked_for(schedule: str, warmup: float, epochs: int) -> None:
    found = rates(Recipe(epochs=epochs, warmup_epochs=warmup, schedule=schedule, lr=0.3))
    assert min(found) > 0
    assert max(found) == pytest.approx(0.3)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)


@pytest.mark.parametrize("o", [1, 3, 10])
@pytest.mark.parametrize("path", ["cosine", "linear"])
def test_the_power_goes_all_the_way_step_by_step(o: float, path: str) -> None:
    found = powers(Recipe(epochs=3, warmup_epochs=0, schedule="step"), o, path)
    assert found[0] == 1.0
    assert found[-1] == o  # exactly
    assert found == sorted(found)


def test_the_power_stops_short_epoch_by_epoch() -> None:
    found = powers(Recipe(epochs=10, warmup_epochs=0, schedule="epoch"), 3)
    assert found[:STEPS] == [1.0] * STEPS
    assert found[-1] == pytest.approx(1 + 2 * (1 - math.cos(math.pi / 2 * 0.9)))


def test_a_run_of_one_step() -> None:
    recipe = Recipe(epochs=1, warmup_epochs=0, schedule="step")
    assert path_progress(recipe, 0, 1) == 0.0
    assert learning_rate(recipe, 0, 1) == recipe.lr
