"""e and s of one fixed set of weights at every power: what the power does by itself, without training.

e of frozen weights falls by Lemma 3.1 alone. s of their gradients shows how a network that did not adapt to the power
would be driven; one that is trained at a large power has adapted, or has collapsed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from resteutils.estimators import ReSTE
from resteutils.items.figure2 import one_batch
from resteutils.items.figure4.numbers import POWERS, best_power, first_of_each, network
from resteutils.nn.indicators import READINGS, error_ceilings, estimating_error, gradient_instability
from resteutils.nn.layers import binary_layers
from resteutils.runs.measurements import kept
from resteutils.system.settings import Places

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["at_every_power", "measure"]

COLUMNS = (
    "model weights o error_definition error_code instability_definition instability_code share_definition share_code"
).split()


def measure(runs: Iterable[Any], places: Places) -> pd.DataFrame:
    """e and s of fixed weights at every power: columns model, weights, o, share_definition, share_code, both e, both s.

    ``weights`` is "initial" or "trained"; trained are those of the first seed of the power that the paper recommends,
    trained for the most epochs, where its network is there or was when they were measured. s, the instability of the
    gradients of one training batch, is measured on the trained ones only: it takes the data.
    """
    import pandas as pd

    runs, rows = list(runs), []
    for first in first_of_each(runs):
        model = network(first.recipe)
        found = {"initial": at_every_power(model)}
        best = best_power(first.recipe.model)
        mine = [r for r in runs if r.recipe.model == first.recipe.model and r.recipe.estimator.o == best]
        for run in sorted(mine, key=lambda r: (-r.recipe.epochs, r.recipe.seed))[:1]:
            value = kept("powers", run, functools.partial(_trained, data_dir=str(places.data)), places.results)
            found |= {"trained": value["powers"]} if value else {}
        top = error_ceilings(model)
        for weights, lines in found.items():
            for line in lines:
                shares = {f"share_{reading}": line[f"error_{reading}"] / top[reading] for reading in top}
                rows.append({"model": first.recipe.model, "weights": weights, **line, **shares})
    return pd.DataFrame(rows, columns=COLUMNS)


def _trained(run: Any, data_dir: str) -> dict[str, Any]:
    return {"powers": at_every_power(run.model().train(), one_batch(run.recipe, data_dir))}


def at_every_power(model: nn.Module, batch: tuple[Tensor, Tensor] | None = None) -> list[dict[str, float]]:
    """e of the model's weights under ReSTE at every power, both readings; given a batch (images (B, C, H, W), labels
    (B,)), s of its gradients too. The model's own estimators are put back.
    """
    layers = [layer for _, layer in binary_layers(model)]
    before = [(layer.estimator, layer.input_estimator, layer.progress) for layer in layers]
    found = []
    for o in POWERS:
        for layer in layers:
            layer.set_estimator(ReSTE(o=o))
        found.append({"o": float(o), **{f"error_{r}": estimating_error(model, r) for r in READINGS}})
        if batch is not None:
            model.zero_grad()
            F.cross_entropy(model(batch[0]), batch[1]).backward()
            found[-1] |= {f"instability_{r}": gradient_instability(model, r) for r in READINGS}
    for layer, (weights, activations, progress) in zip(layers, before, strict=True):
        layer.set_estimator(weights, activations)
        layer.set_progress(progress)
    return found
