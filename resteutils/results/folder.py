"""The results folder of an item: its table, picture, verdict and provenance, written as a whole or not at all.

``results/<profile>/<item>/`` holds table.csv, table.md and table.html, picture.png, verdict.json, provenance.json, and
the executed notebook where :mod:`resteutils.results.reproduce` ran it; the folder is replaced as a whole
(:mod:`resteutils.system.files`).

A table of some rows never overwrites a fuller one: :mod:`resteutils.results.standing`.
"""

from __future__ import annotations

import io
import json
import os
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resteutils.evidence import summary, html
from resteutils.results import standing
from resteutils.system.files import replaced, write_atomic
from resteutils.runs.provenance import provenance
from resteutils.runs.records import Runs
from resteutils.evidence.table import Table
from resteutils.evidence.verdict import CLAIMS, Verdict

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["about", "item_provenance", "item_runs", "recipes_of", "save_item", "show", "stamp"]

DPI = 160


def item_runs(
    item: str,
    profile: str = "demo",
    rows: str = "",
    seeds: str = "",
    epochs: int = 0,
    device: str = "auto",
    data_dir: str = "",
    runs_dir: str = "",
    results_dir: str = "",
    overrides: str = "",
) -> Runs:
    """Train or read the runs that are asked for, and add those behind the standing table of the item.

    The order is that of the item's rows, then epochs, then seeds; so is that of ``diverged``. Arguments as in
    :func:`resteutils.runs.store.run_item`. Raises ``ValueError``, before anything is trained, where the standing table would
    lose lines, or ``overrides`` would replace some.
    """
    from resteutils.recipes import ITEMS, item_recipes
    from resteutils.runs.store import run_item

    recipes = item_recipes(item, profile, rows, seeds, epochs, overrides)
    kept = standing.standing_runs(item, profile, runs_dir, results_dir)
    target = standing.item_folder(item, profile, results_dir)
    standing.refuse_losses(target, [*recipes, *(run.recipe for run in kept.every)])
    if overrides:
        standing.refuse_replacing(target, recipes)
    asked = run_item(
        item,
        profile=profile,
        rows=rows,
        seeds=seeds,
        epochs=epochs,
        device=device,
        data_dir=data_dir,
        runs_dir=runs_dir,
        results_dir=results_dir,
        overrides=overrides,
    )
    place = {row: index for index, row in enumerate(ITEMS[item].rows)}

    def ordered(runs: Iterable[Any], before: Iterable[Any]) -> list[Any]:
        together = [*runs, *(run for run in before if not standing.superseded(run, asked.every))]
        return sorted(together, key=lambda r: (place.get(r.recipe.row, len(place)), r.recipe.epochs, r.recipe.seed))

    return Runs(ordered(asked, kept), ordered(asked.diverged, kept.diverged))


# --- what goes into the folder ---------------------------------------------------------------------------------------


def save_item(
    item: str,
    profile: str,
    table: Table | pd.DataFrame | None = None,
    figure: Figure | None = None,
    verdict: Verdict | None = None,
    runs: Iterable[Any] = (),
    out_dir: str | os.PathLike = "",
    results_dir: str | os.PathLike = "",
    beside: Iterable[str] = (),
) -> Path:
    """Write table, picture, verdict and provenance of an item; return the folder that holds them.

    Arguments:
        table: a :class:`~resteutils.evidence.table.Table`, or a plain data frame, which is shown as it is. None for pictures.
        figure: written as picture.png with the caption (profile, dataset, epochs, n) below; None where there is none.
        verdict: what :func:`resteutils.evidence.verdict.judge` returned.
        runs: every run behind the table or picture.
        out_dir: a folder to write to instead: the one that ``reproduce`` is completing. Empty: replace
            ``<results_dir>/<profile>/<item>`` as a whole.
        beside: ids of runs that the picture shows too and that are not the item's own.

    Raises ValueError where the standing table has lines that the new one would lose.
    """
    runs = Runs.of(runs)
    if isinstance(table, Table) or table is None:
        shown = table
    else:
        shown = Table(table, {"Numbers": table}, summary.caption(runs, profile))
    target = standing.item_folder(item, profile, results_dir)
    standing.refuse_losses(target, [run.recipe for run in runs.every])
    if out_dir:
        folder = Path(out_dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, item, profile, shown, figure, verdict, runs, beside)
        return folder
    with replaced(target) as folder:
        _write(folder, item, profile, shown, figure, verdict, runs, beside)
    return target


