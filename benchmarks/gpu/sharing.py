"""The section on several runs that share one GPU, each a process.

``python -m benchmarks.gpu.sharing MATERIAL [--fake]`` is one of them, and prints its images a second.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu import material
from benchmarks.gpu.session import Session
from benchmarks.gpu.speed import timed
from resteutils.system.settings import project_root

__all__ = ["several_runs_on_one_gpu"]


def several_runs_on_one_gpu(session: Session) -> dict[str, Any]:
    """Images a second of ResNet-20, uncompiled, in one process and in four at once, all together."""
    command = [sys.executable, "-m", "benchmarks.gpu.sharing", str(session.material.folder)]
    command += ["--fake"] if session.fake else []
    rows = {}
    for count in (1,) if session.fake else (1, 4):
        jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=project_root()) for _ in range(count)]
        said = [job.communicate(timeout=120)[0].split() for job in jobs]
        rows[f"{count} at once"] = sum(float(words[-1]) for words in said)
    return {"images per second": rows, "mps": os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "")}


def _rate(session: Session) -> float:
    session.material.register()
    recipe = material.recipe(batch_size=32 if session.fake else 256, deterministic=False)
    with session.without_numbers():
        return timed(recipe, 3 if session.fake else 100)["images_per_second"]


if __name__ == "__main__":
    print(_rate(Session(Path(), material.Material.of(Path(sys.argv[1])), "--fake" in sys.argv)), flush=True)
    os._exit(0)  # torch's teardown expects a real driver
