"""torch.compile for GPUs that are not there: two epochs of a small network, and one step of it looked at closely.

PYTHONPATH=. python tests/gpu/compiled.py MODE [small | breaks | recompiles | MODEL [BITS]]; under torchrun on as many
GPUs as processes
"""

from __future__ import annotations

import contextlib
import os
import sys

import torch
from steps import integral, look, made_loop
from torch import nn

import resteutils as ru
from benchmarks.gpu import fakecuda
from resteutils.recipes import Recipe
from resteutils.training import gpu
from resteutils.training import loop as training
from resteutils.training.device import resolve_device
from resteutils.training.epoch import Sums, evaluate
from resteutils.training.processes import processes
from resteutils.training.switches import numerics

TRAIN, TEST = 5 * 8 + 5, 12  # five whole batches and an odd one


def small(recipe: Recipe) -> list[nn.Module]:
    """Two binary layers and what lies between."""
    layers = []
    for into, out in ((3, 16), (16, 16)):
        layer = ru.BinaryConv2d(into, out, 3, padding=1, estimator=recipe.estimator)
        layers += [layer, nn.ReLU(inplace=True), nn.BatchNorm2d(out)]
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]


class Flawed(nn.Sequential):
    """With what a compiler must not meet."""

    def __init__(self, layers: list[nn.Module], flaw: str) -> None:
        super().__init__(*layers)
        self.flaw, self.number = flaw, 1

    def forward(self, x):
        if self.flaw == "breaks":
            torch._dynamo.graph_break()
        if self.flaw == "recompiles":
            self.number = 3 - self.number  # 1 and 2 in turn: two graphs, however often it was called before
            x = x * self.number
        return super().forward(x)


def build(name: str):
    """What takes the place of ``build_model``; the small network is as plain an ``nn.Sequential`` as VGG-small."""
    if name in ru.MODELS:
        return training.build_model
    return lambda recipe, classes: nn.Sequential(*small(recipe)) if name == "small" else Flawed(small(recipe), name)


def main(mode: str, network: str = "small", bits: str = "1/1") -> None:
    training._Loop.raise_if_bad = look
    gpu.integral = integral
    training.build_model = build(network)
    model = {"model": network, "bits": bits} if network in ru.MODELS else {}
    usual = {"batch_size": 8, "epochs": 3, "schedule": "step", "warmup_epochs": 1, "eval_batch_size": 6}
    recipe = Recipe(compile=mode, **usual, **model)
    counters = torch._dynamo.utils.counters
    device = resolve_device("cuda")
    with processes(device) as group, numerics(recipe, device):
        with fakecuda.watched() as whole:
            loop = made_loop(recipe, TRAIN, TEST, group)
            loop.restore()
            sums = Sums({}, device)
            for epoch in range(2):
                loop.model.train()
                for batch in loop.data.train_batches(8, 0, epoch, 0, group.rank, group.world):
                    loop.train_step(*batch, sums, False)
                loop.state.epoch, loop.state.step = epoch + 1, 0
                with contextlib.suppress(ZeroDivisionError):  # nothing is counted where nothing computes
                    evaluate(loop.model, loop.data, recipe, group)
        loop.model.train()
        batches = loop.data.train_batches(8, 0, 2, 0, group.rank, group.world)
        loop.train_step(*next(batches), sums, False)
        with fakecuda.watched() as found:
            loop.train_step(*next(batches), sums, False)
    if group.leads:
        graphs, breaks = counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
        print("GRAPHS", graphs, "breaks", breaks, "captures", whole.total("graph capture"), end=" ")
        print("illegal", whole.total("ILLEGAL"), "launches", found.graphs[0], "inside", found.graphs[1], end=" ")
        print("kernels", found.kernels, end=" ")
        print("copies", found.total("pageable->device"), "waits", found.total("WAIT"), "nccl", found.total("NCCL"))
        for reason, count in counters["graph_break"].items():
            print("    break", count, " ".join(reason.split())[:400])
        for (what, who), count in found.blame.items():
            print("   ", count, what, who, flush=True)


if __name__ == "__main__":
    if not fakecuda.loaded():
        sys.exit(fakecuda.run([__file__, *sys.argv[1:]], int(os.environ.get("LOCAL_WORLD_SIZE", "1"))).returncode)
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)