def _write(
    folder: Path,
    item: str,
    profile: str,
    table: Table | None,
    figure: Figure | None,
    verdict: Verdict | None,
    runs: Runs,
    beside: Iterable[str],
) -> None:
    if table is not None:
        title = f"{item}, profile {profile}"
        write_atomic(folder / "table.csv", table.frame.to_csv(index=False, lineterminator="\n"))
        write_atomic(folder / "table.md", f"# {title}\n\n{table.to_markdown()}")
        write_atomic(folder / "table.html", html.page(title, f"<h1>{title}</h1>\n{table.to_html()}"))
    if figure is not None:
        write_atomic(folder / "picture.png", _png(figure, runs, profile))
    if verdict is not None:
        write_atomic(folder / "verdict.json", _json({"item": item, **verdict.to_dict()}))
    write_atomic(folder / "provenance.json", _json(item_provenance(item, profile, runs, beside)))


def stamp(figure: Figure, runs: Iterable[Any], profile: str) -> Figure:
    """Print profile, dataset, epochs and n below the figure, once."""
    if any(text.get_gid() == "caption" for text in figure.texts):
        return figure
    figure.draw_without_rendering()  # the layout is made when drawing: only then is it known where the picture ends
    figure.set_layout_engine("none")
    for legend in figure.legends:  # they hang on the canvas, which grows when the caption is cut out with the picture
        legend.set_bbox_to_anchor((0, 0, 1, 1), figure.transFigure)
    width, height = figure.get_size_inches()
    below = figure.get_tightbbox().y0 / height - 0.06 / height
    text = "\n".join(textwrap.wrap(summary.caption(runs, profile), int(width * 17)))
    figure.text(0.01, below, text, ha="left", va="top", fontsize=8, color="#5b6570", gid="caption")
    return figure


def show(figure: Figure, runs: Iterable[Any], profile: str) -> Any:
    """The figure as a notebook shows it: the very image that ``save_item`` writes, caption included."""
    from IPython.display import Image

    runs = Runs.of(runs)
    image = _png(figure, runs, profile)
    width = int(figure.get_size_inches()[0] * 100)
    return Image(data=image, format="png", width=width, alt=summary.caption(runs, profile))


def _png(figure: Figure, runs: Iterable[Any], profile: str) -> bytes:
    image = io.BytesIO()
    stamp(figure, runs, profile).savefig(image, format="png", dpi=DPI, bbox_inches="tight", facecolor="white")
    return image.getvalue()


def about(item: str, profile: str) -> Any:
    """What a notebook shows first: the item, what its profile may claim, the code, the versions and the machine."""
    import pandas as pd
    from IPython.display import HTML

    from resteutils.recipes import ITEMS, known

    known("item", item, ITEMS)
    known("profile", profile, CLAIMS)
    made = provenance()
    machine = ", ".join(str(value) for key, value in made["machine"].items() if value and key in ("cpu", "gpu", "simd"))
    facts = {
        "profile": f"{profile}; may claim: {', '.join(CLAIMS[profile])}",
        "commit": f"{made['commit'][:10]}{', with local changes' if made['dirty'] else ''}",
        "versions": ", ".join(f"{name} {version}" for name, version in made["versions"].items() if version),
        "machine": f"{machine}, {made['machine']['threads']} of {made['machine']['cores']} cores",
        "time": made["created"],
    }
    frame = pd.DataFrame({"": list(facts), item: list(facts.values())})
    return HTML(html.table_html(frame))


def item_provenance(item: str, profile: str, runs: Iterable[Any], beside: Iterable[str] = ()) -> dict[str, Any]:
    """Commit, versions, machine, time; of every run its recipe's hash, seed, commit, machine and seconds; the ids of
    other runs that are shown beside."""
    runs = Runs.of(runs)
    own = {run.recipe.run_id for run in runs}
    return {
        "item": item,
        "profile": profile,
        **provenance(),
        "caption": summary.caption(runs, profile),
        "wall_time_seconds": round(sum(float(run.result.get("seconds") or 0) for run in runs), 1),
        "runs": [_run_entry(run) | {"seconds": run.result.get("seconds")} for run in runs],
        "diverged": [_run_entry(run) | {"reason": run.reason} for run in runs.diverged],
        "beside": sorted({*beside} - own),
    }


def _run_entry(run: Any) -> dict[str, Any]:
    made = run.provenance or {}
    machine = made.get("machine", {})
    return {
        "row": run.recipe.row,
        "run_id": run.recipe.run_id,
        "recipe": run.recipe.identity,
        "dataset": run.recipe.dataset,
        "epochs": run.recipe.epochs,
        "seed": run.recipe.seed,
        "commit": made.get("commit"),
        "created": made.get("created"),
        "machine": {key: machine.get(key) for key in ("cpu", "cores", "threads", "gpu")},
    }


def recipes_of(runs: Iterable[Any]) -> pd.DataFrame:
    """What a notebook shows before its table: the recipe behind each run, one line each."""
    import pandas as pd

    names = "row model bits dataset epochs batch_size lr seed identity".split()
    every = Runs.of(runs).every
    return pd.DataFrame([{name: getattr(run.recipe, name) for name in names} for run in every], columns=names)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n"
