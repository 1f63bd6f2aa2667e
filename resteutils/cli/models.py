"""Commands about trained networks: export one, ask it, keep it, verify what is kept, measure how fast they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from resteutils.cli.options import DataDir, Device, ResultsDir, RunsDir, check_machine, usage
from resteutils.recipes import recipe
from resteutils.system.settings import results_dir as results_folder

__all__ = ["COMMANDS"]

RunProfile = Annotated[
    Literal["", "smoke", "demo", "short", "paper"],
    arg(help="whose run of ITEM/ROW; empty: the one that is finished", help_behavior_hint=""),
]


def bench(
    full: bool = False,
    rows: Annotated[str, arg(metavar="A,B", help="groups of rows; all when empty", help_behavior_hint="")] = "",
    model: Annotated[
        str, arg(metavar="FILE", help="time this packed file against its float twin", help_behavior_hint="")
    ] = "",
    results_dir: ResultsDir = "",
) -> None:
    """Measure this machine: every cost as a ratio of two programs that take turns. Writes results/bench/.

    Example: resteutils bench --rows step,data

    Args:
        full: everything, scaling included; otherwise the ratios of docs/speed.md, about half an hour.
    """
    if model:
        _bench_model(model)
        return
    try:
        import benchmarks
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            "benchmarks/ is part of a checkout, not of the installed package: run it there"
        ) from error
    unknown = sorted(set(rows.replace(",", " ").split()) - set(benchmarks.GROUPS))
    with usage():
        if unknown:
            raise ValueError(f"no rows {', '.join(unknown)}; the groups are: {', '.join(benchmarks.GROUPS)}")
    benchmarks.main(full=full, rows=rows, out=str(results_folder(results_dir) / "bench"))


def _bench_model(path: str) -> None:
    from resteutils.onebit.export import bench_model

    rows = bench_model(path)  # before the head: an error is all there is then
    print("batch threads   packed    float   float / packed (quartiles)")
    for r in rows:
        times = f"{r['packed_ms']:6.2f} ms {r['float_ms']:6.2f} ms"
        print(f"{r['batch']:5} {r['threads']:7} {times}   {r['times_faster']:.2f} ({r['low']:.2f} to {r['high']:.2f})")


def publish(
    run: Positional[Annotated[str, arg(metavar="RUN")]],
    profile: RunProfile = "",
    device: Device = "auto",
    data_dir: DataDir = "",
    runs_dir: RunsDir = "",
    results_dir: ResultsDir = "",
) -> None:
    """Keep the network of a finished run in results/models, with a card that says what it is and how it scores.

    Example: resteutils publish table3/reste

    Args:
        run: run id (or the beginning of one), its folder, or item/row.
    """
    from resteutils.runs.zoo import publish as publish_run

    with usage():
        check_machine(device)
    print(publish_run(_run_named(run, runs_dir, results_dir, profile), results_dir, data_dir, device))


def verify_models(device: Device = "auto", data_dir: DataDir = "", results_dir: ResultsDir = "") -> None:
    """Load every model of results/models strictly and score it again; status 1 where one differs from its card.

    Example: resteutils verify-models --data-dir /data
    """
    from resteutils.runs.zoo import verify

    with usage():
        check_machine(device)
    checks = []
    for check in verify(results_dir, data_dir, device):
        checks.append(check)
        state = "problem" if check.problem else "ok"
        print(f"{state:<8} {check.name} top-1 {check.top1:.2f} %, card {check.card_top1:.2f} %")
    wrong = [f"{check.name} ({check.problem})" for check in checks if check.problem]
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {len(checks)} models differ from their cards: {'; '.join(wrong)}")


def export(
    run: Positional[Annotated[str, arg(metavar="RUN")]],
    to: Annotated[
        Literal["packed", "onnx", "state-dict"], arg(help="one bit a weight, ONNX, or plain weights")
    ] = "packed",
    out: Annotated[
        str,
        arg(
            metavar="FILE",
            help="where to; empty: exports/ in the results folder, the run id and the format's suffix",
            help_behavior_hint="",
        ),
    ] = "",
    profile: RunProfile = "",
    data_dir: DataDir = "",
    runs_dir: RunsDir = "",
    results_dir: ResultsDir = "",
) -> None:
    """Write the trained network of a run to a file.

    Example: resteutils export table1/resnet20-1w1a --to onnx --out resnet20.onnx

    Args:
        run: run id (or the beginning of one), its folder, or item/row.
    """
    from resteutils.onebit.export import FORMATS, export_run

    chosen = _run_named(run, runs_dir, results_dir, profile)
    place = Path(out) if out else results_folder(results_dir) / "exports" / f"{chosen.recipe.run_id}{FORMATS[to]}"
    file = export_run(chosen, to, place, data_dir)
    print(f"{file} ({file.stat().st_size:,} bytes)")


def predict(
    model: Positional[Annotated[str, arg(metavar="MODEL")]],
    images: Positional[Annotated[tuple[str, ...], arg(metavar="IMAGE...", help_behavior_hint="(required)")]],
    top: int = 5,
    json: bool = False,
) -> None:
    """What a packed network sees in image files: its first guesses, with bars.

    Example: resteutils predict model.rbit cat.png --top 3

    Args:
        model: a file that `resteutils export RUN --to packed` wrote.
        images: image files, resized to the network's input; networks of ImageNet see the middle, as when scored.
        top: number of guesses for each image.
        json: print JSON instead of bars.
    """
    from resteutils.onebit import export

    with usage():
        if not images:
            raise ValueError("no image to look at: name one or more image files")
        if top < 1:
            raise ValueError(f"top = {top}, expected at least 1")
    print(export.show_predictions(export.predict(model, images, top), as_json=json, block=_block()))


def _block() -> str:
    """What a bar is made of, in an encoding that has it."""
    try:
        "█".encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return "#"
    return "█"


def _run_named(name: str, runs_dir: str, results_dir: str, profile: str = ""):
    from resteutils.runs.find import find_run

    with usage():
        if profile and "/" in name:  # several profiles may be finished: the run id says which
            name = recipe(name, profile).run_id
        return find_run(name, runs_dir, results_dir)


COMMANDS = {
    "export": export,
    "predict": predict,
    "publish": publish,
    "verify-models": verify_models,
    "bench": bench,
}
