"""The command line: ``resteutils COMMAND ...`` or ``python -m resteutils COMMAND ...``.

Exit status: 0 done; 1 failed; 2 wrong usage; 3 the training loss was no longer finite; 130 (Ctrl-C) or 143 (SIGTERM)
stopped with everything saved, so that the same command continues. An error is one line; RESTEUTILS_DEBUG=1 shows the
traceback.

Commands import what they need when they run: ``--help`` loads torch, as the package does, and none of pandas,
matplotlib, wandb and papermill.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata as metadata
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Container
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from resteutils.cli import launch, models
from resteutils.cli.options import (
    Assignments,
    DataDir,
    Device,
    Epochs,
    Overrides,
    Profile,
    ResultsDir,
    Rows,
    RunsDir,
    Seeds,
    UsageError,
    check_machine,
    fail,
    status_of,
    usage,
)
from resteutils.system import extensions
from resteutils.system.files import write_atomic
from resteutils.system.settings import Places, project_root, setting

__all__ = ["main"]

JUPYTER = ".jupyter/jupyter_server_config.py"  # as the Makefile has it


def reproduce(
    items: Positional[Annotated[tuple[str, ...], arg(metavar="ITEM...", help_behavior_hint="(required)")]],
    profile: Profile = "demo",
    rows: Rows = "",
    seeds: Seeds = "",
    epochs: Epochs = 0,
    set: Overrides = (),
    device: Device = "auto",
    data_dir: DataDir = "",
    runs_dir: RunsDir = "",
    results_dir: ResultsDir = "",
    on: Annotated[Literal["local", "slurm"], arg(help="this machine, or jobs of a Slurm cluster")] = "local",
    parallel: int = 1,
    minutes: int = 24 * 60,
    cluster: Assignments = (),
) -> None:
    """Run the notebook of an item: its table or picture with the published numbers beside it.

    Example: resteutils reproduce table3 --profile short --rows ste,reste --seeds 0

    Args:
        items: table1 table2 table3 figure1 ... figure6 lemma deploy, or all (which ends with the report).
        parallel: runs trained at the same time, before the notebook reads them.
        minutes: time limit of a Slurm job; an unfinished run is queued again.
        cluster: a setting of submitit's executor, for instance --cluster slurm_partition=gpu; repeat it for more.
    """
    from resteutils.recipes import ITEMS, item_recipes
    from resteutils.results.reproduce import reproduce as reproduce_item
    from resteutils.results.reproduce import reproduce_all
    from resteutils.results.slurm import submit
    from resteutils.runs.launch import check

    options = {"profile": profile, "seeds": seeds, "epochs": epochs, "device": device}
    options |= {"data_dir": data_dir, "runs_dir": runs_dir, "results_dir": results_dir}
    with usage():
        if not items:
            raise ValueError(f"which item? One or more of {', '.join(ITEMS)}, or all")
        if "all" in items and (rows or set or len(items) > 1):
            raise ValueError("`all` stands alone: --rows and --set belong to one item")
        overrides = ",".join(set)
        about_runs = {"rows": rows, "seeds": seeds, "epochs": epochs, "set": set and set[0]}
        asked = [f"--{option} {value}" for option, value in about_runs.items() if value]
        for item in ITEMS if "all" in items else dict.fromkeys(items):
            if asked and "all" not in items and item in ITEMS and not ITEMS[item].rows:
                raise ValueError(f"{asked[0]}: {item} has no training runs")
            item_recipes(item, profile, rows, seeds, epochs, overrides)
        settings = dict(map(setting, cluster))
        check(on, parallel, 0, minutes, settings)
        check_machine(device, here=on == "local")
    if on == "slurm":
        submit(ITEMS if "all" in items else dict.fromkeys(items), parallel, minutes, settings, overrides,
               **options, rows=rows)  # fmt: skip
        print("they go on; when they are done: `resteutils report`")
        return
    options["parallel"] = parallel
    if "all" in items:
        reproduce_all(**options, write_report=_site)
        return
    for item in items:
        print(_shown(reproduce_item(item, rows=rows, overrides=overrides, **options)))


def _shown(folder: Path) -> str:
    """What a reproduction ends with: its table, one line of verdict, and where all of it lies."""
    table, verdict = folder / "table.md", json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    lines = table.read_text(encoding="utf-8").splitlines() if table.is_file() else []
    starts = [number for number, line in enumerate(lines) if line.startswith("|")]
    first = takewhile(lambda line: line.startswith("|"), lines[starts[0] :]) if starts else ()
    return "\n".join([*first, f"{verdict['status']}: {' '.join(verdict['text'].split()).split('. ')[0]}", str(folder)])


def train(
    name: Positional[Annotated[str, arg(metavar="ITEM/ROW")]],
    profile: Profile = "demo",
    seed: int = 0,
    epochs: Epochs = 0,
    device: Device = "auto",
    set: Assignments = (),
    force: bool = False,
    data_dir: DataDir = "",
    runs_dir: RunsDir = "",
    results_dir: ResultsDir = "",
) -> None:
    """Train one row, or read it where it is finished. Many GPUs: torchrun --nproc-per-node=8 -m resteutils train ...

    Example: resteutils train table1/resnet20-1w1a --profile short --seed 1

    Args:
        name: item/row, for instance table1/resnet20-1w1a; `resteutils list ITEM` names the rows.
        seed: seeds the initial weights, the order of the images and their augmentation.
        set: overrides one field of the recipe, for instance --set lr=0.05 or --set estimator=ste; repeat it for more.
        force: train again even where a finished run is there.
    """
    from resteutils.recipes import recipe

    with usage():
        overrides = dict(map(setting, set)) | ({"epochs": epochs} if epochs else {})
        if taken := [name for name in ("name", "item", "row", "profile", "seed") if name in overrides]:
            raise ValueError(f"--set {taken[0]}: ITEM/ROW, --profile and --seed say what is trained")
        chosen = recipe(name, profile=profile, seed=seed, **overrides)
        check_machine(device)
    from resteutils.runs.store import load_or_train
    from resteutils.training.processes import first_process

    run = load_or_train(
        chosen, runs_dir=runs_dir, device=device, data_dir=data_dir, results_dir=results_dir, force=force
    )
    if first_process():
        result = run.result
        reached = f"top-1 {result['top1']:.2f} % at epoch {result['epochs']}"
        print(f"{chosen.name} {profile} seed {seed}: {reached}, {run.path}")


def list_(
    item: Positional[Annotated[str, arg(metavar="[ITEM]", help_behavior_hint="")]] = "",
    profile: Profile = "demo",
    runs_dir: RunsDir = "",
    results_dir: ResultsDir = "",
) -> None:
    """Items, their notebooks and sizes, and what is finished on this disk.

    Example: resteutils list table1 --profile short

    Args:
        item: lists the rows of this item; empty: all items.
        profile: whose rows and seeds are counted when an item is named.
    """
    from resteutils.recipes import ITEMS, PROFILES, item_recipes

    with usage():
        recipes = item_recipes(item, profile) if item else []
    if item and not recipes:
        print(f"{item} has no training runs")
        return
    from resteutils.runs.records import ended_runs

    ended = ended_runs(runs_dir, results_dir)
    finished = {run.recipe.run_id: run for run in ended}
    if item:
        diverged = {run.recipe.run_id for run in ended.diverged}
        for r in recipes:
            state = "finished" if r.run_id in finished else "diverged" if r.run_id in diverged else "-"
            top1 = f"{finished[r.run_id].result['top1']:.2f} %" if r.run_id in finished else ""
            print(f"{r.name:<32} {state:<9} {top1:>8} {r.epochs:>5} epochs of {r.dataset}  {r.run_id}")
        return
    print(f"{'item':<8} {'notebook':<26}" + "".join(f"{name:>19}" for name in PROFILES))
    for name, entry in ITEMS.items():
        sizes = [_size(item_recipes(name, each), finished) for each in PROFILES]
        print(f"{name:<8} {entry.notebook:<26}" + "".join(f"{size:>19}" for size in sizes))
    here = f"{len(finished)} finished run{'' if len(finished) == 1 else 's'} on this disk"
    print(f"\nruns finished/all x epochs; {here}. `resteutils list ITEM`: its rows.")


def _size(recipes: list, finished: Container[str]) -> str:
    """``3/24 x 10``: runs finished, runs in all, epochs of each."""
    if not recipes:
        return "no runs"
    epochs = "-".join(str(n) for n in sorted({min(r.epochs for r in recipes), max(r.epochs for r in recipes)}))
    return f"{sum(r.run_id in finished for r in recipes)}/{len(recipes)} x {epochs}"


def report(results_dir: ResultsDir = "") -> None:
    """Write one static HTML site of all results, and the tables of README.md and docs/ from the records.

    Example: resteutils report --results-dir my-results

    The site is results/report/index.html. The tables are those between markers, in a checkout of this project, and only
    from its own results.
    """
    from resteutils.items import findings

    own = _own_places(results_dir)
    said = findings.blocks(own[1]) if own else {}
    written = findings.rewrite(*own, said) if own else []  # first: the site shows them
    print(_site(results_dir, said))
    for path in written:
        print(f"{path}: written again from the records")


def _site(results_dir: str = "", said: dict[str, str] | None = None) -> Path:
    """Write the report with the explorer's page and, of the checkout's own results, what was found: ``said``, where
    its blocks are made already.
    """
    from resteutils.explorer.page import document
    from resteutils.items import findings
    from resteutils.results.report import build

    own = _own_places(results_dir)
    if said is None:
        said = findings.blocks(own[1]) if own else {}
    front = {name: text for name, text in said.items() if name.startswith("findings")}
    picture = findings.picture(own[1]) if own else b""
    return build(results_dir=results_dir, explorer=document(results_dir), findings=front, picture=picture)


def _own_places(results_dir: str) -> tuple[Path, Places] | None:
    """The checkout and the places of its committed records, where the results are the checkout's own."""
    root = Path(__file__).resolve().parents[2]
    places = Places.of(results_dir=results_dir)
    if (root / "results").resolve() != places.results.resolve() or not (root / "docs").is_dir():
        return None
    return root, Places(places.data, root / "results" / "none", places.results)


