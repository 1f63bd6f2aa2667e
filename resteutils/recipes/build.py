"""What a recipe names, made: its network and its data."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import torch
from torch import nn

from resteutils.data.base import Data
from resteutils.data.sources import DATASETS, Options
from resteutils.models import create
from resteutils.recipes import Recipe

__all__ = ["build_model", "open_data"]

_SEEDING = threading.Lock()  # the explorer builds networks beside its training thread, from one global random state


def build_model(recipe: Recipe, num_classes: int = 0) -> nn.Module:
    """The recipe's network, initialised from its seed, on the CPU; the global random state is left as it was."""
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return create(
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
