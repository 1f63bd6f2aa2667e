"""What the tests of GPU paths share: the runtime that computes nothing, and processes on it."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import fakecuda

SCRIPTS = Path(__file__).parents[1] / "gpu"


def lacking() -> str:
    """What the runtime needs here and does not find; "" where all is there."""
    if sys.platform != "linux" or not torch.version.cuda or torch.cuda.is_available():
        return "needs Linux, a CUDA build of torch and no GPU"
    if not shutil.which("gcc") or importlib.util.find_spec("triton") is None:
        return "needs gcc and Triton's CUDA headers"
    return ""


def built(folder: Path) -> Path:
    """The built runtime; skips the test, with the reason, where it cannot be had."""
    if why := lacking():
        pytest.skip(why)
    try:
        library = fakecuda.build(folder)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the runtime does not compile here: {error}")
    probe = under(library, "-c", "import torch; torch.ones(2, device='cuda').add_(1).cpu()")
    if probe.returncode:
        pytest.skip(f"torch {torch.__version__} does not start on the runtime: {probe.stderr[-200:]}")
    return library


def under(library: Path, *command: str, devices: int = 1, **more: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments on the runtime; ``more`` are variables of the environment."""
    environment = fakecuda.environment(library, devices) | more
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=600)


def said(library: Path, what: str, script: str = "steps.py", devices: int = 1, **more: str) -> list[str]:
    """The lines that a script of tests/gpu printed; for two GPUs, its two processes."""
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"] if devices > 1 else []
    done = under(library, *many, str(SCRIPTS / script), *what.split(), devices=devices, **more)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()
