"""Random recipes: each valid one trains, each invalid one is refused by value and by what is accepted."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from helpers.command import tiny_recipe
from helpers.faults import FULL, counted
from torch import nn

import resteutils as ru
from resteutils.data.base import AUGMENTATIONS
from resteutils.models import BITS, MODELS
from resteutils.nn.binarize import SCALE_ORDERS, SCALES
from resteutils.recipes import Recipe
from resteutils.training.loop import train
from resteutils.training.stopping import NonFinite

pytestmark = pytest.mark.faults
MANY = 500 if FULL else 20


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    """A network of one binary layer, so that many recipes can be tried."""

    def one_layer(conv, num_classes, image_size, in_channels):
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
        stem = nn.Conv2d(in_channels, 8, 3, padding=1, bias=False)
        return nn.Sequential(stem, nn.BatchNorm2d(8), conv(8, 8), nn.ReLU(), nn.BatchNorm2d(8), head)

    monkeypatch.setitem(MODELS, "one_layer", one_layer)
    return "one_layer"


def estimators(draw: random.Random) -> ru.Estimator:
    kind = draw.choice([*ru.ESTIMATORS.values()])
    if kind is ru.ReSTE:
        return kind(o=draw.uniform(1, 10), t=draw.uniform(0.5, 3), m=draw.uniform(0.01, 0.4))
    return kind()


def valid(draw: random.Random, model: str) -> Recipe:
    """Two steps of a recipe whose other fields are drawn from what they accept."""
    batch = draw.randint(4, 24)
    return tiny_recipe(
        model=model if draw.random() < 0.96 else draw.choice(["resnet20", "resnet20_bireal", "vgg_small"]),
        bits=draw.choice(BITS),
        estimator=estimators(draw),
        input_estimator=draw.choice([None, estimators(draw)]),
        scale=draw.choice(SCALES),
        scale_order=draw.choice(SCALE_ORDERS),
        standardize=draw.random() < 0.5,
        weight_scale=draw.choice([1.0, 10 ** draw.uniform(-2, 2)]),
        train_size=2 * batch,
        test_size=draw.randint(1, 20),
        holdout=draw.choice([0, draw.randint(20, 100)]),
        augment=draw.choice(AUGMENTATIONS),
        padding=draw.randint(0, 9),
        batch_size=batch,
        accumulate=draw.randint(1, 4),
        optimizer=draw.choice(["sgd", "adam", "adamw"]),
        lr=10 ** draw.uniform(-5, 0),
        momentum=draw.uniform(0, 0.999),
        weight_decay=draw.choice([0.0, 10 ** draw.uniform(-6, -1)]),
        warmup_epochs=draw.uniform(0, 1),
        schedule=draw.choice(["epoch", "step"]),
        precision=draw.choice(["fp32", "tf32", "bf16"]),
        sync_bn=draw.random() < 0.5,
        deterministic=draw.random() < 0.5,
        seed=draw.randrange(2**32),
        channels_last=draw.choice(["auto", "on", "off"]),
        packed_forward=draw.choice([None, True, False]),
        eval_batch_size=draw.randint(1, 30),
        checkpoint_minutes=draw.choice([0.0, 10.0]),
    )


@pytest.mark.timeout(7200 if FULL else 600)
def test_valid_recipes_train(small: str, tmp_path: Path, request) -> None:
    """To their end in finite numbers, or to one error that names the step of the first that is not."""
    draw, lost = random.Random(2308), []
    for number in range(MANY):
        recipe = valid(draw, small)
        try:
            _, history, _ = train(recipe, tmp_path / str(number), "cpu", say=lambda line: None, show=False)
            if not math.isfinite(history[-1]["train_loss"]) or Recipe.from_dict(recipe.to_dict()) != recipe:
                lost.append(f"{recipe}: {history[-1]}")
        except NonFinite as error:
            if "at step" not in str(error):
                lost.append(f"{recipe}: {error}")
        except Exception as error:
            lost.append(f"{recipe}: {type(error).__name__}: {error}")
    counted(request.node, "soak: valid recipes train for two steps", MANY - len(lost), MANY)
    assert lost == []


def invalid(draw: random.Random) -> Iterator[tuple[str, object]]:
    """Fields and values that they do not accept, without end."""
    odd = ["", "none", "RESNET20", None, [], {}, object(), b"1", (1,)]
    while True:
        entry = draw.choice([each for each in fields(Recipe) if each.name not in ("item", "row")])
        low, name = entry.metadata.get("low"), entry.name
        if low is not None:
            numbers = [low - 1 - draw.random(), math.nan, math.inf, -math.inf, "many", True, 1 + 1j]
            numbers += [low + 0.5] if entry.type == "int" else []
            numbers += [low] if entry.metadata["strict"] else []
            yield name, draw.choice([*numbers, *odd])
        elif entry.type in ("bool", "bool | None"):
            yield name, draw.choice([value for value in (0, 1, "yes", 0.0, *odd) if value is not None])
        elif entry.metadata.get("accepted"):
            others = [*odd, 0, 1.5, math.nan, "resnet", "1/2", "adagrad", draw.randbytes(3).hex()]
            accepted = entry.metadata["accepted"]
            yield name, draw.choice([value for value in others if not isinstance(value, str) or value not in accepted])
        else:  # estimators
            yield name, draw.choice([0, 1.5, object(), "nosuch", "reste(o=", "reste(o=-1)", "ste(o=3)", {"o": 3}, []])


def test_invalid_recipes_are_refused_by_value_and_by_what_is_accepted(request) -> None:
    draw, lost, tried = random.Random(2308), [], 500 if FULL else 100
    cases = invalid(draw)
    for _ in range(tried):
        name, value = next(cases)
        problem = refusal(name, value)
        lost += [f"{name} = {value!r}: {problem}"] if problem else []
    counted(request.node, "soak: invalid recipes are refused", tried - len(lost), tried)
    assert lost == []


def refusal(name: str, value: object) -> str:
    """What is wrong with how a value is refused: it, or its field, is named, and what is accepted; "" for nothing."""
    try:
        ru.recipe("table3/reste", **{"profile": "smoke", name: value})
    except ValueError as error:
        said = str(error)
        within = isinstance(value, str) and (" has no parameter " in said or "o = -1.0" in said)  # of an estimator
        named = name in said or repr(value) in said or within
        return "" if named and any(word in said for word in ("expected", "known", "it has")) else said
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"
