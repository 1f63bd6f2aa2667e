"""The section on speed: a training step by network, precision and mode."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._inductor import config as inductor

from benchmarks.gpu import material
from benchmarks.gpu.session import Session
from resteutils.recipes import Recipe
from resteutils.recipes.build import open_data
from resteutils.training import loop as training
from resteutils.training.epoch import Sums
from resteutils.training.processes import Processes
from resteutils.training.switches import numerics
from resteutils.training.tracking import NoTracker

__all__ = ["made_loop", "speed_of_steps", "timed"]

# (network, W/A, precision, mode of torch.compile, images in a batch); "combined" is Inductor's experimental
# combo_kernels, which no run uses: one kernel for work that several layers have ready at once
CASES = (
    ("resnet20", "1/1", "fp32", "off", 256),
    ("resnet20", "1/1", "fp32", "default", 256),
    ("resnet20", "1/1", "fp32", "reduce-overhead", 256),
    ("resnet20", "1/1", "tf32", "reduce-overhead", 256),
    ("resnet20", "1/1", "tf32", "whole-step", 256),
    ("resnet20", "1/1", "tf32", "whole-step, combined", 256),
    ("resnet20", "32/32", "tf32", "reduce-overhead", 256),
    ("vgg_small", "1/1", "fp32", "default", 256),
    ("vgg_small", "1/1", "tf32", "default", 256),
    ("resnet18", "1/1", "tf32", "default", 96),
    ("resnet20", "1/1", "bf16", "default", 256),
)
TO_COME = 140  # seconds that the sections after this one take


def made_loop(recipe: Recipe) -> training._Loop:
    """A training that stands before its first step."""
    device = torch.device("cuda")
    data, folder = open_data(recipe, device=device), Path(tempfile.mkdtemp())
    return training._Loop(recipe, folder, device, data, Processes(), NoTracker(), lambda line: None, False)


def speed_of_steps(session: Session) -> dict[str, Any]:
    """ResNet-20 as the paper trains it by precision and mode, then the larger networks as long as time is left."""
    rows: dict[str, Any] = {}
    cases = [CASES[0], ("resnet20", "32/32", "tf32", "off", 32)] if session.fake else CASES
    for model, bits, precision, mode, batch in cases:
        name = f"{model} {bits} {precision} {mode} batch {batch}"
        if not session.fake and session.left < TO_COME:
            rows[name] = "skipped: no time left"
            continue
        compiled, _, combined = mode.partition(", ")
        recipe = material.recipe(
            model=model, bits=bits, precision=precision, compile=compiled, batch_size=32 if session.fake else batch,
            deterministic=False,
        )  # fmt: skip
        try:
            with inductor.patch(combo_kernels=bool(combined)):
                rows[name] = timed(recipe, 3 if session.fake else 60, session)
        except (RuntimeError, ValueError) as error:
            rows[name] = f"{type(error).__name__}: {str(error)[:300]}"
        print(f"    {name}: {rows[name]}", flush=True)
    measured = [row for row in rows.values() if isinstance(row, dict)]
    return {"ok": bool(measured) and all(row["waits"] == 0 for row in measured), "cases": rows}


def timed(recipe: Recipe, steps: int, session: Session | None = None) -> dict[str, float]:
    """Milliseconds of a step and what it takes of the GPU; with a session also a trace, kept as far as there is room.

    ``seconds_until_fast`` is the time of all before the first timed step, compilation included.
    """
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    begun = time.monotonic()
    with numerics(recipe, torch.device("cuda")):
        loop = made_loop(recipe)
        loop.restore()
        loop.model.train()
        step = repeated_step(loop)
        for _ in range(6):
            step()
        torch.cuda.synchronize()
        ready, start = time.monotonic() - begun, time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        ms = 1e3 * (time.perf_counter() - start) / steps
        busy = _profiled(step, session.out / f"trace-{_slug(recipe)}.json.gz", session) if session else {}
        return {
            "ms_per_step": ms,
            "images_per_second": 1e3 * recipe.batch_size / ms,
            "waits": _waits(step),
            **busy,
            "peak_mb": torch.cuda.max_memory_allocated() / 1e6,
            "seconds_until_fast": ready,
        }


def repeated_step(loop: training._Loop) -> Callable[[], None]:
    """The epoch's second step, to be made as often as is wanted: of a whole batch, and without a look at the device."""
    recipe, sums = loop.recipe, Sums({}, loop.device)
    batch = next(loop.data.train_batches(recipe.batch_size, recipe.seed, 0))

    def step() -> None:
        loop.state.step = 1
        loop.train_step(*batch, sums, False)

    return step


def _waits(step) -> int:
    """How often the host waits for the GPU in one step, as torch warns of it."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(warning.message) for warning in heard)


def _profiled(step, path: Path, session: Session) -> dict[str, float]:
    """Milliseconds in which the GPU computed in one step, and its kernels."""
    if session.fake:  # CUPTI needs a driver
        return {}
    kinds = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds) as trace:
        step()
        torch.cuda.synchronize()
    events = [event for event in trace.key_averages() if event.self_device_time_total]
    trace.export_chrome_trace(str(path))
    session.keep(path)
    return {
        "gpu_ms": sum(event.self_device_time_total for event in events) / 1e3,
        "kernels": sum(event.count for event in events),
    }


def _slug(recipe: Recipe) -> str:
    combined = "-combined" if inductor.combo_kernels else ""
    return f"{recipe.model}-{recipe.bits.replace('/', '-')}-{recipe.precision}-{recipe.compile}{combined}"
