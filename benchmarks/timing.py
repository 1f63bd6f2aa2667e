"""Timing side by side: variants take turns, so that what disturbs one disturbs all; ratios are formed turn by turn."""

from __future__ import annotations

import contextlib
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

__all__ = ["Row", "Samples", "device", "interleaved", "row", "settle", "steady"]


def device() -> torch.device:
    """Where training steps are measured: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def settle() -> None:
    """Settings for the whole run: numbers too small to matter are zero, and compiled code is kept between runs."""
    from resteutils.settings import runs_dir

    torch.set_flush_denormal(True)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(runs_dir() / "inductor-bench"))


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


@dataclass(frozen=True)
class Row:
    """One ratio: how many times longer ``variant`` takes than ``against``, or needs more of ``unit``.

    ``ratio`` is the median of the ratios turn by turn, ``low`` and ``high`` their quartiles.
    ``target`` is what the ratio should be at most; None where there is none.
    """

    group: str
    case: str
    variant: str
    against: str
    ratio: float
    low: float
    high: float
    value: float  # median of the variant, in `unit`
    reference: float
    unit: str
    repeats: int
    target: float | None = None
    note: str = ""
    axis: str = ""  # what is varied, in rows that are points of a curve,
    at: float | None = None  # and its value

    @property
    def reached(self) -> bool | None:
        return None if self.target is None else self.ratio <= self.target

    def __str__(self) -> str:
        verdict = (
            "" if self.target is None else f", target {self.target:.3g}: {'reached' if self.reached else 'MISSED'}"
        )
        return (
            f"{self.case}: {self.variant} {self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.against} "
            f"({self.value:.4g} against {self.reference:.4g} {self.unit}, n = {self.repeats}{verdict})"
        )


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def interleaved(
    variants: dict[str, Callable[[], object]], repeats: int, warmup: int = 1, budget: float = 0.0
) -> dict[str, Samples]:
    """Seconds per call of each variant, called in turn ``repeats`` times after ``warmup`` turns.

    Odd turns go backwards, so that no variant always follows the same one. ``budget`` in seconds ends early, after at
    least three turns.
    """
    for _ in range(warmup):
        for call in variants.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    begun = time.monotonic()
    with _no_collection():
        for turn in range(repeats):
            for name in list(variants)[:: -1 if turn % 2 else 1]:
                synchronize()
                start = time.perf_counter()
                variants[name]()
                synchronize()
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


def row(
    group: str,
    case: str,
    samples: dict[str, Samples],
    variant: str,
    against: str,
    target: float | None = None,
    note: str = "",
    unit: str = "ms",
    scale: float = 1e3,
) -> Row:
    """The ratio of two variants that took turns."""
    ratios = sorted(a / b for a, b in zip(samples[variant].seconds, samples[against].seconds, strict=True))
    low, middle, high = _quartiles(ratios)
    return Row(
        group, case, variant, against, middle, low, high,
        scale * samples[variant].median, scale * samples[against].median, unit, len(ratios), target, note,
    )  # fmt: skip


def steady(group: str, case: str, variant: str, against: str, values: tuple[float, float], unit: str, **rest) -> Row:
    """A ratio of two numbers that do not vary, such as bytes."""
    ratio = values[0] / values[1]
    return Row(group, case, variant, against, ratio, ratio, ratio, *values, unit, 1, **rest)


def _quartiles(ordered: list[float]) -> tuple[float, float, float]:
    if len(ordered) < 2:
        return (ordered[0],) * 3
    low, middle, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return low, middle, high
