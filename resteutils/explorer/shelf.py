"""The finished runs on this disk, as the panels offer them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields

from resteutils.estimators import Estimator
from resteutils.evidence.summary import changed
from resteutils.recipes import PROFILES, Recipe, recipe
from resteutils.runs.store import Run, finished_runs
from resteutils.system.settings import runs_dir as runs_folder

__all__ = ["Shelf", "run_label"]

log = logging.getLogger(__name__)
NAMED = ("estimator", "input_estimator", "bits", "standardize")  # fields that a label names in words of its own
FIRST_ROWS = ("table3/ste", "table3/reste", "table3/ede")  # what the panels show first: the paper's comparison


def run_label(run: Run) -> str:
    """One line that tells runs apart: what was trained, on what, for how long, and how well it did."""
    return f"{recipe_label(run.recipe)}: {run.result['top1']:.1f} %"


def recipe_label(r: Recipe) -> str:
    what = _named(r.estimator) if r.estimator is not None else "float"
    if r.input_estimator is not None:
        what = f"{what} on weights, {_named(r.input_estimator)} on activations"
    words = [words for words in changed(r) if words.split(" = ")[0] not in NAMED]
    what += ", standardised" * r.standardize + "".join(f", {each}" for each in words)
    return f"{r.model} {r.bits} {what}, {r.dataset} {r.epochs} ep, seed {r.seed}"


def _named(e: Estimator) -> str:
    """An estimator by its label, its power, and what else is not as usual."""
    shown = {f.name: getattr(e, f.name) for f in fields(e) if f.name == "o" or getattr(e, f.name) != f.default}
    values = (
        f", {name} = {value}" if isinstance(value, str) else f", {name} = {value:g}" for name, value in shown.items()
    )
    return e.label + "".join(values)


class Shelf:
    """Finished runs, newest first, read again by :meth:`refresh`, which tells those who observe."""

    def __init__(self, runs_dir: str = "", results_dir: str = "") -> None:
        self.runs_dir, self.results_dir = runs_dir, results_dir
        self._callbacks: list[Callable[[], None]] = []
        self.runs: dict[str, Run] = {}
        self.read()

    def read(self) -> None:
        # A damaged record is left out; what is wrong with it is for the log, not for a reader who moves sliders.
        found = finished_runs(self.runs_dir, self.results_dir, say=log.info)
        found.sort(key=lambda run: run.provenance.get("finished", ""), reverse=True)
        self.runs = {run.path.name: run for run in found}

    def refresh(self) -> None:
        self.read()
        for callback in self._callbacks:
            callback()

    def observe(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def run(self, key: str) -> Run:
        return self.runs[key]

    def with_models(self) -> list[Run]:
        """The runs whose trained weights are here too, not only their record."""
        return [run for run in self.runs.values() if run.model_file]

    def twin(self, run: Run) -> Run | None:
        """The float twin of a run: same network, same data, 32/32; of several the one trained most nearly as long."""
        r = run.recipe
        twins = [
            other
            for other in self.with_models()
            if other.recipe.bits == "32/32" and (other.recipe.model, other.recipe.dataset) == (r.model, r.dataset)
        ]
        return min(twins, key=lambda other: (abs(other.recipe.epochs - r.epochs), other.recipe.seed), default=None)

    def best(self, runs: list[Run]) -> Run | None:
        """Of these, one with binary activations, if there is one, and with its float twin here too; of several the most
        accurate.
        """
        return max(
            runs,
            key=lambda run: (run.recipe.bits == "1/1", self.twin(run) is not None, run.result["top1"]),
            default=None,
        )

    def comparison(self) -> list[str]:
        """The keys of :data:`FIRST_ROWS` at seed 0, of the most telling profile that has any; else the newest run's."""
        for profile in reversed(PROFILES):
            ids = [recipe(row, profile).run_id for row in FIRST_ROWS]
            if there := [run_id for run_id in ids if run_id in self.runs]:
                return there
        return list(self.runs)[:1]

    def nothing_yet(self, what: str = "finished run") -> str:
        """What to do where there is none, as Markdown and HTML alike."""
        return (
            f"No {what} in {runs_folder(self.runs_dir)} yet: press \u201cTrain this\u201d in the training panel, or "
            "run <code>make reproduce-table1 PROFILE=demo</code> and then press \u201cRead runs again\u201d."
        )
