"""`resteutils train` of a tiny run in a process of its own, which tests disturb."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from helpers.tiny import untimed

from resteutils.kernels import build
from resteutils.recipes import Recipe, recipe

CHANGED = {"train_size": 32, "test_size": 10, "batch_size": 16, "checkpoint_minutes": 0, "epochs": 1, "compile": "off"}


def tiny_recipe(**changed: object) -> Recipe:
    return recipe("table3/reste", "smoke", **(CHANGED | changed))


def arguments(**changed: object) -> list[str]:
    """``train ...`` of :func:`tiny_recipe`, for the command line."""
    fields = [word for name, value in (CHANGED | changed).items() for word in ("--set", f"{name}={value}")]
    return ["train", "table3/reste", "--profile", "smoke", "--device", "cpu", *fields]


def python(*command: str) -> list[str]:
    return [sys.executable, *command]


def environment(folder: Path, **changed: str | None) -> dict[str, str]:
    """That of a process whose runs, results and cache are below ``folder``; None takes a variable out."""
    places = {name: str(folder / name.lower()) for name in ("RUNS_DIR", "RESULTS_DIR", "XDG_CACHE_HOME")}
    compiled = {"TORCH_EXTENSIONS_DIR": str(build.library_path().parent)}  # not once more for each test
    root = Path(__file__).resolve().parents[2]
    here = {"PYTHONPATH": os.pathsep.join(map(str, (root, root / "tests"))), "OMP_NUM_THREADS": "1"}
    settings = {**os.environ, "WANDB_MODE": "disabled", **here, **places, **compiled, **changed}
    return {name: value for name, value in settings.items() if value is not None}


def started(folder: Path, command: list[str] | None = None, **changed: str | None) -> subprocess.Popen:
    """The command, by default that training, under way; what it says on stderr is piped."""
    command = command or python("-m", "resteutils", *arguments())
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment(folder, **changed), cwd=folder, **pipes)


def outcome(folder: Path) -> list:
    """Everything of a finished run that must not differ: history and result without the clock, the model's bytes."""
    recipe = tiny_recipe()
    run = folder / "runs_dir" / recipe.run_id
    record = json.loads((run / "record.json").read_text())
    copy = folder / "results_dir" / recipe.profile / "runs" / f"{recipe.run_id}.json"
    assert copy.read_bytes() == (run / "record.json").read_bytes()
    rows = [dict(zip(record["history"], row, strict=True)) for row in zip(*record["history"].values(), strict=True)]
    return [untimed(rows), untimed([record["result"]]), record["model_sha256"]]


def strays(folder: Path) -> list[str]:
    """Files that a finished run should not leave."""
    return [p.name for p in folder.rglob("*") if "checkpoint" in p.name or p.name.endswith(".tmp") or p.name == "again"]
