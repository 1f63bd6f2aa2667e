"""The rows of every table and figure, and what each profile makes of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from resteutils.estimators import DSQ, EDE, FDA, RBNN, STE, ApproxSign, GainSTE, ReSTE, SwishSign
from resteutils.recipes.definition import LABELS, Recipe, parsed
from resteutils.recipes.profiles import PROFILES
from resteutils.system.settings import settings


@dataclass(frozen=True)
class ItemSpec:
    """A table or figure of the paper: its notebook, its rows (each a recipe) and what the paper claims."""

    name: str
    title: str
    notebook: str
    claim: str
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)


def _networks(name: str, model: str, **profiles: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """ReSTE, its STE twin and the float twin of one network at 1/1; ``profiles`` holds what one profile changes."""
    return {
        f"{name}-1w1a": {"model": model, **profiles},
        f"{name}-1w1a-ste": {"model": model, "estimator": STE(), **profiles},
        f"{name}-fp": {"model": model, "bits": "32/32", **profiles},
    }


def _table1() -> dict[str, dict[str, Any]]:
    mixed = {"model": "resnet20", "bits": "1/32"}
    # of the two large networks, whose weights cost more than these small images: the table in some five minutes
    demo = {"epochs": 4, "batch_size": 128}
    return {
        **_networks("resnet18", "resnet18", demo={**demo, "epochs": 3}, paper={"epochs": 2000, "batch_size": 96}),
        **_networks("resnet20", "resnet20"),
        "resnet20-1w32a": mixed,
        "resnet20-1w32a-ste": {**mixed, "estimator": STE()},
        **_networks("resnet20-bireal", "resnet20_bireal"),
        **_networks("vgg-small", "vgg_small", demo=demo),
    }


def _table2() -> dict[str, dict[str, Any]]:
    small, large = {"model": "resnet18_imagenet"}, {"model": "resnet34_imagenet"}
    return {
        "resnet18-1w1a": small,
        "resnet18-1w32a": {**small, "bits": "1/32"},
        "resnet34-1w1a": large,
        "resnet34-1w32a": {**large, "bits": "1/32"},
        "resnet18-fp": {**small, "bits": "32/32"},
        "resnet34-fp": {**large, "bits": "32/32"},
        "resnet18-1w1a-150ep-b512": {**small, "paper": {"epochs": 150, "batch_size": 512}},
        "resnet18-1w1a-200ep-b512": {**small, "paper": {"epochs": 200, "batch_size": 512}},
        "resnet18-1w1a-200ep-b750": {**small, "paper": {"epochs": 200}},
    }


def _table3() -> dict[str, dict[str, Any]]:
    """One recipe, only the estimator differs. The rows after ``reste`` are controls and additions of ours."""
    plain = STE()
    return {
        "ste": {"estimator": plain},
        "ste-identity": {"estimator": STE(clip=math.inf)},
        "dsq": {"estimator": DSQ()},
        "ede": {"estimator": EDE()},
        "fda": {"estimator": FDA()},
        "rbnn": {"estimator": RBNN(), "input_estimator": RBNN(floor=1.0)},
        "reste": {"estimator": ReSTE()},
        "ste-gain": {"estimator": GainSTE(), "input_estimator": plain},
        "reste-weights": {"estimator": ReSTE(), "input_estimator": plain},
        "reste-activations": {"estimator": plain, "input_estimator": ReSTE()},
        "reste-o1": {"estimator": ReSTE(o=1)},  # a straight line with ReSTE's clip: the rest is the power's
        "ste-gain-clip": {"estimator": GainSTE(), "input_estimator": ReSTE(o=1)},  # both: the rest is the curve's
        "ede-weights": {"estimator": EDE(), "input_estimator": plain},  # IR-Net clips its activations' gradients too
        "approxsign": {"estimator": plain, "input_estimator": ApproxSign()},
        "swishsign": {"estimator": SwishSign()},
        "reste-linear": {"estimator": ReSTE(path="linear")},
        "reste-standardised": {"estimator": ReSTE(), "standardize": True},
    }


def _why(table3: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The 2x2 cells of clip and gain, and ReSTE; then what the blocks of docs/protocol.md change in them."""
    cells = {row: table3[row] for row in ("ste", "reste-o1", "ste-gain", "ste-gain-clip", "reste")}
    few, rivals = ("ste", "ste-gain-clip", "reste"), ("dsq", "fda")
    longer = {"demo": {"epochs": 16}, "short": {"epochs": 40}}
    adam = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0}
    small = {"dataset": "cifar10-16px", "image_size": 16, "padding": 2, "train_size": 10_000}
    proxy = {"short": small, "paper": small}  # the digits of the other profiles are small already
    gates = {"random-gate": "resnet20_random_gate", "half-gate": "resnet20_half_gate", "early": "resnet20_early"}
    return {
        **cells,
        **{f"{row}-before": {**cells[row], "scale_order": "before"} for row in few},
        **{f"reste-{name}": {**cells["reste"], "model": model} for name, model in gates.items()},
        **{f"{row}-proxy": {**fields, **proxy} for row, fields in cells.items()},
        **{f"{row}-adam": {**cells[row], **adam} for row in ("ste", "reste-o1", "reste")},
        **{f"{row}-decay": {**fields, "weight_decay": 5e-3} for row, fields in cells.items()},
        **{f"{row}-long": {**cells[row], **longer} for row in few},
        **{row: table3[row] for row in rivals},
        **{f"{row}-hardtanh": {**table3[row], "model": "resnet20_hardtanh"} for row in ("ste", "ede")},
    }


