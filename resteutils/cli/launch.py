"""The command that fans the runs of an item out over processes or a cluster, and says what came of them."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import Positional, arg

from resteutils.cli.options import (
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
from resteutils.recipes import item_recipes
from resteutils.system.settings import setting

__all__ = ["COMMANDS"]


def launch(
    item: Positional[Annotated[str, arg(metavar="ITEM")]],
    profile: Profile = "demo",
    rows: Rows = "",
    seeds: Seeds = "",
    epochs: Epochs = 0,
    set: Overrides = (),
    on: On = "local",
    parallel: int = 1,
    threads: int = 0,
    minutes: Minutes = 24 * 60,
    gpus_per_run: GpusPerRun = 0,
    nodes: Nodes = 1,
    wait: Annotated[bool, arg(help="return at once, while the runs go on", help_behavior_hint="")] = True,
    device: Device = "auto",
    data_dir: DataDir = "",
    runs_dir: RunsDir = "",
    results_dir: ResultsDir = "",
    cluster: Cluster = (),
) -> None:
    """Train all runs of an item, fanned out with submitit; its notebook then only reads them.

    Example: resteutils launch table3 --profile short --seeds 0,1 --parallel 2 --threads 1

    Args:
        item: one of the items that `resteutils list` names.
        parallel: runs at the same time.
        threads: of torch in each run; 0: $OMP_NUM_THREADS, else this machine's cores shared out.
    """
    from resteutils.runs.launch import check, counted, told
    from resteutils.runs.launch import launch as launch_runs

    with usage():
        settings = dict(map(setting, cluster))
        check(on, parallel, threads, minutes, settings, gpus_per_run, nodes)
        if not item_recipes(item, profile, rows, seeds, epochs, ",".join(set)):
            raise ValueError(f"{item} has no training runs: `resteutils reproduce {item}` is all it takes")
        check_machine(device, here=on == "local")

    asked = {"profile": profile, "rows": rows, "seeds": seeds, "epochs": epochs}
    folders = {"data_dir": data_dir, "runs_dir": runs_dir, "results_dir": results_dir}
    outcomes = launch_runs(
        item,
        **asked,
        overrides=",".join(set),
        on=on,
        parallel=parallel,
        threads=threads,
        device=device,
        minutes=minutes,
        gpus_per_run=gpus_per_run,
        nodes=nodes,
        wait=wait,
        **folders,
        **settings,
    )
    reading = command("reproduce", item, **asked, set=set, **folders)
    if not wait:
        print(f"they go on; when they are done: `{reading}`")
        return
    *reasons, count = told(outcomes)
    for line in reasons:
        print(line)
    if failed := sum(outcome.state == "failed" for outcome in outcomes):
        print(count)
        raise RuntimeError(
            f"{failed} of {counted(len(outcomes), 'run')} failed, as said above; the same command tries again"
        )
    print(f"{count}; now: `{reading}`")


COMMANDS = {"launch": launch}
