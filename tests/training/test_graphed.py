"""A whole update as one graph: on a CPU, operations recorded and repeated, it trains as the update itself does."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.recorded import recorded
from helpers.tiny import tiny
from torch import nn

import resteutils as ru
from resteutils import kernels
from resteutils.recipes.build import open_data
from resteutils.training import graphed
from resteutils.training import loop as module
from resteutils.training.epoch import Sums, measured_steps
from resteutils.training.graphed import GraphedUpdate
from resteutils.training.loop import _Loop
from resteutils.training.processes import Processes
from resteutils.training.stopping import NonFinite
from resteutils.training.switches import numerics
from resteutils.training.tracking import NoTracker

CPU = torch.device("cpu")


class Repeated(GraphedUpdate):
    """Recorded and launched without a GPU."""

    launches = 0

    def _captured(self, work):
        repeat = recorded(work)

        def launch() -> None:
            self.launches += 1
            repeat()

        return launch

    def _aside(self):
        return contextlib.nullcontext()


@pytest.fixture(autouse=True)
def as_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network, whose binary layer reads its coefficients from tensors, as compiled ones do."""

    def build(recipe, classes: int) -> nn.Module:
        torch.manual_seed(0)
        stem, layer = nn.Conv2d(recipe.in_channels, 4, 3), ru.BinaryConv2d(4, 4, 3, estimator=recipe.estimator)
        return nn.Sequential(stem, nn.BatchNorm2d(4), layer, nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, classes))

    monkeypatch.setattr(module, "build_model", build)
    exact = module.learning_rate  # as it is in float32, where the graph reads it
    monkeypatch.setattr(module, "learning_rate", lambda *at: float(np.float32(exact(*at))))
    monkeypatch.setattr(ru.BinaryConv2d, "_live_coefficients", lambda layer: layer.coefficients.unbind())
    monkeypatch.setattr(kernels, "ready", lambda: False)


def trained(folder: Path, graph: bool, spoilt: int = -1, **fields) -> tuple[_Loop, Sums]:
    """Two epochs of eight whole batches and an odd one; the image of step ``spoilt`` is not finite."""
    recipe = tiny(train_size=8 * 8 + 5, batch_size=8, epochs=2, schedule="step", packed_forward=False, **fields)
    data = open_data(recipe)
    loop = _Loop(recipe, folder, CPU, data, Processes(), NoTracker(), lambda line: None, False)
    loop.graph = Repeated(loop.update, loop.optimizer) if graph else None
    sums = Sums({}, CPU)
    with numerics(recipe, CPU):
        for epoch in range(recipe.epochs):
            loop.state.epoch, loop.state.step = epoch, 0
            for images, labels in data.train_batches(recipe.batch_size, recipe.seed, epoch):
                if loop.global_step == spoilt:
                    images = images.fill_(float("nan"))
                loop.train_step(images, labels, sums, loop.state.step in measured_steps(loop.steps))
    return loop, sums


@pytest.mark.parametrize(
    "fields", [{}, {"optimizer": "adamw", "lr": 1e-3, "accumulate": 2}], ids=["sgd", "adamw, in two parts"]
)
def test_a_recorded_update_trains_as_the_update_itself(tmp_path: Path, fields: dict) -> None:
    """With o and learning rate moving, odd batches, and indicators between gradients and update."""
    (plain, expected), (loop, sums) = (trained(tmp_path, graph, **fields) for graph in (False, True))
    assert loop.graph.launches == 18 - 2 - 2 - graphed.WARM_UPS  # without odd batches and measured steps
    for (name, value), other in zip(loop.model.state_dict().items(), plain.model.state_dict().values(), strict=True):
        assert value.equal(other), name
    assert (sums.loss, sums.correct, sums.plain) == (expected.loss, expected.correct, expected.plain)
    assert all(isinstance(group["lr"], float) for group in loop.optimizer.param_groups)  # as checkpoints keep it


def test_a_number_of_python_in_the_update_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coefficients as the uncompiled network takes them stay where they were at the recording."""
    monkeypatch.setattr(ru.BinaryConv2d, "_live_coefficients", lambda layer: layer._values())
    plain, loop = (trained(tmp_path, graph)[0] for graph in (False, True))
    expected = dict(plain.model.named_parameters())
    assert any((value - expected[name]).abs().max() > 1e-4 for name, value in loop.model.named_parameters())


def test_a_recorded_update_tells_the_step_whose_loss_is_not_finite(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(_Loop, "raise_if_bad", lambda self: None)  # as on a GPU, between its looks
    loop, _ = trained(tmp_path, True, spoilt=12)
    monkeypatch.undo()
    assert loop.graph.launches
    with pytest.raises(NonFinite) as error:
        loop.raise_if_bad()
    assert error.value.step == 12
