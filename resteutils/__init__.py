"""ReSTE Reproduced: estimators, binary layers, models and training for *Estimator Meets Equilibrium Perspective* (ICCV
2023).

Importing this package costs little more than importing torch; everything else loads where it is used. Modules that
``RESTEUTILS_IMPORT`` names are imported with it, so that estimators and rows of yours are known to every command,
notebook and worker.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from resteutils.system import extensions

if extensions.started_by_command():
    extensions.import_torch()

from resteutils.estimators import (
    DSQ,
    EDE,
    ESTIMATORS,
    FDA,
    RBNN,
    STE,
    ApproxSign,
    Estimator,
    GainSTE,
    ReSTE,
    SwishSign,
    estimator,
)
from resteutils.models import MODELS, create, register_model, summary
from resteutils.nn.annealing import AnnealCallback, AnnealScheduler
from resteutils.nn.binarize import binarize, sign
from resteutils.nn.convert import binarize_model, restore_model
from resteutils.nn.indicators import estimating_error, gradient_instability, gradient_spread, zone_shares
from resteutils.nn.layers import BinaryConv1d, BinaryConv2d, BinaryLinear, anneal, binary_layers

if TYPE_CHECKING:
    from resteutils.data.sources import DATASETS, register_dataset
    from resteutils.onebit.model import pack
    from resteutils.recipes import ITEMS, PROFILES, Recipe, item_recipes, recipe
    from resteutils.results.folder import Item, parameters
    from resteutils.runs.store import Run, finished_runs, load_or_train, run_item

__version__ = "0.2.0"

# Names that load their module on first use, so that importing the package stays cheap.
_LAZY = {
    "Recipe": "recipes",
    "ITEMS": "recipes",
    "PROFILES": "recipes",
    "item_recipes": "recipes",
    "recipe": "recipes",
    "Run": "runs.store",
    "finished_runs": "runs.store",
    "load_or_train": "runs.store",
    "run_item": "runs.store",
    "pack": "onebit.model",
    "DATASETS": "data.sources",
    "register_dataset": "data.sources",
    "Item": "results.folder",
    "parameters": "results.folder",
}

__all__ = [
    "DSQ",
    "EDE",
    "ESTIMATORS",
    "FDA",
    "MODELS",
    "RBNN",
    "STE",
    "AnnealCallback",
    "AnnealScheduler",
    "ApproxSign",
    "BinaryConv1d",
    "BinaryConv2d",
    "BinaryLinear",
    "Estimator",
    "GainSTE",
    "ReSTE",
    "SwishSign",
    "anneal",
    "binarize",
    "binarize_model",
    "binary_layers",
    "create",
    "estimating_error",
    "estimator",
    "gradient_instability",
    "gradient_spread",
    "register_model",
    "restore_model",
    "sign",
    "summary",
    "zone_shares",
    "Recipe",
    "ITEMS",
    "PROFILES",
    "item_recipes",
    "recipe",
    "Run",
    "finished_runs",
    "load_or_train",
    "run_item",
    "pack",
    "DATASETS",
    "register_dataset",
    "Item",
    "parameters",
]


if not TYPE_CHECKING:  # a checker is to refuse names that are not there

    def __getattr__(name: str):
        if name in _LAZY:
            return getattr(importlib.import_module(f"resteutils.{_LAZY[name]}"), name)
        raise AttributeError(f"module 'resteutils' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if not extensions.started_by_command():
    extensions.load()
