"""GPU paths on a machine without one: torch's own CUDA code over a runtime that computes nothing and counts.

Each test is a process of its own with that runtime loaded before torch's. It says nothing of numbers.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


@cache
def _runtime():
    spec = importlib.util.spec_from_file_location("fakecuda", HERE / "fakecuda" / "fakecuda.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built runtime; skips, with the reason, where this machine or this torch cannot load it."""
    if sys.platform != "linux" or not torch.version.cuda or torch.cuda.is_available():
        pytest.skip("needs Linux, a CUDA build of torch and no GPU")
    if not shutil.which("gcc") or importlib.util.find_spec("triton") is None:
        pytest.skip("needs gcc and Triton's CUDA headers")
    try:
        built = _runtime().build(tmp_path_factory.mktemp("fakecuda"))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the runtime does not compile here: {error}")
    probe = _under(built, "-c", "import torch; torch.ones(2, device='cuda').add_(1).cpu()")
    if probe.returncode:
        pytest.skip(f"torch {torch.__version__} does not start on the runtime: {probe.stderr[-200:]}")
    return built


def _under(library: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = _runtime().environment(library)
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300)


def _said(library: Path, what: str) -> list[str]:
    done = _under(library, str(HERE / "steps.py"), what)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_no_step_of_any_network_estimator_or_precision_waits_for_the_gpu(library: Path) -> None:
    said = _said(library, "sweep")
    cases = [line.split(maxsplit=4)[1:] for line in said if line.startswith("CASE")]
    assert len(cases) > 30
    assert all(int(kernels) > 50 for kernels, *_ in cases)
    assert [case for case in cases if (case[1], case[2]) != ("0.0", "0.0")] == [], "\n".join(said)


def test_a_step_that_looks_at_a_number_is_found(library: Path) -> None:
    (line,) = [line for line in _said(library, "bad") if line.startswith("CASE")]
    assert float(line.split()[3]) >= 1


def test_training_stops_and_goes_on_and_records_the_gpu(library: Path) -> None:
    said = _said(library, "resume")
    assert "STOPPED" in said
    assert said[-1].startswith("FINISHED 2 fakecuda")
    assert said[-1].endswith("False")
