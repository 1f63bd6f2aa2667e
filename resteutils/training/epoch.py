"""What is counted while an epoch runs, and how it becomes one row of the history.

The columns, of the epoch as a whole unless said otherwise: ``epoch`` from 1; ``progress`` on the estimator's path in
[0, 1], ``lr`` and ``o`` (NaN where the estimator has none) of its last step; ``train_loss`` a nat per image and
``train_top1`` in %, in training mode and with augmentation; ``test_loss``, ``test_top1``, ``test_top5`` in evaluation
mode; ``error_...``, ``instability_...`` and ``spread`` (:mod:`resteutils.nn.indicators`) in two readings, see
:func:`epoch_row`; the shares of the weights in ReSTE's zones; ``seconds`` with evaluation, ``images_per_second``
without.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resteutils.nn import indicators
from resteutils.nn.layers import binary_layers
from resteutils.onebit.model import pack
from resteutils.recipes import Recipe
from resteutils.system.defaults import torch_defaults
from resteutils.system.files import write_atomic
from resteutils.training.device import Execution
from resteutils.training.processes import Processes

__all__ = ["Sums", "epoch_row", "evaluate", "measured_steps", "write_history"]

COMPARED = 32  # test images whose predictions on packed bits are compared with the modules'
INDICATOR_BATCHES = 16  # batches of an epoch over which the indicators "as defined" are averaged


class Sums:
    """Running sums of an epoch: loss and hits on the device, so that no step waits for a number, and the indicators."""

    def __init__(self, values: dict[str, float], device: torch.device) -> None:
        self.loss = torch.tensor(values.get("loss", 0.0), dtype=torch.float64, device=device)
        self.correct = torch.tensor(values.get("correct", 0), dtype=torch.int64, device=device)
        self.plain = {name: values.get(name, 0) for name in ("images", "error", "instability", "spread", "measured")}
        self.seconds, self.begun = values.get("seconds", 0.0), time.monotonic()

    def add(self, loss: Tensor, correct: Tensor, images: int) -> None:
        self.loss += loss
        self.correct += correct
        self.plain["images"] += images

    def add_indicators(self, model: nn.Module) -> None:
        """After a backward pass and before the update: the weights that the gradients belong to."""
        self.plain["error"] += indicators.estimating_error(model, "definition")
        self.plain["instability"] += indicators.gradient_instability(model, "definition")
        self.plain["spread"] += indicators.gradient_spread(model)
        self.plain["measured"] += 1

    def age(self) -> float:
        """Seconds since these sums were begun, or taken up again at a checkpoint."""
        return time.monotonic() - self.begun

    def values(self, group: Processes) -> dict[str, float]:
        """Plain numbers for the checkpoint and the history, over all processes; the leading process keeps them."""
        counts = torch.stack([self.loss, self.correct.double(), torch.full_like(self.loss, self.plain["images"])])
        loss, correct, images = group.sum(counts).tolist()
        if not group.leads:
            return {}
        whole = {"loss": loss, "correct": int(correct), "images": int(images)}
        return {**self.plain, **whole, "seconds": self.seconds + self.age()}


def measured_steps(steps: int) -> set[int]:
    """Evenly spread steps of an epoch on which the indicators are measured: at most 16, and at most one in eight, so
    that measuring stays cheap in short epochs too.
    """
    count = min(max(steps // 8, 1), INDICATOR_BATCHES)
    return {(2 * i + 1) * steps // (2 * count) for i in range(count)}


def epoch_row(model: nn.Module, sums: dict[str, float], test: dict[str, float]) -> dict[str, float]:
    """The measurements of a finished epoch: loss and top-1 while training, test figures, indicators, zones.

    The indicators' "code" reading is the authors': gradients of the last batch, weights after its update, f at the end
    of its path. "definition" is averaged over up to 16 batches of the epoch. The zones are those of the weights'
    estimator, or of ReSTE's defaults where it has none.
    """
    layers = binary_layers(model)
    now = layers[0][1].current if layers else None
    images, measured = max(sums["images"], 1), max(sums["measured"], 1)
    return {
        "o": getattr(now, "o", math.nan),
        "train_loss": sums["loss"] / images,
        "train_top1": 100 * sums["correct"] / images,
        **{f"test_{name}": value for name, value in test.items()},
        "error_code": indicators.estimating_error(model, "code"),
        "error_definition": sums["error"] / measured,
        "instability_code": indicators.gradient_instability(model, "code"),
        "instability_definition": sums["instability"] / measured,
        "spread": sums["spread"] / measured,
        **indicators.zone_shares(model, *indicators.zone_ends(now)),
    }


def packed_scorer(model: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
    """The network on packed bits, where it predicts of these images what the modules predict; else the modules.

    The modules too where a part has no packed form. Only the last bit of a logit may differ: memory formats pool in
    another order.
    """
    try:
        small = pack(model, input_size=tuple(images.shape[1:]))
    except ValueError:
        return model
    return small if small(images).argmax(1).equal(model(images).argmax(1)) else model


@torch_defaults()
@torch.no_grad()
def evaluate(
    model: nn.Module, data: Any, recipe: Recipe, group: Processes | None = None, packed: bool = False
) -> dict[str, float]:
    """Loss, top-1 and top-5 (both in %) on the test images, each scored once; split over processes without padding.

    ``packed`` scores the network on packed bits where that makes no difference, :func:`packed_scorer`.
    """
    group = group or Processes()
    device = next(model.parameters()).device
    execution = Execution.uncompiled(recipe, device)
    group.copy_from_leader(model.buffers())  # one set of BatchNorm statistics
    training = model.training
    model.eval()
    totals = torch.zeros(4, dtype=torch.float64, device=device)  # loss, top-1, top-5, images
    score = None if packed else model
    for images, labels in data.test_batches(recipe.eval_batch_size, group.rank, group.world):
        images = execution.place(images)
        with execution.autocast():
            score = score or packed_scorer(model, images[:COMPARED])
            logits = score(images).float()
        labels = labels.to(device)
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels.unsqueeze(1)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        totals += torch.stack([loss, best[:, 0].sum(), best.sum(), torch.full((), len(labels), device=device)])
    model.train(training)
    loss, top1, top5, images = group.sum(totals).tolist()
    return {"loss": loss / images, "top1": 100 * top1 / images, "top5": 100 * top5 / images}


def write_history(path: Path, rows: list[dict[str, float]]) -> None:
    """One line per finished epoch, as CSV, for people: checkpoint and record hold the history that is read again."""
    lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
    write_atomic(path, "\n".join(lines) + "\n")
