"""What a recipe names, made: its network, its optimizer and its data."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import torch
from torch import nn

from resteutils.data.base import Data
from resteutils.data.sources import DATASETS, Options
from resteutils.models import create
from resteutils.nn.layers import binary_layers
from resteutils.recipes import Recipe
from resteutils.system.defaults import torch_defaults

__all__ = ["build_model", "build_optimizer", "open_data"]

_SEEDING = threading.Lock()  # the explorer builds networks beside its training thread, from one global random state


@torch_defaults()
def build_model(recipe: Recipe, num_classes: int = 0) -> nn.Module:
    """The recipe's network, initialised from its seed, on the CPU; the global random state is left as it was."""
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = create(
            recipe.model,
            recipe.bits,
            recipe.estimator,
            recipe.input_estimator,
            num_classes=num_classes or recipe.num_classes,
            image_size=recipe.image_size,
            in_channels=recipe.in_channels,
            scale=recipe.scale,
            scale_order=recipe.scale_order,
            standardize=recipe.standardize,
        )
    if recipe.weight_scale != 1.0:
        with torch.no_grad():
            for _, layer in binary_layers(model):
                layer.weight.mul_(recipe.weight_scale)
    return model


def build_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer over all of the network's parameters.

    Adam's and AdamW's betas are (``momentum``, 0.999); their epsilon is torch's, 1e-8.
    """
    common = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=recipe.momentum, **common)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(model.parameters(), betas=(recipe.momentum, 0.999), **common)


@torch_defaults()
def open_data(
    recipe: Recipe,
    data_dir: str | os.PathLike = "",
    device: torch.device | str = "cpu",
    patience: Callable[[], None] = lambda: None,
) -> Data:
    """Open the recipe's dataset: in memory on ``device``, or streamed from a folder of images, whose first check takes
    long: ``patience`` may end it by raising. Raises what :meth:`resteutils.data.sources.Dataset.open` raises.
    """
    return DATASETS[recipe.dataset].open(Options.of(recipe), data_dir, device, patience)
