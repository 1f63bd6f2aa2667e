"""``python campaign.py FOLDER MOST``: a training meets each fault at each call that changes a file, then goes on.

At most ``MOST`` calls a fault are tried, evenly spread; 0 is all of them. Each fault is tried in a process of its own,
forked before any training, by the command that users call. Prints one line of JSON a fault: how many were tried, how
many survived, the largest difference of a weight, and what was wrong with the others. A try survives where

* the call that met the fault ended as it should, or failed with one line that names no traceback;
* the same call then ended with the history, the result and the model file of an undisturbed run, to the bit, and
  without a file left over.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from helpers import command
from helpers.injection import FAULTS, Injector
from safetensors.torch import load_file

from resteutils import kernels
from resteutils.cli import commands
from resteutils.recipes.build import build_model, build_optimizer, open_data
from resteutils.runs.provenance import provenance

RECIPE = command.tiny_recipe()
MODEL = Path("runs_dir") / RECIPE.run_id / "model.safetensors"


@dataclass
class Tally:
    """What became of one kind of fault."""

    kind: str
    tried: int = 0
    survived: int = 0
    difference: float = 0.0
    lost: list[str] = field(default_factory=list)

    def add(self, where: str, problem: str, difference: float = 0.0) -> None:
        self.tried += 1
        self.survived += not problem
        self.difference = max(self.difference, difference)
        if problem:
            self.lost.append(f"{where}: {problem}")


def train(folder: Path, injector: Injector | None = None) -> int:
    """The status of the command in a forked process; what it prints goes to ``folder/said``."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(said, 1)
            os.dup2(said, 2)
            os.environ |= {name: str(folder / name.lower()) for name in ("RUNS_DIR", "RESULTS_DIR", "XDG_CACHE_HOME")}
            if injector:
                injector.install()
            commands.main(command.arguments())
        except SystemExit as left:
            status = left.code
        finally:
            if injector and injector.at < 0:
                (folder / "calls").write_text(json.dumps(injector.calls))
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def first_problem(folder: Path, fault: str, status: int) -> str:
    """What is wrong with how the disturbed call ended; "" where nothing is."""
    said = (folder / "said").read_text()
    if fault == "SIGKILL":
        return "" if status == -signal.SIGKILL else f"status {status}"
    if status == 0:
        return ""
    errors = [line for line in said.splitlines() if line.startswith("resteutils: ")]
    one = status == 1 and len(errors) == 1 and said.endswith(errors[0] + "\n") and "Traceback" not in said
    return "" if one else f"status {status}, said {said[-300:]!r}"


def tried(folder: Path, whole: Path, fault: str, at: int) -> tuple[str, float]:
    """What is wrong after a fault at one call and a second call without; the largest difference of a weight."""
    folder.mkdir()
    act, lasting = FAULTS[fault]
    if problem := first_problem(folder, fault, train(folder, Injector(folder, at, act, lasting))):
        return problem, 0.0
    if status := train(folder):
        return f"the next call left with {status}: {(folder / 'said').read_text()[-300:]!r}", 0.0
    undisturbed, weights = load_file(whole / MODEL), load_file(folder / MODEL)
    difference = max((weights[name] - undisturbed[name]).abs().max().item() for name in weights)
    if command.outcome(folder) != command.outcome(whole):
        return "another result", difference
    return (f"left {left}" if (left := command.strays(folder)) else ""), difference


def main(folder: Path, most: int) -> None:
    torch.set_num_threads(1)
    kernels.available()
    open_data(RECIPE)  # this and the next lines import what a training does: the children then have it
    build_optimizer(RECIPE, build_model(RECIPE))
    torch.use_deterministic_algorithms(False)
    provenance()
    whole = folder / "whole"
    whole.mkdir()
    assert train(whole, Injector(whole)) == 0, (whole / "said").read_text()
    calls = json.loads((whole / "calls").read_text())
    for shift, fault in enumerate(FAULTS):
        tally, step = Tally(fault), max(1, len(calls) // most) if most else 1
        for at in range(shift * step // len(FAULTS), len(calls), step):
            problem, difference = tried(folder / f"{fault}-{at}", whole, fault, at)
            tally.add(f"call {at} ({calls[at]})", problem, difference)
        print(json.dumps({"calls": len(calls), **vars(tally)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
