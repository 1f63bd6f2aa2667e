"""The facts that tie stored runs to recipes, as literals: a change here orphans every record that is committed."""

from __future__ import annotations

from resteutils.recipes import Recipe
from resteutils.recipes.definition import EXECUTION, LABELS

# What a recipe is without a word about it. A new field comes with a default that keeps the old runs as they were.
DEFAULTS = {
    "item": "", "row": "", "profile": "demo", "model": "resnet20", "bits": "1/1",
    "estimator": {"name": "reste", "o": 3.0, "t": 1.5, "m": 0.1, "path": "cosine"}, "input_estimator": None,
    "scale": "layer", "scale_order": "after", "standardize": False, "num_classes": 10, "image_size": 32,
    "in_channels": 3, "dataset": "cifar10", "train_size": 0, "test_size": 0, "holdout": 0, "augment": "crop-flip",
    "padding": 4, "normalization": "imagenet", "epochs": 1000, "batch_size": 256, "accumulate": 1, "lr": 0.1,
    "momentum": 0.9, "weight_decay": 1e-4, "warmup_epochs": 5.0, "schedule": "epoch", "precision": "fp32",
    "sync_bn": True, "deterministic": False, "seed": 0, "compile": "auto", "channels_last": "auto",
    "packed_forward": None, "eval_batch_size": 500, "workers": -1, "checkpoint_minutes": 10.0,
    "optimizer": "sgd", "weight_scale": 1.0, "table_gradients": None, "decoder": "pillow",
}  # fmt: skip


def test_the_defaults_are_what_stored_runs_were_trained_with() -> None:
    now = Recipe().to_dict()
    assert {name: now[name] for name in DEFAULTS} == DEFAULTS


def test_what_is_left_out_of_the_identity_is_listed_here() -> None:
    """Anything else in this list would make two trainings one: runs with and without held-out images, for instance."""
    assert LABELS == ("item", "row", "profile")
    assert EXECUTION == (
        "compile",
        "channels_last",
        "packed_forward",
        "table_gradients",
        "eval_batch_size",
        "workers",
        "checkpoint_minutes",
    )
