"""What a recipe names, made: its network and its data."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import nn

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
    data_dir: str = "",
    device: torch.device | str = "cpu",
    patience: Callable[[], None] = lambda: None,
):
    """The recipe's dataset: in memory on ``device``, or streamed from a folder of images, whose first check takes long:
    ``patience`` may end it by raising.
    """
    from resteutils.data.folder import FOLDERS, open_folder

    if recipe.dataset in FOLDERS:
        for name, expected in (("normalization", "imagenet"), ("in_channels", 3)):
            if getattr(recipe, name) != expected:
                raise ValueError(f"{name} = {getattr(recipe, name)!r}, a folder of images needs {expected!r}")
        return open_folder(
            recipe.dataset, data_dir, recipe.image_size, recipe.num_classes, recipe.train_size, recipe.test_size,
            recipe.holdout, recipe.augment, recipe.workers, device, patience,
        )  # fmt: skip
    from resteutils.data.images import open_images

    images = open_images(
        recipe.dataset, data_dir, recipe.train_size, recipe.test_size, recipe.holdout,
        recipe.augment, recipe.padding, recipe.normalization,
    )  # fmt: skip
    shape = (recipe.in_channels, recipe.image_size, recipe.image_size)
    if tuple(images.train_images.shape[1:]) != shape or images.num_classes != recipe.num_classes:
        raise ValueError(
            f"the recipe expects images {shape} in {recipe.num_classes} classes, {recipe.dataset} has "
            f"{tuple(images.train_images.shape[1:])} in {images.num_classes}"
        )
    return images.to(device)
