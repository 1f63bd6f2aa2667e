"""The finished runs on this disk, as the panels offer them."""

from __future__ import annotations

import logging
from dataclasses import fields

from resteutils.estimators import Estimator
from resteutils.evidence.summary import changed
from resteutils.recipes import Recipe, recipe
from resteutils.runs.store import Run, finished_runs

__all__ = ["Shelf", "apart", "method_label", "overridden", "recipe_label", "run_label"]

log = logging.getLogger(__name__)
NAMED = ("estimator", "input_estimator", "bits", "standardize")  # fields that a label names in words of its own
OF_ROWS = (*NAMED, "model", "dataset", "image_size", "padding", "train_size", "batch_size", "warmup_epochs")
MEASURED = ("short", "paper")  # profiles on the paper's data
FIRST_ITEMS = ("table3", "figure4")  # what the page shows first where not all fit


def run_label(run: Run) -> str:
    """One line that tells runs apart: what was trained, on what, for how long, and how well it did."""
    return f"{recipe_label(run.recipe)}: {run.result['top1']:.1f} %"


def recipe_label(r: Recipe) -> str:
    """The run that a recipe makes, in one line."""
    return f"{r.model} {r.bits} {method_label(r)}, {r.dataset} {r.epochs} ep, seed {r.seed}"


def method_label(r: Recipe) -> str:
    """The estimators of a recipe and what else sets it apart, without network, data and seed."""
    what = _named(r.estimator) if r.estimator is not None else "float"
    if r.input_estimator is not None:
        what = f"{what} on weights, {_named(r.input_estimator)} on activations"
    return what + ", standardised" * r.standardize + "".join(f", {each}" for each in apart(r))


def overridden(r: Recipe) -> list[str]:
    """``NAME = VALUE`` of what overrides changed in a recipe, what the label's own words say aside."""
    return [words for words in changed(r) if words.split(" = ")[0] not in NAMED]


def apart(r: Recipe) -> list[str]:
    """What sets a recipe apart from Table 3's beside estimator, network, data and budget: by an override or, as in the
    rows of ``why``, by its row."""
    own = overridden(r)
    if r.item == "table2":
        return own
    usual = recipe("table3/reste", r.profile, r.seed, epochs=r.epochs)
    rows = [words for words in r.changed(usual) if words.split(" = ")[0] not in OF_ROWS and words not in own]
    return own + rows


def _named(e: Estimator) -> str:
    """An estimator by its label, its power, and what else is not as usual."""
    shown = {f.name: getattr(e, f.name) for f in fields(e) if f.name == "o" or getattr(e, f.name) != f.default}
    values = (
        f", {name} = {value}" if isinstance(value, str) else f", {name} = {value:g}" for name, value in shown.items()
    )
    return e.label + "".join(values)


class Shelf:
    """Finished runs, newest first; :meth:`read` looks at the disk again."""

    def __init__(self, runs_dir: str = "", results_dir: str = "") -> None:
        self.runs_dir, self.results_dir = runs_dir, results_dir
        self.runs: dict[str, Run] = {}
        self.read()

    def read(self) -> None:
        # A damaged record is left out; what is wrong with it is for the log, not for a reader who moves sliders.
        found = finished_runs(self.runs_dir, self.results_dir, say=log.info)
        found.sort(key=lambda run: run.provenance.get("finished", ""), reverse=True)
        self.runs = {run.path.name: run for run in found}

    def measured(self) -> list[Run]:
        """The runs of the profiles that may claim something: the page's evidence, the paper's comparison first."""
        found = [run for run in self.runs.values() if run.recipe.profile in MEASURED]
        return sorted(found, key=lambda run: (run.recipe.item not in FIRST_ITEMS, run.recipe.row, run.recipe.seed))

    def own(self) -> list[Run]:
        """The other runs, newest first: the reader's own trainings."""
        return [run for run in self.runs.values() if run.recipe.profile not in MEASURED]

    def twin(self, run: Run) -> Run | None:
        """The float twin of a run: same network, same data, 32/32; of several the one trained most nearly as long."""
        r = run.recipe
        twins = [
            other
            for other in self.runs.values()
            if other.model_file
            and other.recipe.bits == "32/32"
            and (other.recipe.model, other.recipe.dataset) == (r.model, r.dataset)
        ]
        return min(twins, key=lambda other: (abs(other.recipe.epochs - r.epochs), other.recipe.seed), default=None)

    def pairs(self) -> list[tuple[str, str]]:
        """(key, label) of the binary networks whose weights are here, with their float twin where there is one."""
        return [
            (key, run_label(run) + ("" if self.twin(run) else ", no float twin"))
            for key, run in self.runs.items()
            if run.recipe.estimator is not None and run.recipe.dataset in ("digits", "cifar10") and run.model_file
        ]
