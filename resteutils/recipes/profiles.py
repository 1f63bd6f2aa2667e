"""The profiles: what a run is worth, what its verdict may claim, and what the budget makes of every recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["PROFILES", "Profile"]

_DIGITS = {
    "dataset": "digits", "image_size": 8, "in_channels": 1, "augment": "crop", "padding": 1,
    "normalization": "dataset", "schedule": "step", "compile": "off",
}  # fmt: skip
# The ImageNet networks need images of at least 32x32: the small profiles use digits written as a folder of image files.
_FOLDER = {"dataset": "digits-folder", "image_size": 32, "in_channels": 3, "augment": "crop-flip", "padding": 0,
           "normalization": "imagenet", "workers": 2}  # fmt: skip
_IMAGENET = {"dataset": "imagenet", "image_size": 224, "warmup_epochs": 0.0}


@dataclass(frozen=True)
class Profile:
    """A budget. ``worth`` says what its runs are; ``claims`` lists the kinds of checks that its verdicts may claim
    (:mod:`resteutils.evidence.verdict`) and ``limit`` says what they may not; ``fields`` and ``imagenet`` are what it
    sets in every recipe, and in those of Table 2; ``seeds`` are the usual ones.
    """

    name: str
    worth: str
    claims: tuple[str, ...]
    limit: str
    seeds: tuple[int, ...]
    fields: dict[str, Any]
    imagenet: dict[str, Any]


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            "smoke",
            worth="a test of the programs",
            claims=("formula",),
            limit="Profile smoke only tests the programs: it says nothing about accuracy.",
            seeds=(0,),
            fields={**_DIGITS, "train_size": 96, "test_size": 60, "epochs": 2, "batch_size": 32},
            imagenet={**_FOLDER, "train_size": 40, "test_size": 20, "batch_size": 20},
        ),
        Profile(
            "demo",
            worth="small digits: shows that everything runs, nothing about accuracy",
            claims=("formula", "pipeline"),
            limit="Profile demo shows that everything runs: it says nothing about accuracy.",
            seeds=(0, 1),
            fields={**_DIGITS, "epochs": 8, "batch_size": 64},
            imagenet={**_FOLDER, "train_size": 720, "test_size": 180, "batch_size": 32, "epochs": 3},
        ),
        Profile(
            "short",
            worth="the paper's data, a fraction of its epochs: orderings and trends",
            claims=("formula", "pipeline", "ordering", "control"),
            limit="Profile short may claim orderings and trends, not the paper's numbers.",
            seeds=(0, 1, 2),
            fields={"epochs": 10, "batch_size": 128, "schedule": "step"},
            imagenet={**_IMAGENET, "num_classes": 0, "epochs": 10, "batch_size": 256},
        ),
        Profile(
            "paper",
            worth="the authors' recipe on the paper's data",
            claims=("formula", "pipeline", "ordering", "control", "number"),
            limit="",
            seeds=(0, 1, 2),
            fields={"epochs": 1000, "batch_size": 256},
            imagenet={**_IMAGENET, "num_classes": 1000, "epochs": 250, "batch_size": 750},
        ),
    )
}
