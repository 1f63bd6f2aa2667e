"""What training/test_distributed.py runs in two processes: ``torchrun --nproc-per-node=2 two_processes.py FOLDER``."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from helpers.tiny import tiny

from resteutils.data.images import Images
from resteutils.recipes.build import build_model, open_data
from resteutils.training import loop as training
from resteutils.training.epoch import evaluate
from resteutils.training.loop import train
from resteutils.training.processes import Processes
from resteutils.training.syncbn import SyncedBatchNorm

# 23 images in batches of 8: the last batch gives the processes 4 and 3 of them.
RECIPE = tiny(train_size=23, test_size=9, batch_size=8, eval_batch_size=4)
SIZES = (1, 2, 7, 20)
NORMALISED = (7, 5, 3, 2)  # images that BatchNorm sees: 4 of them in one process and 3 in the other
ACCUMULATED = tiny(train_size=22, batch_size=22, epochs=1, warmup_epochs=0, lr=0.05, momentum=0, weight_decay=0)


class Doubles(Images):
    """Images as float64."""

    def normalise(self, images):
        return super().normalise(images).double()


@contextmanager
def float64():
    """Networks and images in float64: what remains of a difference is no rounding."""
    built, opened = training.build_model, training.open_data
    training.build_model = lambda *arguments: built(*arguments).double()
    training.open_data = lambda *arguments: Doubles(**vars(opened(*arguments)))
    try:
        yield
    finally:
        training.build_model, training.open_data = built, opened


@contextmanager
def frozen_statistics():
    """BatchNorm that normalises with its running statistics, in training too: images no longer see each other."""
    built = training.build_model

    def frozen(*arguments):
        model = built(*arguments)
        for part in model.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                part.train(False)
                part.train = lambda mode=True, part=part: part
        return model

    training.build_model = frozen
    try:
        yield
    finally:
        training.build_model = built


def trained(recipe, folder: Path):
    model, history, _ = train(recipe, folder, "cpu", say=lambda line: None, show=False)
    return {"model": dict(model.state_dict()), "history": history}


def normalised(layer: torch.nn.Module, rank: int = 0, world: int = 1) -> dict[str, torch.Tensor]:
    """Two steps of a BatchNorm on every ``world``-th image: output, gradients and buffers."""
    draw = torch.Generator().manual_seed(1)
    for _ in range(2):
        x, grad = 3 * torch.randn(2, *NORMALISED, generator=draw, dtype=torch.float64) + 1
        x = x[rank::world].requires_grad_()
        layer.zero_grad()
        out = layer(x)
        out.backward(grad[rank::world])
    evaluated = layer.eval()(x).detach()
    gradients = {f"grad {name}": value.grad for name, value in layer.named_parameters()}
    return {"out": out.detach(), "evaluated": evaluated, "grad x": x.grad, **gradients, **dict(layer.named_buffers())}


def batchnorm() -> torch.nn.Module:
    layer = torch.nn.BatchNorm2d(NORMALISED[1]).double()
    layer.weight.data.copy_(torch.linspace(0.5, 2, NORMALISED[1]))
    return layer


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    group = Processes(dist.get_rank(), dist.get_world_size(), dist.get_rank())
    found = {}
    with float64():
        found["trained"] = trained(RECIPE, folder / "run")
        with frozen_statistics():
            found["accumulated"] = trained(ACCUMULATED, folder / "accumulated")["model"]
    model = build_model(RECIPE)
    for size in SIZES:
        recipe = tiny(test_size=size, eval_batch_size=3)
        found[f"evaluated {size}"] = evaluate(model, open_data(recipe), recipe, group)
    found["normalised"] = normalised(SyncedBatchNorm.of(batchnorm()), group.rank, group.world)
    torch.save(found, folder / f"rank{group.rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
