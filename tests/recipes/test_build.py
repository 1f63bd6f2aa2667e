"""What a recipe makes: the network's first weights and its optimizer."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny

import resteutils as ru
from resteutils.recipes.build import build_model, build_optimizer


def test_weight_scale_scales_the_binary_layers_and_nothing_else() -> None:
    plain, scaled = (build_model(tiny(weight_scale=scale)) for scale in (1.0, 0.25))
    binary = {f"{name}.weight" for name, _ in ru.binary_layers(plain)}
    assert binary
    for (name, before), after in zip(plain.named_parameters(), scaled.parameters(), strict=True):
        assert after.equal(before * 0.25 if name in binary else before), name


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_the_optimizer_is_torchs_with_the_recipes_numbers(name: str, kind: type[torch.optim.Optimizer]) -> None:
    recipe = tiny(optimizer=name, lr=0.02, momentum=0.8, weight_decay=0.03)
    mine, theirs = build_model(recipe), build_model(recipe)
    optimizer = build_optimizer(recipe, mine)
    assert type(optimizer) is kind
    own = {"momentum": 0.8} if name == "sgd" else {"betas": (0.8, 0.999)}
    reference = kind(theirs.parameters(), lr=0.02, weight_decay=0.03, **own)
    for model, each in ((mine, optimizer), (theirs, reference)):
        torch.manual_seed(0)
        for _ in range(2):
            for p in model.parameters():
                p.grad = torch.randn_like(p)
            each.step()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)
