"""Timing side by side: variants take turns, so that what disturbs one disturbs all; ratios are formed turn by turn."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

__all__ = ["Samples", "interleaved", "quartiles", "race"]


@dataclass(frozen=True)
class Samples:
    """Seconds of each turn."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)

    def over(self, other: Samples) -> tuple[float, float, float]:
        """Quartiles of the ratios to a variant that took turns with this one."""
        return quartiles(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of the values themselves: never beyond the smallest or largest."""
    values = list(values)
    if len(values) < 2:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def interleaved(
    variants: dict[str, Callable[[], object]], repeats: int, warmup: int = 1, budget: float = 0.0, lead: int = 0
) -> dict[str, Samples]:
    """Seconds per call of each variant, called in turn ``repeats`` times after ``warmup`` turns.

    Odd turns go backwards, so that no variant always follows the same one. ``lead`` calls that are not timed come
    before each that is. ``budget`` in seconds ends early, after at least three turns.
    """
    for _ in range(warmup):
        for call in variants.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    finish = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    begun = time.monotonic()
    with _no_collection():
        for turn in range(repeats):
            for name in list(variants)[:: -1 if turn % 2 else 1]:
                for _ in range(lead):
                    variants[name]()
                finish()
                start = time.perf_counter()
                variants[name]()
                finish()
                seconds[name].append(time.perf_counter() - start)
            if budget and turn >= 2 and time.monotonic() - begun > budget:
                break
    return {name: Samples(tuple(values)) for name, values in seconds.items()}


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def race(
    packed: Callable[[], object],
    floats: Iterable[Callable[[], object]],
    repeats: int,
    budget: float = 0.0,
    lead: int = 0,
) -> dict[str, float]:
    """Packed bits beside float32 (or INT8), whose variant with the smallest median counts; nothing is differentiated.

    ``packed_ms`` and ``float_ms`` are medians, ``times_faster`` is the median of float / packed turn by turn, ``low``
    and ``high`` are its quartiles, ``turns`` says of how many.
    """
    variants = {"packed": packed} | {f"float {number}": call for number, call in enumerate(floats)}
    with torch.inference_mode():
        samples = interleaved(variants, repeats, warmup=2, budget=budget, lead=lead)
    bits = samples.pop("packed")
    best = min(samples.values(), key=lambda found: found.median)
    low, middle, high = best.over(bits)
    medians = {"packed_ms": 1e3 * bits.median, "float_ms": 1e3 * best.median}
    return medians | {"times_faster": middle, "low": low, "high": high, "turns": len(bits.seconds)}
