"""Recipes: what is in the identity and what is not, every row of every item, wrong values."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import pytest

import resteutils as ru
from resteutils.recipes import ITEMS, PROFILES, Recipe, default_seeds, item_recipes, recipe
from resteutils.recipes.definition import EXECUTION, LABELS

EVERY = [r for item in ITEMS if ITEMS[item].rows for profile in PROFILES for r in item_recipes(item, profile)]

# Changing one of these breaks the link between stored runs, committed records and the recipes that name them.
PINNED = {
    "table1/resnet20-1w1a": "resnet20-1w1a-reste3-cifar10-1000ep-",
    "table1/resnet20-1w32a": "resnet20-1w32a-reste3-cifar10-1000ep-",
    "table1/resnet18-1w1a": "resnet18-1w1a-reste3-cifar10-2000ep-",
    "table3/ste": "resnet20-1w1a-ste-cifar10-1000ep-",
}

# Rows that differ in length or batch only are one run where the profile has its own.
REDUCED = {("table2", profile) for profile in PROFILES if profile != "paper"}
REDUCED |= {("why", profile) for profile in PROFILES}

# One other valid value for every field.
OTHER = {
    "item": "x", "row": "x", "profile": "smoke", "model": "vgg_small", "bits": "1/32", "estimator": ru.STE(),
    "input_estimator": ru.ApproxSign(), "scale": "channel", "scale_order": "before", "standardize": True,
    "num_classes": 7, "image_size": 16, "in_channels": 1, "dataset": "digits", "train_size": 100, "test_size": 100,
    "holdout": 50, "augment": "none", "padding": 1, "normalization": "dataset", "epochs": 6, "batch_size": 128,
    "accumulate": 2, "lr": 0.05, "momentum": 0.8, "weight_decay": 0.0, "warmup_epochs": 0.0, "schedule": "step",
    "precision": "bf16", "sync_bn": False, "seed": 5, "deterministic": True, "compile": "off", "channels_last": "on",
    "packed_forward": True, "eval_batch_size": 100, "workers": 0, "checkpoint_minutes": 1.0, "optimizer": "adam",
    "weight_scale": 0.5, "table_gradients": True, "decoder": "torchvision",
}  # fmt: skip


# --- identity --------------------------------------------------------------------------------------------------------


def test_every_field_has_another_value_to_try() -> None:
    assert set(OTHER) == {entry.name for entry in fields(Recipe)}


@pytest.mark.parametrize("name", OTHER)
def test_the_identity_changes_with_what_changes_the_result_and_with_nothing_else(name: str) -> None:
    changed = replace(Recipe(), **{name: OTHER[name]})
    assert getattr(changed, name) == OTHER[name]
    free = name in (*LABELS, *EXECUTION, "seed")
    assert (changed.identity == Recipe().identity) == free
    assert (changed.run_id == Recipe().run_id) == (free and name != "seed")


def test_a_field_of_the_estimator_changes_the_identity() -> None:
    seen = {replace(Recipe(), estimator=e).identity for e in (ru.ReSTE(), ru.ReSTE(o=2), ru.ReSTE(t=1), ru.ReSTE(m=0.2),
                                                              ru.ReSTE(path="linear"), ru.GainSTE())}  # fmt: skip
    assert len(seen) == 6
    assert replace(Recipe(), estimator=ru.ReSTE(o=3)).identity == Recipe().identity


def test_whole_numbers_and_floats_hash_alike() -> None:
    assert replace(Recipe(), lr=1).identity == replace(Recipe(), lr=1.0).identity
    import numpy as np

    assert (
        replace(Recipe(), epochs=np.int64(6), lr=np.float32(0.5)).to_dict()
        == replace(Recipe(), epochs=6, lr=0.5).to_dict()
    )


def test_the_identity_is_the_same_in_every_process() -> None:
    """Stored once: if this changes, finished runs and committed records are no longer found."""
    assert Recipe().identity == "44136fa355b3"


def test_what_does_nothing_is_not_in_the_identity() -> None:
    """All float twins of a network are one run, and so are an estimator given once or twice."""
    twins = [replace(Recipe(), bits="32/32", estimator=e) for e in (ru.ReSTE(), ru.STE(), None)]
    assert len({twin.identity for twin in twins}) == 1
    assert replace(Recipe(), input_estimator=ru.ReSTE()).identity == Recipe().identity
    assert replace(twins[0], weight_scale=0.5).identity == twins[0].identity
    mixed = replace(Recipe(), bits="1/32")
    assert replace(mixed, input_estimator=ru.STE()).identity == mixed.identity


def test_every_recipe_is_json_and_back() -> None:
    for r in EVERY:
        back = Recipe.from_dict(json.loads(json.dumps(r.to_dict(), allow_nan=False)))
        assert back == r
        assert back.run_id == r.run_id


def test_run_ids_are_unique_per_item_and_shared_between_items() -> None:
    for item, profile in {(r.item, r.profile) for r in EVERY}:
        mine = [r.run_id for r in EVERY if (r.item, r.profile) == (item, profile)]
        if (item, profile) not in REDUCED:
            assert len(set(mine)) == len(mine), (item, profile)
    same = [
        ("table1/resnet20-1w1a", "table3/reste"), ("table1/resnet20-1w1a", "figure4/resnet20-o3"),
        ("table1/resnet20-1w1a-ste", "table3/ste"), ("figure2/ede", "table3/ede"),
        ("figure6/o10", "figure4/resnet20-o10"), ("deploy/vgg-small-fp", "table1/vgg-small-fp"),
        ("figure5/reste", "table3/reste"),
    ]  # fmt: skip
    large = [("figure4/resnet18-o3", "table1/resnet18-1w1a")]  # whole where something is claimed
    for profile in PROFILES:
        for first, second in same + (large if profile in ("short", "paper") else []):
            assert recipe(first, profile).run_id == recipe(second, profile).run_id, (profile, first)


def test_run_ids_are_file_names() -> None:
    for r in EVERY:
        assert set(r.run_id) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-"), r.run_id
        assert len(r.run_id) < 100


@pytest.mark.parametrize("name", PINNED)
def test_run_ids_can_be_read(name: str) -> None:
    found = recipe(name, "paper", seed=2)
    assert found.run_id == f"{PINNED[name]}{found.identity}-s2"


# --- rows ------------------------------------------------------------------------------------------------------------


def test_the_papers_recipes() -> None:
    common = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "schedule": "epoch"}
    table = {  # paper.md section 2: epochs, batch, warm-up
        "table1/resnet20-1w1a": (1000, 256, 5), "table1/resnet20-1w32a": (1000, 256, 5),
        "table1/resnet20-bireal-1w1a": (1000, 256, 5), "table1/resnet18-1w1a": (2000, 96, 5),
        "table1/vgg-small-1w1a": (1000, 256, 5), "table2/resnet18-1w1a-150ep-b512": (150, 512, 0),
        "table2/resnet18-1w1a-200ep-b512": (200, 512, 0), "table2/resnet18-1w1a-200ep-b750": (200, 750, 0),
        "table2/resnet18-1w1a": (250, 750, 0), "table2/resnet18-1w32a": (250, 750, 0),
        "table2/resnet34-1w1a": (250, 750, 0), "table2/resnet34-1w32a": (250, 750, 0),
    }  # fmt: skip
    for name, (epochs, batch_size, warmup) in table.items():
        r = recipe(name, "paper")
        assert (r.epochs, r.batch_size, r.warmup_epochs) == (epochs, batch_size, warmup), name
        assert {key: getattr(r, key) for key in common} == common
        assert r.estimator == ru.ReSTE(o=3)
        assert (r.augment, r.padding, r.normalization, r.holdout) == ("crop-flip", 4, "imagenet", 0)
        assert (r.dataset, r.num_classes) == (("imagenet", 1000) if "table2" in name else ("cifar10", 10))


@pytest.mark.parametrize("profile", PROFILES)
def test_in_table_3_only_the_estimators_differ(profile: str) -> None:
    plain = [
        replace(r, row="", estimator=ru.ReSTE(), input_estimator=None, standardize=False).to_dict()
        for r in item_recipes("table3", profile, seeds="0")
    ]
    assert all(r == plain[0] for r in plain)
    assert [r.row for r in item_recipes("table3", profile, seeds="0") if r.standardize] == ["reste-standardised"]


@pytest.mark.parametrize("profile", ["smoke", "demo", "short"])
@pytest.mark.parametrize(("epochs", "warmup"), [(4, 0.4), (10, 1.0), (50, 5.0), (500, 5.0)])
def test_warm_up_of_the_reduced_profiles(profile: str, epochs: int, warmup: float) -> None:
    assert recipe("table3/reste", profile, epochs=epochs).warmup_epochs == pytest.approx(warmup)
    assert recipe("table3/reste", profile, epochs=epochs, warmup_epochs=2).warmup_epochs == 2
    assert recipe("table3/reste", profile).schedule == "step"


def test_every_recipe_builds_its_network() -> None:
    import torch

    for r in {(r.model, r.bits, r.image_size, r.in_channels): r for r in EVERY}.values():
        with torch.device("meta"):
            model = ru.create(
                r.model, r.bits, r.estimator, r.input_estimator, r.num_classes or 10, r.image_size, r.in_channels
            )
        assert bool(ru.binary_layers(model)) == (r.bits != "32/32")


def test_rows_and_seeds_as_text_and_as_sequences() -> None:
    expected = [("ste", 3), ("ste", 4), ("reste", 3), ("reste", 4)]
    for rows, seeds in (
        ("ste,reste", "3,4"),
        ("ste reste", "3 4"),
        (["ste", "reste"], (3, 4)),
        ("ste, reste,ste", "3,4,3"),
    ):
        assert [(r.row, r.seed) for r in item_recipes("table3", "smoke", rows, seeds)] == expected
    assert {r.epochs for r in item_recipes("table3", "demo", epochs=7)} == {7}
    assert {r.seed for r in item_recipes("table3", "short")} == set(default_seeds("table3", "short"))
    assert item_recipes("lemma") == []


def test_overrides_reach_the_recipe() -> None:
    r = recipe("table3/reste", lr=0.02, estimator={"name": "reste", "o": 7}, input_estimator="ste", holdout=100)
    assert (r.lr, r.estimator, r.input_estimator, r.holdout) == (0.02, ru.ReSTE(o=7), ru.STE(), 100)


def test_overrides_as_text_reach_every_recipe_of_an_item() -> None:
    changed = item_recipes("table3", "short", "ste,reste", "0,1", overrides="accumulate=2,scale_order=before")
    assert {(r.accumulate, r.scale_order) for r in changed} == {(2, "before")}
    usual = item_recipes("table3", "short", "ste,reste", "0,1")
    assert not {r.run_id for r in changed} & {r.run_id for r in usual}
    assert changed[0].changed(usual[0]) == ["scale_order = before", "accumulate = 2"]
    assert usual[0].changed(usual[1]) == []
    (other,) = item_recipes("table3", "short", "reste", "0", overrides="lr=0.05,estimator=reste(o=5, t=1)")
    assert (other.lr, other.estimator) == (0.05, ru.ReSTE(o=5, t=1))


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recipe("table9/x"), "unknown item 'table9'; known: table1, table2"),
        (lambda: recipe("table1/x"), "unknown row of table1 'x'; known: resnet18-1w1a"),
        (lambda: recipe("table1/"), "unknown row of table1 ''"),
        (lambda: recipe("table1"), "'table1': name a row too: table1/resnet18-1w1a; the rows are .*resnet20-1w1a"),
        (lambda: recipe("resnet20-1w1a"), "'resnet20-1w1a', expected ITEM/ROW; table1 and deploy have this row"),
        (lambda: recipe("ste"), "'ste', expected ITEM/ROW; table3, figure2, figure5 and why have this row"),
        (lambda: recipe("rbnn"), "'rbnn', expected ITEM/ROW; table3 has this row"),
        (lambda: recipe("lemma/x"), "item 'lemma' has no training runs"),
        (lambda: recipe("table3/ste", profile="quick"), "unknown profile 'quick'; known: smoke, demo, short, paper"),
        (lambda: recipe("table3/ste", learning_rate=1), "no field 'learning_rate'; it has: .*lr"),
        (lambda: recipe("table3/ste", estimator="rest"), "unknown estimator 'rest'"),
        (lambda: recipe("table3/ste", estimator={"name": ["reste"]}), "unknown estimator .*reste.*; known: reste, ste"),
        (lambda: recipe("table3/ste", seed=2**64), f"seed = {2**64}, expected a number below {2**64}"),
        (lambda: recipe("table3/ste", padding=17), "padding = 17, expected at most 16"),
        (lambda: Recipe(row=["ste"]), r"row = \['ste'\], expected text"),
        (lambda: recipe("table3/ste", estimator={"name": "reste", "o": 0.5}), r"o = 0\.5, expected a finite power"),
        (lambda: item_recipes("table3", seeds="a"), "seeds = 'a', expected whole numbers such as 0,1,2"),
        (lambda: item_recipes("table3", "quick"), "unknown profile 'quick'; known: smoke"),
        (lambda: recipe("table3/ste", o=5), "no field 'o'.*an estimator has it: estimator=reste\\(o=5\\)"),
        (lambda: recipe("table3/ste", estimator="reste(o=5"), "is no estimator, expected a name such as reste, or"),
        (lambda: item_recipes("table3", rows="nope"), "unknown row of table3 'nope'"),
        (lambda: item_recipes("table3", seeds="-1"), "seed = -1, expected a whole number of at least 0"),
        (lambda: Recipe(epochs=3), r"warmup_epochs = 5\.0, expected at most epochs = 3"),
        (lambda: Recipe(estimator=None), "estimator = None, expected an estimator at bits = '1/1'"),
        (lambda: Recipe.from_dict({"speed": 1}), "a recipe has no field 'speed'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_unknown_is_refused_with_what_is_known(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


BAD = {
    "profile": ["fast", None],
    "model": ["resnet50"],
    "bits": ["1/2", 1],
    "estimator": ["reste", 3, ru.ReSTE],
    "input_estimator": ["ste"],
    "scale": ["row", None],
    "scale_order": ["both"],
    "standardize": [1, "yes"],
    "dataset": ["mnist"],
    "augment": ["all"],
    "normalization": [""],
    "schedule": ["daily"],
    "precision": ["fp16"],
    "compile": ["yes", True],
    "channels_last": [True],
    "epochs": [0, -1, 2.5, "10", None, True, math.nan],
    "batch_size": [0, 1, 32.0],
    "accumulate": [0],
    "lr": [0, -0.1, math.nan, math.inf, "0.1"],
    "momentum": [-1, math.nan],
    "weight_decay": [-1e-4],
    "warmup_epochs": [-1, 1001],
    "seed": [-1, 0.5],
    "train_size": [-1],
    "image_size": [0],
    "in_channels": [0],
    "eval_batch_size": [0],
    "workers": [-2, 1.5],
    "decoder": ["opencv", None],
    "checkpoint_minutes": [-1],
    "packed_forward": ["on", 1],
    "table_gradients": ["auto", 0],
    "optimizer": ["lion", None],
    "weight_scale": [0, -1, math.nan],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values], ids=str
)
def test_a_wrong_value_is_named_with_what_is_accepted(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name} = .*, expected "):
        replace(Recipe(), **{name: value})


def test_defaults_are_what_the_fields_accept() -> None:
    """Recipes take them unchecked: thousands are read from records."""
    usual = Recipe()
    for entry in fields(Recipe):
        usual._check(entry, entry.default)
        value = getattr(usual, entry.name)
        assert type(value) is type(entry.default) and value == entry.default, entry.name


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_a_momentum_that_adam_cannot_have_is_refused(optimizer: str) -> None:
    assert replace(Recipe(), momentum=1).momentum == 1
    with pytest.raises(ValueError, match=f"momentum = 1.0, expected below 1 with optimizer = '{optimizer}'"):
        replace(Recipe(), momentum=1, optimizer=optimizer)


def test_from_dict_reads_older_files_that_lack_fields() -> None:
    values = replace(Recipe(), epochs=12).to_dict()
    for name in ("accumulate", "checkpoint_minutes", "input_estimator", "optimizer", "weight_scale"):
        del values[name]
    assert Recipe.from_dict(values).identity == replace(Recipe(), epochs=12).identity
