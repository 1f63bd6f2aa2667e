"""Memory of a training step: the most that tensors take at once, and what is kept for the backward pass."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import torch

from benchmarks.networks import CASES, VARIANTS, Case, chosen, training_step
from benchmarks.ratios import Row, steady

__all__ = ["kept_bytes", "peak_bytes", "rows"]

PAIRS = (
    ("ours, eager", "float twin, eager", 1.15),
    ("ours, compiled", "float twin, compiled", 1.15),
    ("authors' formulation", "float twin, eager", None),
)


def rows(full: bool) -> Iterator[Row]:
    for case in CASES if full else CASES[:1]:
        found = {}
        for name, variant in chosen(tuple({name: None for pair in PAIRS for name in pair[:2]})).items():
            step = training_step(case, variant)
            step()
            found[name] = peak_bytes(step) / 1e6, kept_bytes(step) / 1e6
        for name, twin, target in PAIRS:
            for what, index in (("peak of a step", 0), ("kept for backward", 1)):
                values = found[name][index], found[twin][index]
                aim = target if index == 0 else None
                yield steady("memory", f"{case}, {what}", name, twin, values, "MB", target=aim)
        if full:
            ours, twin = PAIRS[0][:2]
            values = process_megabytes(case, ours), process_megabytes(case, twin)
            yield steady("memory", f"{case}, whole process", ours, twin, values, "MB")


def peak_bytes(step: Callable[[], object]) -> int:
    """The most bytes of tensors at any moment of a step, beyond those that were there before it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def kept_bytes(step: Callable[[], object]) -> int:
    """Bytes of the distinct memory blocks that a step keeps for its backward pass."""
    blocks = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        blocks[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step()
    return sum(blocks.values())


def process_megabytes(case: Case, name: str) -> float:
    """Largest resident size of a fresh process that runs three steps, in MB."""
    code = (
        f"from benchmarks.memory import in_a_fresh_process; in_a_fresh_process({case.name!r}, {case.batch}, {name!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    return json.loads(done.stdout.splitlines()[-1])


def in_a_fresh_process(name: str, batch: int, variant: str) -> None:
    import resource

    step = training_step(Case(name, batch), VARIANTS[variant])
    for _ in range(3):
        step()
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(size / (1e6 if sys.platform == "darwin" else 1e3))
