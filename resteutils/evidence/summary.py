"""From finished runs to numbers: one line per run, one per row of a table, and the caption with what they are worth.

A *line* of a table is a row at a number of epochs: runs of other epochs are never averaged together. Mean, standard
deviation and n go over the seeds. Accuracies are percentages; the last epoch is the measurement, the best epoch on the
test set stands beside it because that is what the paper reports.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from resteutils.data.sources import DATASETS
from resteutils.evidence import stats
from resteutils.nn.indicators import error_ceilings
from resteutils.recipes.build import build_model
from resteutils.runs.records import Runs

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BACKBONES",
    "caption",
    "ceilings",
    "changed",
    "changed_words",
    "diverged",
    "elsewhere",
    "epochs_words",
    "exploded",
    "exploded_words",
    "lines",
    "method",
    "not_run",
    "noted",
    "per_run",
    "spread",
]

BACKBONES = {
    "resnet18": "ResNet-18",
    "resnet20": "ResNet-20",
    "resnet20_bireal": "ResNet-20 Bi-Real",
    "vgg_small": "VGG-small",
    "resnet18_imagenet": "ResNet-18",
    "resnet34_imagenet": "ResNet-34",
}


def method(recipe: Any) -> str:
    """What a table calls the recipe's method: the estimator's label, or FP for the float twin."""
    return "FP" if recipe.bits == "32/32" else recipe.estimator.label


def per_run(runs: Iterable[Any]) -> pd.DataFrame:
    """One line per run, in the order given.

    Columns: row, backbone, method, bits, dataset, profile, epochs, seed, top1, top5, best_top1, best_epoch, train_loss,
    seconds_per_epoch, identity, run_id. Accuracies in percent, NaN where a run has none.
    """
    import pandas as pd

    columns = (
        "row backbone method bits dataset profile epochs seed top1 top5 best_top1 best_epoch train_loss "
        "seconds_per_epoch identity run_id"
    ).split()
    return pd.DataFrame([_line(run) for run in runs], columns=columns)


def _line(run: Any) -> dict[str, Any]:
    r, result, history = run.recipe, run.result, run.history
    numbers = ("top1", "top5", "best_top1", "best_epoch", "train_loss")
    return {
        "row": r.row,
        "backbone": BACKBONES.get(r.model, r.model),
        "method": method(r),
        "bits": r.bits,
        "dataset": r.dataset,
        "profile": r.profile,
        "epochs": r.epochs,
        "seed": r.seed,
        **{name: result.get(name, math.nan) for name in numbers},
        "seconds_per_epoch": history["seconds"].mean() if "seconds" in history else math.nan,
        "identity": r.identity,
        "run_id": r.run_id,
    }


def lines(runs: Iterable[Any], value: str = "top1") -> dict[tuple[str, int], dict[int, float]]:
    """The values of each line: {(row, epochs): {seed: value}}, in the order in which the rows first appear.

    A seed whose value is not a number has none.
    """
    found: dict[tuple[str, int], dict[int, float]] = {}
    for run in runs:
        r = run.recipe
        known, number = found.setdefault((r.row, r.epochs), {}), float(run.result.get(value, math.nan))
        if math.isfinite(number):
            known[r.seed] = number
    return found


def diverged(runs: Iterable[Any]) -> dict[tuple[str, int], dict[int, Any]]:
    """What has no accuracy because its numbers stopped being finite: {(row, epochs): {seed: run}}."""
    found: dict[tuple[str, int], dict[int, Any]] = {}
    for run in Runs.of(runs).diverged:
        found.setdefault((run.recipe.row, run.recipe.epochs), {})[run.recipe.seed] = run
    return found


def elsewhere(run: Any) -> bool:
    """Does the run use other data than the paper's?"""
    return not DATASETS[run.recipe.dataset].comparable(run.result.get("num_classes"))


def not_run(rows: Iterable[str], runs: Iterable[Any]) -> list[str]:
    """Those of ``rows`` that have no run, neither finished nor diverged."""
    there = {run.recipe.row for run in Runs.of(runs).every}
    return [row for row in rows if row not in there]


def diverged_words(runs: Iterable[Any]) -> list[str]:
    """A sentence for each line of :func:`diverged`, for the notes below a table."""
    return [
        f"{row} at {epochs} epochs diverged: "
        f"{'; '.join(f'with seed {seed}, {run.reason}' for seed, run in sorted(of.items()))}."
        for (row, epochs), of in diverged(runs).items()
    ]


def ceilings(runs: Iterable[Any]) -> dict[str, dict[str, float]]:
    """e of each network with all binary weights at zero, in both readings: {model: {reading: e}}."""
    recipes = {run.recipe.model: run.recipe for run in runs}
    return {model: error_ceilings(build_model(r, r.num_classes or 10)) for model, r in recipes.items()}