POWERS = (1, 1.5, 2, 3, 5, 10, 20)


def _figure4() -> dict[str, dict[str, Any]]:
    """One row per network and power. The two large networks run a few steps only where nothing is claimed."""
    few = {"smoke": {"epochs": 1}, "demo": {"epochs": 4, "train_size": 512}}
    networks = {
        "resnet20": {"model": "resnet20"},
        "resnet18": {"model": "resnet18", **few, "paper": {"epochs": 2000, "batch_size": 96}},
        "vgg-small": {"model": "vgg_small", **few},
    }
    return {
        f"{name}-o{o:g}": {**network, "estimator": ReSTE(o=o)} for name, network in networks.items() for o in POWERS
    }


def _items() -> dict[str, ItemSpec]:
    table1, table3 = _table1(), _table3()
    items = [
        ItemSpec("table1", "Table 1: CIFAR-10", "table1_cifar10",
             "ReSTE reaches a higher top-1 than earlier binary networks without auxiliary modules.", table1),
        ItemSpec("table2", "Table 2: ImageNet", "table2_imagenet",
             "The same holds on ImageNet, for ResNet-18 and ResNet-34, at 1/1 and 1/32.", _table2()),
        ItemSpec("table3", "Table 3: estimators alone", "table3_estimators",
             "Under one recipe, without auxiliary modules, ReSTE beats the other estimators.", table3),
        ItemSpec("figure1", "Figure 1: the intuition", "figure1_intuition",
             "As a surrogate nears sign, its derivative diverges."),
        ItemSpec("figure2", "Figure 2: gradients of STE and EDE", "figure2_gradients",
             "Late in training, EDE's gradients are spread far wider than STE's.",
             {row: table3[row] for row in ("ste", "ede", "reste")}),
        ItemSpec("figure3", "Figure 3: the ReSTE curve", "figure3_reste_curve",
             "ReSTE's forward and backward curves at o = 3."),
        ItemSpec("figure4", "Figure 4: error, instability, accuracy", "figure4_equilibrium",
             "As o grows, estimating error falls, gradient instability rises, and accuracy peaks between.", _figure4()),
        ItemSpec("figure5", "Figure 5: where the weights sit", "figure5_where_weights_sit",
             "Our own figure in place of one that could not be sourced: which part of the curve acts on the weights.",
             {row: table3[row] for row in ("ste", "reste")}),
        ItemSpec("figure6", "Figure 6: training loss at large o", "figure6_divergence",
             "With o = 10 the training loss oscillates; larger powers fail.",
             {f"o{o}": {"estimator": ReSTE(o=o)} for o in (3, 10, 20, 50)}),
        ItemSpec("why", "What ReSTE's lead is made of", "why_the_lead",
             "Our own item: the lead, taken apart into the activations' clip, a gain on the weights, and the curve.",
             _why(table3)),
        ItemSpec("order", "The order of scaling", "order_of_scaling",
             "Our own item: scaled before the convolution, the gradient of a binary network hangs on one last bit."),
        ItemSpec("lemma", "Lemma 3.1", "lemma_estimating_error", "The estimating error never grows with o."),
        ItemSpec("deploy", "One bit for real", "deploy_one_bit",
             "Our own item: packed 1-bit models are smaller and faster, with identical predictions.",
             {row: table1[row] for row in (
                 "resnet20-1w1a", "resnet20-fp", "resnet18-1w1a", "resnet18-fp", "vgg-small-1w1a", "vgg-small-fp")}),
    ]  # fmt: skip
    return {item.name: item for item in items}


