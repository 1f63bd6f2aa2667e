"""A whole training step: forward, loss, backward, SGD with momentum."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.networks import CASES, Case, chosen, training_step
from benchmarks.ratios import Row, row
from resteutils.onebit.timing import interleaved

__all__ = ["rows"]

AUTHORS, OURS = "authors' formulation", "ours, compiled"
QUICK = (AUTHORS, "float twin, eager", "float twin, compiled", "clipped STE, eager", "ours, eager", OURS)
TABLES = "ours, compiled, packed forward, table gradients"
PACKED = ("ours, compiled, packed forward", TABLES)
REST = (
    "clipped STE, compiled",
    "ours, eager, channels last",
    "ours, eager, packed forward",
    "ours, compiled, channels first",
    "ours, compiled, bf16 autocast",
)
FASTER = {"resnet20": 2.7, "resnet18": 1.9, "vgg_small": 1.5}  # than the authors' formulation, at least
SHARE = {"resnet20": 0.98, "resnet18": 0.80, "vgg_small": 0.68}  # of the float twin's time, on bits and tables, at most


def rows(full: bool) -> Iterator[Row]:
    for case in CASES:
        torch.compiler.reset()
        names = QUICK + PACKED + (REST if full else ())
        variants = {name: training_step(case, variant) for name, variant in chosen(names).items()}
        samples = interleaved(variants, repeats=15 if full else 9, warmup=2, budget=300 if full else 60)
        yield from _ratios(case, samples)


def _ratios(case: Case, samples: dict) -> Iterator[Row]:
    ours = [name for name in samples if name.startswith("ours")]
    images = {name: f"{case.batch / timed.median:.0f} images/s" for name, timed in samples.items()}
    for name in ours:
        yield row(
            "step", str(case), samples, name, AUTHORS, target=1 / FASTER[case.name] if name == OURS else None,
            note=f"{images[name]} against {images[AUTHORS]}",
        )  # fmt: skip
    for name in ours:
        style = "compiled" if "compiled" in name else "eager"
        twin, ste = f"float twin, {style}", f"clipped STE, {style}"
        target = {OURS: 1.25, TABLES: SHARE[case.name]}.get(name)
        yield row("step", str(case), samples, name, twin, target=target, note=images[name])
        if ste in samples:
            yield row("step", str(case), samples, name, ste, target=1.35 if name == "ours, eager" else None)
    yield row("step", str(case), samples, OURS, "ours, eager")
    yield row("step", str(case), samples, "float twin, eager", AUTHORS, note=images["float twin, eager"])