def exploded(runs: Iterable[Any]) -> dict[tuple[str, int], dict[int, float]]:
    """Runs whose latent weights exploded on the way: {(row, epochs): {seed: largest e}}, e as defined. That is where an
    epoch's e was more than twice that of weights at zero: most weights were then far beyond the signs they stand for.
    """
    measured = [run for run in runs if "error_definition" in run.history and run.recipe.bits != "32/32"]
    tops, found = ceilings(measured), {}
    for run in measured:
        r, largest = run.recipe, float(run.history["error_definition"].max())
        if largest > 2 * tops[r.model]["definition"]:
            found.setdefault((r.row, r.epochs), {})[r.seed] = largest
    return found


def exploded_words(runs: Iterable[Any]) -> list[str]:
    """A sentence for each line of :func:`exploded`: its accuracy says how training failed."""
    return [
        f"{row} at {epochs} epochs: the latent weights exploded on the way with seed {', '.join(map(str, sorted(of)))} "
        f"(e as defined up to {max(of.values()):,.0f})."
        for (row, epochs), of in exploded(runs).items()
    ]


def shared_words(runs: Iterable[Any]) -> list[str]:
    """A sentence where rows of a table are one and the same run, as the shorter profiles make of some."""
    rows: dict[tuple[str, int], list[str]] = {}
    for run in runs:
        rows.setdefault((run.recipe.identity, run.recipe.seed), []).append(run.recipe.row)
    groups = dict.fromkeys(tuple(of) for of in rows.values() if len(of) > 1)
    return [
        f"{', '.join(of[:-1])} and {of[-1]} are one recipe in this profile: they differ in epochs or batch, which the "
        "profile sets for all, and show the same runs."
        for of in groups
    ]


def changed(recipe: Any) -> list[str]:
    """``NAME = VALUE`` of what overrides changed in a recipe, its number of epochs aside."""
    from resteutils import recipes

    if recipe.row not in getattr(recipes.ITEMS.get(recipe.item), "rows", ()):
        return []  # a row that has gone since
    return recipe.changed(recipes.recipe(recipe.name, recipe.profile, recipe.seed, epochs=recipe.epochs))


def changed_words(runs: Iterable[Any]) -> list[str]:
    """A sentence for each set of overrides: what their recipes changed, and in which rows unless in all."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for run in Runs.of(runs).every:
        rows.setdefault(tuple(changed(run.recipe)), []).append(run.recipe.row)
    return [
        f"{'Every run' if len(rows) == 1 else 'Rows ' + ', '.join(dict.fromkeys(of))} with {', '.join(fields)}."
        for fields, of in rows.items()
        if fields
    ]


def noted(note: str, runs: Iterable[Any]) -> str:
    """The note of a verdict, what overrides changed, and which runs exploded."""
    return " ".join([note, *changed_words(runs), *exploded_words(runs)])


def epochs_words(epochs: int) -> str:
    """``10 epochs``."""
    return f"{epochs} {'epoch' if epochs == 1 else 'epochs'}"


def spread(values: stats.Values) -> str:
    """``mean ± std`` as text, ``mean`` alone for one seed, a dash for none."""
    if not values or stats.mean(values) != stats.mean(values):
        return "-"
    mean = f"{stats.mean(values):.2f}"
    return f"{mean} ± {stats.std(values):.2f}" if len(values) > 1 else mean


def caption(runs: Iterable[Any], profile: str) -> str:
    """One line under every table and picture: profile, dataset and its size, image size, epochs, n.

    >>> caption([], "demo")
    'Profile demo. No training run.'
    """
    runs = Runs.of(runs)
    recipes, lost = [run.recipe for run in runs], len(runs.diverged)
    if not recipes and lost:
        return f"Profile {profile}. {lost} of {lost} runs diverged."
    if not recipes:
        return f"Profile {profile}. No training run."
    seeds: dict[tuple, set] = {}
    for r in recipes:
        seeds.setdefault((r.row, r.model, r.epochs), set()).add(r.seed)
    counts = sorted({len(found) for found in seeds.values()})
    epochs = sorted({r.epochs for r in recipes})
    return (
        f"Profile {profile}. {'; '.join(sorted({_data(run) for run in runs}))}. "
        f"{_span(epochs)} {'epoch' if epochs == [1] else 'epochs'}. n = {_span(counts)} "
        f"{'seed' if counts == [1] else 'seeds'} a row."
        + (f" {lost} of {lost + len(recipes)} runs diverged." if lost else "")
        + "".join(f" {words}" for words in changed_words(runs))
    )


def _data(run: Any) -> str:
    r = run.recipe
    name = DATASETS[r.dataset].described(run.result.get("num_classes"))
    images = f"{r.train_size:,} training images" if r.train_size else "all training images"
    scored = f", scored on {r.holdout:,} held-out training images" if r.holdout else ""
    size = f"{r.image_size} x {r.image_size} pixels, " if r.image_size else ""
    return f"{name} ({size}{images}{scored})"


def _span(values: list[int]) -> str:
    return str(values[0]) if len(values) == 1 else ", ".join(map(str, values[:-1])) + f" or {values[-1]}"