ITEMS = _items()


def default_seeds(item: str, profile: str) -> tuple[int, ...]:
    """The seeds that a profile runs an item with."""
    known("profile", profile, PROFILES)
    costly = (item == "table2" and profile != "paper") or (item, profile) == ("figure4", "demo")
    return (0,) if costly else PROFILES[profile].seeds


def recipe(name: str, profile: str = "demo", seed: int = 0, **overrides: Any) -> Recipe:
    """The recipe of ``item/row``, e.g. ``recipe("table1/resnet20-1w1a", profile="demo", epochs=3)``.

    Any field of :class:`Recipe` can be overridden; estimators also by name or as a dict. Where ``warmup_epochs`` is not
    given, it is the paper's or a tenth of the epochs, whichever is less.

    Raises ``ValueError`` for an unknown item, row, profile or field, naming what is accepted.
    """
    item, row = _parted(name)
    known("profile", profile, PROFILES)
    rows = ITEMS[item].rows
    values = {**PROFILES[profile].fields, **(PROFILES[profile].imagenet if item == "table2" else {})}
    values |= {key: value for key, value in rows[row].items() if key not in PROFILES}
    values |= rows[row].get(profile, {})
    values |= parsed(overrides)
    if labels := [label for label in LABELS if label in overrides]:
        raise ValueError(f"{', '.join(labels)}: the name and the profile of a recipe say that, no override does")
    if "warmup_epochs" not in overrides and isinstance(values["epochs"], Real):  # anything else: Recipe refuses it
        values["warmup_epochs"] = min(values.get("warmup_epochs", 5.0), values["epochs"] / 10)
    return Recipe(**{**values, "item": item, "row": row, "profile": profile, "seed": seed})


def _parted(name: str) -> tuple[str, str]:
    """Item and row of ``item/row``; ``ValueError`` where either is unknown or missing."""
    item, slash, row = name.partition("/")
    having = [each for each in ITEMS if name in ITEMS[each].rows]
    if having and item not in ITEMS:
        listed = " and ".join(filter(None, (", ".join(having[:-1]), having[-1])))
        raise ValueError(f"{name!r}, expected ITEM/ROW; {listed} {'have' if having[1:] else 'has'} this row")
    known("item", item, ITEMS)
    rows = ITEMS[item].rows
    if not rows:
        raise ValueError(f"item {item!r} has no training runs")
    if not slash:
        raise ValueError(f"{name!r}: name a row too: {item}/{next(iter(rows))}; the rows are {', '.join(rows)}")
    known(f"row of {item}", row, rows)
    return item, row


def item_recipes(
    item: str,
    profile: str = "demo",
    rows: str | Iterable[str] = "",
    seeds: str | Iterable[int] = "",
    epochs: int = 0,
    overrides: str = "",
    **fields: Any,
) -> list[Recipe]:
    """Every recipe of an item, row by row and seed by seed. ``rows`` and ``seeds`` are "a,b" or sequences; empty means
    all rows and the profile's seeds; ``epochs`` 0 means the profile's. ``overrides`` ("accumulate=2,lr=0.05") and
    ``fields`` change fields of every recipe.
    """
    known("item", item, ITEMS)
    chosen = _listed("rows", rows, "ste,reste") or list(ITEMS[item].rows)
    asked = _listed("seeds", seeds, "0,1,2")
    usual = default_seeds(item, profile)
    try:
        numbers = [int(seed) for seed in asked] or list(usual)
    except ValueError as error:
        raise ValueError(f"seeds = {seeds!r}, expected whole numbers such as 0,1,2") from error
    changed = settings(overrides) | fields | ({"epochs": epochs} if epochs else {})
    if taken := [name for name in ("name", "seed") if name in changed]:
        raise ValueError(f"{taken[0]}: rows and seeds say what is trained, no override does")
    return [recipe(f"{item}/{row}", profile, seed, **changed) for row in chosen for seed in numbers]


def _listed(what: str, values: str | Iterable, example: str) -> list[str]:
    if not isinstance(values, Iterable):
        raise ValueError(f"{what} = {values!r}, expected text such as '{example}', or a list")
    parts = values.replace(",", " ").split() if isinstance(values, str) else [str(value) for value in values]
    return list(dict.fromkeys(parts))


def known(what: str, value: str, accepted: Iterable[str]) -> None:
    """Raise ``ValueError``, naming what is accepted, where ``value`` is not among it."""
    if value not in list(accepted):  # a list: a value that has no hash is none of them either
        raise ValueError(f"unknown {what} {value!r}; known: {', '.join(accepted)}")