def doctor(data_dir: DataDir = "", runs_dir: RunsDir = "", results_dir: ResultsDir = "") -> None:
    """Is this machine ready? Each line says ok, warning or problem, and what to do; status 1 if there is a problem.

    Example: resteutils doctor --data-dir /data
    """
    from resteutils.cli.doctor import examine
    from resteutils.cli.doctor import report as print_findings

    problems = print_findings(examine(data_dir, runs_dir, results_dir))
    if problems:
        raise SystemExit(1)


def explore() -> None:
    """Open the explorer, sliders over the estimators, in JupyterLab; Ctrl-C ends it.

    Example: resteutils explore

    Outside a checkout its notebook, explore_reste.ipynb, is written to the working directory first.
    """
    from resteutils.results.reproduce import find_notebook

    notebook = find_notebook("explore_reste")
    if notebook.parent != project_root() / "notebooks":  # the installed package's own is not the user's to change
        mine = Path(notebook.name).absolute()
        notebook = mine if mine.exists() else write_atomic(mine, notebook.read_bytes())
    lab, config = [sys.executable, "-m", "jupyterlab", str(notebook)], project_root() / JUPYTER
    lab += [f"--config={config}"] if config.is_file() else []
    done = subprocess.run(lab + (["--allow-root"] if getattr(os, "geteuid", lambda: 1)() == 0 else []), check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


DESCRIPTION = (
    "ReSTE (ICCV 2023) reproduced: every table and figure from one command. "
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 the loss was no longer finite, "
    "130 or 143 stopped with everything saved."
)
COMMANDS = {
    "reproduce": reproduce,
    "train": train,
    "list": list_,
    **launch.COMMANDS,
    "report": report,
    **models.COMMANDS,
    "explore": explore,
    "doctor": doctor,
}


def main(arguments: list[str] | None = None) -> None:
    """Entry point; leaves with the status that the module's docstring lists."""
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> int:
    """Call the command and turn what it raises into a status and one line on stderr."""
    for stream in (sys.stdout, sys.stderr):  # a log file grows line by line, as a terminal would; any name is printed
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        with usage():
            extensions.load()
        if arguments[:1] == ["--version"]:
            print(f"resteutils {metadata.version('resteutils')}")
            return 0
        _parsed(arguments)()
    except SystemExit as error:  # --help, and the commands that say themselves what is wrong
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        return fail(KeyboardInterrupt("stopped by Ctrl-C; the same command continues"), 130)
    except BrokenPipeError:  # the reader of our output has left: resteutils list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the last resort: every other error becomes one line
        return fail(error, status_of(error))
    return 0


def _parsed(arguments: list[str]) -> Callable[[], None]:
    """The command with what was given to it, not called yet. Raises ``UsageError``: the parser's box as one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.extras.subcommand_cli_from_dict(
                {name: _later(command) for name, command in COMMANDS.items()},
                prog="resteutils",
                description=DESCRIPTION,
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as error:
        if error.code in (None, 0):
            raise
        words = re.sub(r"[^\S ]|[\u2500-\u257f]|\x1b\[[0-9;]*m", " ", said.getvalue()).split()
        raise UsageError(" ".join(words) or "wrong usage; see resteutils --help") from None


def _later(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    @functools.wraps(command)
    def bound(*args: object, **options: object) -> Callable[[], None]:
        return functools.partial(command, *args, **options)

    return bound
