"""Where a run stands: its learning rate and its place on the estimator's path, both pure functions of the step."""

from __future__ import annotations

import math

from resteutils.recipes import Recipe

__all__ = ["learning_rate", "path_progress"]


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of step ``step`` (from 0), ``steps`` being those of one epoch.

    Linear warm-up over ``warmup_epochs``, then cosine to 0. ``schedule="epoch"`` keeps it constant within an epoch, as
    the authors do: lr/5, 2 lr/5, ... lr in a warm-up of five epochs. ``schedule="step"`` moves it with every step.

    DEVIATION(D6): the authors' scheduler lags eight epochs behind its own warm-up; this one does not.
    """
    per_epoch = recipe.schedule == "epoch"
    place = step // steps if per_epoch else step / steps
    finished = place + (1 if per_epoch else 1 / steps)  # the warm-up counts the step that is being made
    if recipe.warmup_epochs and place < recipe.warmup_epochs:
        return recipe.lr * min(1.0, finished / recipe.warmup_epochs)
    share = (place - recipe.warmup_epochs) / max(recipe.epochs - recipe.warmup_epochs, 1e-12)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * share))


def path_progress(recipe: Recipe, step: int, steps: int) -> float:
    """Share of the estimator's path at step ``step``, in [0, 1].

    ``schedule="epoch"``: epoch/epochs, as the authors', which never quite reaches 1. ``schedule="step"``: from 0 at the
    first step to 1 at the last, so that a short run goes all the way.
    """
    if recipe.schedule == "epoch":
        return (step // steps) / recipe.epochs
    return min(1.0, step / max(recipe.epochs * steps - 1, 1))
