"""Where the time of a compiled ResNet-20 step goes: ``python -m benchmarks.parts``, on an idle machine.

Times are those of torch's profiler, each operation without those that it calls.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.networks import CASES, VARIANTS, training_step
from benchmarks.step import TABLES

__all__ = ["parts"]

STEPS, UNTIMED = 6, 4
# The first of these that is in an operation's name says to which part it belongs.
PARTS = {
    "resteutils::conv2d": "binary layers, forward pass on packed bits",
    "resteutils::": "binary layers, gradients by tables",
    "convolution_backward": "convolutions of floats, backward",
    "convolution": "convolutions of floats, forward",
    "CompiledFxGraph": "BatchNorm, ReLU, signs, slopes: compiled loops",
    "sgd": "optimizer",
    "Optimizer": "optimizer",
    "softmax": "loss",
    "nll_loss": "loss",
}


def parts(variant: str) -> Counter[str]:
    """Milliseconds of a step by part."""
    torch.compiler.reset()
    step = training_step(CASES[0], VARIANTS[variant])
    for _ in range(UNTIMED):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(STEPS):
            step()
    spent: Counter[str] = Counter()
    for event in seen.key_averages():
        part = next((part for name, part in PARTS.items() if name in event.key), "everything else")
        spent[part] += event.self_cpu_time_total / STEPS / 1000
    return spent


if __name__ == "__main__":
    ArgumentParser(description=__doc__).parse_args()
    ours, twin = parts(TABLES), parts("float twin, compiled")
    print(f"{CASES[0]}, {torch.get_num_threads()} threads\n")
    print("| part | ours, ms | float twin, ms |\n| --- | ---: | ---: |")
    for part in dict.fromkeys([*(part for part, _ in ours.most_common()), *twin]):
        print(f"| {part} | {ours[part]:.1f} | {twin[part]:.1f} |")
    print(f"| all of it | {ours.total():.1f} | {twin.total():.1f} |")
