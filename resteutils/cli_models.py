"""Commands about trained networks: keep one, verify what is kept, measure how fast they are."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import Positional, arg

from resteutils.console import DataDir, Device, ResultsDir, RunsDir, usage

__all__ = ["COMMANDS"]


def bench(
    full: bool = False,
    rows: Annotated[str, arg(help="groups of rows, comma-separated; all when empty")] = "",
    results_dir: ResultsDir = "",
) -> None:
    """Measure this machine: every cost as a ratio of two programs run in turn. Writes results/bench/.

    Args:
        full: everything, scaling included; otherwise the rows of README's table, about ten minutes.
    """
    from resteutils.settings import results_dir as results_folder

    try:
        import benchmarks
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            "benchmarks/ is part of a checkout, not of the installed package: run it there"
        ) from error
    unknown = set(_words(rows)) - set(benchmarks.GROUPS)
    with usage():
        if unknown:
            raise ValueError(f"no rows {', '.join(sorted(unknown))}; the groups are: {', '.join(benchmarks.GROUPS)}")
    benchmarks.main(full=full, rows=rows, out=str(results_folder(results_dir) / "bench"))


def publish(
    run: Positional[Annotated[str, arg(metavar="RUN")]],
    device: Device = "auto",
    data_dir: DataDir = "",
    runs_dir: RunsDir = "",
    results_dir: ResultsDir = "",
) -> None:
    """Keep the network of a finished run in results/models, with a card that says what it is and how it scores.

    Args:
        run: run id, as `resteutils list ITEM` prints it.
    """
    from resteutils.zoo import publish as publish_run

    print(publish_run(_run_named(run, runs_dir, results_dir), results_dir, data_dir, device))


def verify_models(device: Device = "auto", data_dir: DataDir = "", results_dir: ResultsDir = "") -> None:
    """Load every model of results/models strictly and score it again; status 1 where one differs from its card."""
    from resteutils.zoo import verify

    checks = []
    for check in verify(results_dir, data_dir, device):
        checks.append(check)
        state = "problem" if check.problem else "ok"
        print(f"{state:<8} {check.name} top-1 {check.top1:.2f} %, card {check.card_top1:.2f} %")
    wrong = [f"{check.name} ({check.problem})" for check in checks if check.problem]
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {len(checks)} models differ from their cards: {'; '.join(wrong)}")


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _run_named(run_id: str, runs_dir: str, results_dir: str):
    """The finished run with this id, or whose id starts with it, or whose folder it is."""
    from pathlib import Path

    from resteutils.runs import finished_runs

    name = Path(run_id).name
    runs = {run.recipe.run_id: run for run in finished_runs(runs_dir=runs_dir, results_dir=results_dir)}
    matching = [name] if name in runs else [known for known in runs if known.startswith(name)]
    with usage():
        if len(matching) != 1:
            found = f"several runs start with {name!r}" if matching else f"no finished run {name!r}"
            listed = ", ".join(matching or runs) or "none: `resteutils train ITEM/ROW` makes one"
            raise ValueError(f"{found}; finished here: {listed}")
    return runs[matching[0]]


COMMANDS = {
    "publish": publish,
    "verify-models": verify_models,
    "bench": bench,
}
