"""An item in one profile: its runs, and its results folder, written as a whole or not at all.

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
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resteutils.evidence import html, summary
from resteutils.evidence.table import Table
from resteutils.evidence.verdict import CLAIMS, Verdict
from resteutils.recipes import ITEMS, item_recipes, known
from resteutils.results import standing
from resteutils.runs.provenance import provenance
from resteutils.runs.records import Runs
from resteutils.system.files import replaced, write_atomic
from resteutils.system.settings import Places, refuse_unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Item", "item_provenance", "parameters", "stamp"]

DPI = 160
PARAMETERS = "profile rows seeds epochs device data_dir runs_dir results_dir out_dir overrides".split()


def parameters(namespace: Mapping[str, Any], known: Sequence[str] = ()) -> dict[str, Any]:
    """Collect the parameters of a notebook: what its cells, or papermill, gave plain values to so far.

    Call it in the notebook's first cell, as ``ru.Item("table1", **ru.parameters(globals()))``: a misspelt parameter is
    then one that :class:`Item` refuses. A notebook without an item names its parameters as ``known``.

    Raises ``ValueError`` for one that is not ``known``, where those are named.
    """
    plain = (str, int, float, bool, list, tuple, dict, type(None))
    own = {"In", "Out"}  # of IPython's names those that are a list and a dictionary
    again = any(isinstance(value, Item) for value in namespace.values())
    found = {
        name: value
        for name, value in namespace.items()
        if isinstance(value, plain)
        and not name.startswith("_")
        and name not in own
        # where the cell is run again, what later cells have left is there too
        and (not again or name in PARAMETERS)
    }
    if known:
        refuse_unknown(found, known)
    return found


class Item:
    """A table or figure in one profile, and all that a notebook asks of it.

    >>> item = Item("figure1", profile="smoke")
    >>> item.runs()
    []

    Arguments:
        name: of the item; ``resteutils list`` shows them.
        profile: "smoke", "demo", "short" or "paper".
        rows, seeds: text such as "ste,reste" or "0,1", a list, or a number; empty: all rows, the profile's seeds.
        epochs: of each run; 0: the profile's.
        device: "auto", "cpu", "cuda" or "cuda:N".
        data_dir, runs_dir, results_dir: folders; empty: :mod:`resteutils.system.settings`.
        out_dir: a folder to write to instead of ``<results_dir>/<profile>/<name>``.
        overrides: changes to every recipe, "lr=0.05,accumulate=2".

    Raises ``ValueError`` for an unknown item, profile or parameter, naming those that are known.
    """

    def __init__(
        self,
        name: str,
        profile: str = "demo",
        rows: str | Iterable[str] = "",
        seeds: str | int | Iterable[int] = "",
        epochs: int | str = 0,
        device: str = "auto",
        data_dir: str | os.PathLike = "",
        runs_dir: str | os.PathLike = "",
        results_dir: str | os.PathLike = "",
        out_dir: str | os.PathLike = "",
        overrides: str = "",
        **unknown: Any,
    ) -> None:
        refuse_unknown(unknown, PARAMETERS)
        texts = {"device": device, "data_dir": data_dir, "runs_dir": runs_dir, "results_dir": results_dir}
        for given, value in (texts | {"out_dir": out_dir, "overrides": overrides}).items():
            if not isinstance(value, str | os.PathLike):
                raise ValueError(f"{given} = {value!r}, expected text")
        known("item", name, ITEMS)
        known("profile", profile, CLAIMS)
        self.name, self.profile, self.device, self.overrides = name, profile, device, overrides
        self.rows, self.seeds, self.epochs = _listed(rows), _listed(seeds), _whole(epochs)
        self.places = Places.of(data_dir, runs_dir, results_dir)
        self.out_dir = str(out_dir)
        self._runs = Runs()

    def about(self) -> Any:
        """Show what a notebook begins with: what the profile may claim, the code, the versions and the machine."""
        import pandas as pd
        from IPython.display import HTML

        made = provenance()
        machine = ", ".join(str(v) for key, v in made["machine"].items() if v and key in ("cpu", "gpu", "simd"))
        facts = {
            "profile": f"{self.profile}; may claim: {', '.join(CLAIMS[self.profile])}",
            "commit": f"{made['commit'][:10]}{', with local changes' if made['dirty'] else ''}",
            "versions": ", ".join(f"{name} {version}" for name, version in made["versions"].items() if version),
            "machine": f"{machine}, {made['machine']['threads']} of {made['machine']['cores']} cores",
            "time": made["created"],
        }
        return HTML(html.table_html(pd.DataFrame({"": list(facts), self.name: list(facts.values())})))

    def runs(self) -> Runs:
        """Train or read the runs that are asked for, and add those behind the item's table of earlier calls.

        The order is that of the item's rows, then epochs, then seeds; so is that of ``diverged``.

        Raises ``ValueError``, before anything is trained, where that table would lose lines, or ``overrides`` would
        replace some.
        """
        from resteutils.runs.store import run_item

        if not ITEMS[self.name].rows:
            return self._runs
        asked = (self.name, self.profile, self.rows, self.seeds, self.epochs)
        recipes = item_recipes(*asked, self.overrides)
        earlier = standing.standing_runs(self.name, self.profile, self.places)
        target = standing.item_folder(self.name, self.profile, self.places.results)
        standing.refuse_losses(target, [*recipes, *(run.recipe for run in earlier.every)])
        if self.overrides:
            standing.refuse_replacing(target, recipes)
        new = run_item(*asked, device=self.device, overrides=self.overrides, places=self.places)
        place = {row: index for index, row in enumerate(ITEMS[self.name].rows)}

        def ordered(runs: Iterable[Any], before: Iterable[Any]) -> list[Any]:
            together = [*runs, *(run for run in before if not standing.superseded(run, new.every))]
            return sorted(together, key=lambda r: (place.get(r.recipe.row, len(place)), r.recipe.epochs, r.recipe.seed))

        self._runs = Runs(ordered(new, earlier), ordered(new.diverged, earlier.diverged))
        return self._runs

    def recipes(self) -> pd.DataFrame:
        """List the recipe behind each run, one line each."""
        import pandas as pd

        names = "row model bits dataset epochs batch_size lr seed identity".split()
        every = self._runs.every
        return pd.DataFrame([{name: getattr(run.recipe, name) for name in names} for run in every], columns=names)

    def show(self, figure: Figure) -> Any:
        """Show a figure as the image that :meth:`save` writes, caption included."""
        from IPython.display import Image

        image, width = _png(figure, self._runs, self.profile), int(figure.get_size_inches()[0] * 100)
        return Image(data=image, format="png", width=width, alt=summary.caption(self._runs, self.profile))

    def save(
        self,
        table: Table | pd.DataFrame | None = None,
        figure: Figure | None = None,
        verdict: Verdict | None = None,
        beside: Iterable[str] = (),
        runs: Iterable[Any] | None = None,
    ) -> Path:
        """Write table, picture, verdict and provenance; return the folder that holds them.

        Arguments:
            table: a :class:`~resteutils.evidence.table.Table`, or a plain data frame, which is shown as it is.
            figure: written as picture.png with the caption (profile, dataset, epochs, n) below.
            verdict: what :func:`resteutils.evidence.verdict.judge` returned.
            beside: ids of runs that the picture shows too and that are not the item's own.
            runs: every run behind the table or picture, where they are not those of :meth:`runs`.

        Raises ``ValueError`` where the table there has lines that the new one would lose.
        """
        runs = self._runs if runs is None else Runs.of(runs)
        shown = table
        if table is not None and not isinstance(table, Table):
            shown = Table(table, {"Numbers": table}, summary.caption(runs, self.profile))
        target = standing.item_folder(self.name, self.profile, self.places.results)
        standing.refuse_losses(target, [run.recipe for run in runs.every])
        content = (self.name, self.profile, shown, figure, verdict, runs, beside)
        if self.out_dir:
            folder = Path(self.out_dir).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder, *content)
            return folder
        with replaced(target) as folder:
            _write(folder, *content)
        return target


def _listed(value: str | int | Iterable[Any]) -> str | tuple[Any, ...]:
    """Text, or what papermill makes of it: ``-p seeds 0`` is the number, ``-y 'seeds: [0, 1]'`` a list."""
    if isinstance(value, Integral):
        return (value,)
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else value


def _whole(epochs: int | str) -> int:
    try:
        return int(str(epochs or 0))  # by its text: of 2.5 int() would make 2, of True 1
    except ValueError as error:
        raise ValueError(f"epochs = {epochs!r}, expected a whole number; 0 means the profile's") from error


# --- what goes into the folder ---------------------------------------------------------------------------------------


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
        write_atomic(folder / "table.html", html.page(title, f"<h1>{title}</h1>\n{table.to_html(2)}"))
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


def _png(figure: Figure, runs: Iterable[Any], profile: str) -> bytes:
    image = io.BytesIO()
    stamp(figure, runs, profile).savefig(image, format="png", dpi=DPI, bbox_inches="tight", facecolor="white")
    return image.getvalue()


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


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n"
