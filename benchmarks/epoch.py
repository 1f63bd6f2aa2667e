"""An epoch as it is trained: loading, steps, the path of o, counting, indicators."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

import resteutils as ru
from benchmarks import data as bench_data
from benchmarks.authors import loader
from benchmarks.networks import CASES, VARIANTS, build, device
from benchmarks.ratios import Row, row
from resteutils.onebit.timing import interleaved
from resteutils.training.epoch import INDICATOR_BATCHES, Sums, measured_steps
from resteutils.training.processes import Processes

__all__ = ["rows"]

CASE = CASES[0]
STEPS = 10  # of an epoch cut short; images are loaded in proportion


def rows(full: bool) -> Iterator[Row]:
    images = bench_data.images((40 if full else STEPS) * CASE.batch)
    variants = {
        "authors' formulation": _theirs(images),
        "ours, eager": _ours(images, compiled=False),
        "ours, compiled": _ours(images, compiled=True),
    }
    samples = interleaved(variants, repeats=5, warmup=1, budget=240 if full else 60)
    case = f"{CASE}, epoch of {images.train_size:,} images"
    for name in ("ours, eager", "ours, compiled"):
        yield row("epoch", case, samples, name, "authors' formulation", unit="s", scale=1)
    yield _indicators(images)


def _ours(images, compiled: bool) -> Callable[[], None]:
    model = build(CASE, VARIANTS["ours, compiled" if compiled else "ours, eager"])
    network = torch.compile(model, dynamic=False) if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=1e-4, fused=True)
    images.to(device())
    epochs = iter(range(1_000_000))

    def epoch() -> None:
        sums, measured, number = Sums({}, device()), measured_steps(STEPS), next(epochs)
        for step, (x, y) in enumerate(images.train_batches(CASE.batch, 0, number)):
            ru.anneal(model, (0.1 * number + step / 1000) % 1)
            optimizer.zero_grad(set_to_none=True)
            logits = network(x.contiguous(memory_format=torch.channels_last) if compiled else x)
            loss = F.cross_entropy(logits, y)
            loss.backward()
            sums.add(loss.detach(), (logits.detach().argmax(1) == y).sum(), len(y))
            if step in measured and step < 1:  # 1 of 10 is more often than 16 of an epoch's 391
                sums.add_indicators(model)
            optimizer.step()
        sums.values(Processes())

    return epoch


def _theirs(images) -> Callable[[], None]:
    model = build(CASE, VARIANTS["authors' formulation"])
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=1e-4)
    batches = loader(images, CASE.batch)

    def epoch() -> None:
        for x, y in batches:
            x, y = x.to(device()), y.to(device())
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            loss.item(), (logits.argmax(1) == y).sum().item()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def _indicators(images) -> Row:
    """Both indicators and the spread, once, against the step whose gradients they look at."""
    model = build(CASE, VARIANTS["ours, eager"])
    x, y = next(images.train_batches(CASE.batch, 0, 0))
    sums = Sums({}, device())

    def step() -> None:
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y).backward()

    samples = interleaved({"step": step, "indicators": lambda: sums.add_indicators(model)}, 7, 1)
    ratio = samples["indicators"].median / samples["step"].median
    share = ratio * INDICATOR_BATCHES / (50_000 / CASE.batch)
    return row(
        "epoch", f"{CASE}, indicators of one batch", samples, "indicators", "step",
        note=f"measured on {INDICATOR_BATCHES} batches of an epoch: {100 * share:.2f} % of CIFAR-10's epoch",
    )  # fmt: skip
