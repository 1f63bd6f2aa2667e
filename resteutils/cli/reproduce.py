"""The commands that train: an item with its notebook, or one row."""

from __future__ import annotations

import json
from itertools import takewhile
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from resteutils.cli.options import (
    Assignments,
    Cluster,
    DataDir,
    Device,
    Epochs,
    GpusPerRun,
    Minutes,
    Nodes,
    On,
    Overrides,
    Profile,
    ResultsDir,
    Rows,
    RunsDir,
    Seeds,
    check_machine,
    command,
    usage,
)
from resteutils.cli.results import site
from resteutils.recipes import ITEMS, item_recipes, recipe
from resteutils.system.settings import setting, settings

__all__ = ["COMMANDS"]


def reproduce(
    items: Positional[
        Annotated[
            tuple[str, ...],
            arg(
                metavar="ITEM...",
                help=f"{' '.join(ITEMS)}, or all, which ends with the report",
                help_behavior_hint="(required)",
            ),
        ]
    ],
    profile: Profile = "demo",
    rows: Rows = "",
    seeds: Seeds = "",
    epochs: Epochs = 0,
    set: Overrides = (),
    device: Device = "auto",
    data_dir: DataDir = "",
    runs_dir: RunsDir = "",
    results_dir: ResultsDir = "",
    on: On = "local",
    parallel: int = 1,
    minutes: Minutes = 24 * 60,
    gpus_per_run: GpusPerRun = 0,
    nodes: Nodes = 1,
    cluster: Cluster = (),
) -> None:
    """Run the notebook of an item: its table or picture with the published numbers beside it.

    Example: resteutils reproduce table3 --profile short --rows ste,reste --seeds 0

    Args:
        parallel: runs trained at the same time, before the notebook reads them; on Slurm, of all items.
    """
    from resteutils.results.reproduce import reproduce as reproduce_item
    from resteutils.results.reproduce import reproduce_all
    from resteutils.results.slurm import submit
    from resteutils.runs.cluster import require_submitit
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
        chosen = list(ITEMS if "all" in items else dict.fromkeys(items))
        for item in chosen:
            if asked and "all" not in items and item in ITEMS and not ITEMS[item].rows:
                raise ValueError(f"{asked[0]}: {item} has no training runs")
            item_recipes(item, profile, rows, seeds, epochs, overrides)
        job = dict(map(setting, cluster))
        check(on, parallel, 0, minutes, job, gpus_per_run, nodes)
        check_machine(device, here=on == "local")
    if parallel > 1 and any(ITEMS[item].rows for item in chosen):
        require_submitit()
    if on == "slurm":
        submit(chosen, parallel, minutes, job, gpus_per_run, nodes, rows=rows, overrides=overrides, **options)
        print(f"they go on; when they are done: `{command('report', results_dir=results_dir)}`")
        return
    options["parallel"] = parallel
    if "all" in items:
        reproduce_all(**options, write_report=site)
        return
    for item in chosen:
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
    with usage():
        overrides = settings(",".join(set)) | ({"epochs": epochs} if epochs else {})
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


COMMANDS = {"reproduce": reproduce, "train": train}
