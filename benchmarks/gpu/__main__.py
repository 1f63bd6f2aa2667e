"""The acceptance run: ``python -m benchmarks.gpu [OUT] [--fake] [--material FOLDER] [--limit SECONDS]``."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from benchmarks.gpu import fakecuda


def main() -> int:
    """Run the sections; 0 where all held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", help="folder of acceptance.json and traces: results/gpu/GPU")
    parser.add_argument("--fake", action="store_true", help="on a CUDA runtime that computes nothing")
    parser.add_argument("--material", type=Path, help="what `python -m benchmarks.gpu.material` wrote")
    parser.add_argument("--limit", type=float, default=470.0, help="seconds for all sections")
    given = parser.parse_args()
    if given.fake and not fakecuda.loaded():
        return fakecuda.run(["-m", "benchmarks.gpu", *sys.argv[1:]]).returncode

    import torch

    from benchmarks.gpu import files, material, numbers, runs, sharing, speed
    from benchmarks.gpu.session import Section, Session
    from resteutils.system.settings import results_dir

    if not torch.cuda.is_available():
        print(f"no GPU: torch {torch.__version__} sees none; --fake runs all but the numbers", file=sys.stderr)
        return 2
    kept = given.material or material.default_folder()
    out = given.out or (kept / "fake" if given.fake else results_dir() / "gpu" / _slug(torch.cuda.get_device_name()))
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(kept.absolute() / "inductor"))
    found = material.Material.of(kept)
    found.register()
    sections = (
        Section(numbers.machine, 5),
        Section(numbers.convolutions_of_signs, 45),
        Section(numbers.slopes_of_estimators, 10),
        Section(numbers.a_layer_and_its_backward, 50),
        Section(speed.speed_of_steps, 180),
        Section(runs.trainings_repeat_resume_and_learn, 60),
        Section(runs.failures_are_told, 20),
        Section(files.image_files, 40),
        Section(sharing.several_runs_on_one_gpu, 30),
    )
    held = Session(out, found, given.fake, given.limit).run(sections)
    print(f"{'all held' if held else 'NOT all held'}: {out / 'acceptance.json'}", flush=True)
    return 0 if held else 1


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    if fakecuda.loaded():
        os._exit(status)  # torch's teardown expects a real driver
    sys.exit(status)
