"""Rows of one budget, compared: which trainings failed, whose variance decides, and what diverged seeds do to a claim.

The rules are those of ``docs/protocol.md``, version 2. A training *failed* if it diverged, if its latent weights
exploded, or if its loss collapsed; the rows none of whose trainings failed make the pool. A comparison inside the pool
is decided by the pooled variance, one with a row outside by the compared rows' own (Welch). A seed that has no value
counts as the worst one: a comparison is decided only where it comes out alike without that seed and with the worst.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from resteutils.evidence import moderated, stats, summary
from resteutils.evidence.stats import Difference, Pooled
from resteutils.runs.records import Runs

__all__ = ["COLLAPSE", "Rows", "collapsed", "failed_words"]

COLLAPSE = 0.10  # how far above its lowest the last training loss stands, as a share, in a training that collapsed
CLASSES = 10


def collapsed(run: Any) -> bool:
    """Did the last training loss end more than ``COLLAPSE`` above its lowest? Accuracies have no part in that."""
    losses = list(run.history["train_loss"]) if "train_loss" in run.history else []
    return len(losses) > 1 and losses[-1] > (1 + COLLAPSE) * min(losses)


@dataclass(frozen=True)
class Rows:
    """The values of one budget. ``values``: {row: {seed: value}}; ``lost``: {row: {seed: why it has none}}; ``broken``:
    {row: the seeds whose training failed}; ``worst``: what a seed without a value counts as, NaN where nothing can be
    said."""

    values: Mapping[Any, Mapping[int, float]]
    lost: Mapping[Any, Mapping[int, str]] = field(default_factory=dict)
    broken: Mapping[Any, Set[int]] = field(default_factory=dict)
    worst: float = math.nan

    @classmethod
    def of(cls, runs: Iterable[Any], epochs: int = 0, value: str = "top1") -> Rows:
        """The rows of ``runs`` at ``epochs``; 0 is any number of them, for rows that stand at one each. Of an accuracy
        the worst value is that of chance."""
        every = Runs.of(runs)
        runs = [run for run in every if epochs in (0, run.recipe.epochs)]
        values: dict[str, dict[int, float]] = {}
        lost: dict[str, dict[int, str]] = {}
        for run in runs:
            number = float(run.result.get(value, math.nan))
            if math.isfinite(number):
                values.setdefault(run.recipe.row, {})[run.recipe.seed] = number
            else:
                lost.setdefault(run.recipe.row, {})[run.recipe.seed] = f"its {value} is not a number"
        for run in every.diverged:
            if epochs in (0, run.recipe.epochs):
                lost.setdefault(run.recipe.row, {})[run.recipe.seed] = "diverged"
        broken = {row: set(of) for row, of in lost.items()}
        for (row, _), of in summary.exploded(runs).items():
            broken.setdefault(row, set()).update(of)
        for run in filter(collapsed, runs):
            broken.setdefault(run.recipe.row, set()).add(run.recipe.seed)
        return cls(values, lost, broken, _chance(every) if "top" in value else math.nan)

    @property
    def failed(self) -> frozenset:
        """The rows outside the pool: some training of theirs failed."""
        return frozenset(self.broken)

    @property
    def untrained(self) -> frozenset:
        """The rows whose every training failed."""
        return frozenset(row for row, seeds in self.broken.items() if seeds >= self.values.get(row, {}).keys())

    @cached_property
    def pooled(self) -> Pooled:
        """The variance within the rows of which no training failed."""
        return stats.pool({row: values for row, values in self.values.items() if row not in self.failed})

    @cached_property
    def prior(self) -> moderated.Prior:
        return moderated.prior(self.values)

    def only(self, rows: Iterable[Any]) -> Rows:
        """The same with the values of ``rows`` alone."""
        return replace(self, values={row: self.values[row] for row in rows if row in self.values})

    def by(self, values: Mapping[Any, Mapping[int, float]]) -> Rows:
        """The same trainings by other ``values``, of which no worst one is known."""
        return replace(self, values=values, worst=math.nan)

    def first(self, n: int) -> Rows:
        """The same with seeds 0 to ``n`` - 1 alone."""

        def cut(rows: Mapping[Any, Mapping[int, Any]]) -> dict[Any, dict[int, Any]]:
            kept = {row: {seed: value for seed, value in of.items() if seed < n} for row, of in rows.items()}
            return {row: of for row, of in kept.items() if of}

        return replace(self, values=cut(self.values), lost=cut(self.lost))

    def difference(self, better: Any, worse: Any) -> Difference:
        """The difference of two rows' means, ``better`` - ``worse``."""
        return self.contrast({better: 1, worse: -1})

    def contrast(self, weights: Mapping[Any, float]) -> Difference:
        """A sum of rows' means, decided as the module says. NaN where a row has no value."""
        found = self._decided(weights, self.values)
        lost = {row: self.lost[row] for row in weights if self.lost.get(row)}
        if not lost or math.isnan(found.estimate):
            return replace(found, lost=_named(lost))
        filled = {row: {**self.values[row], **dict.fromkeys(self.lost.get(row, ()), self.worst)} for row in weights}
        if math.isnan(self.worst):
            return replace(found, lost=_named(lost))
        estimate = sum(weight * stats.mean(filled[row]) for row, weight in weights.items())
        return replace(found, lost=_named(lost), worst=stats.interval(estimate, found.se, found.dof)[:2])

    def _decided(self, weights: Mapping[Any, float], values: Mapping[Any, Mapping[int, float]]) -> Difference:
        found = stats.contrast(weights, values, self.pooled)
        if math.isnan(found.estimate):
            return found
        found = replace(found, moderated=moderated.contrast_interval(weights, values, self.prior))
        outside = [_name(row) for row in weights if row in self.failed]
        if not outside:
            return found
        se, dof = stats.by_own_variance(weights, values)
        low, high, p = stats.interval(found.estimate, se, dof)
        by = f"by these rows alone, since trainings of {', '.join(outside)} failed"
        return replace(found, low=low, high=high, p=p, se=se, dof=dof, by=by)


def _name(row: Any) -> str:
    return f"o = {row:g}" if isinstance(row, float) else str(row)


def _named(lost: Mapping[Any, Mapping[int, str]]) -> str:
    return "; ".join(
        f"{_name(row)} {why} with seed {seed}" for row, of in lost.items() for seed, why in sorted(of.items())
    )


def _chance(runs: Runs) -> float:
    """The top-1 of chance, in percent."""
    classes = {run.result.get("num_classes") or run.recipe.num_classes for run in runs}
    classes |= {run.recipe.num_classes for run in runs.diverged}
    return 100 / max((int(count) for count in classes if count), default=CLASSES)


def failed_words(rows: Rows, epochs: int = 0) -> list[str]:
    """A sentence on who is outside the pool."""
    outside = [_name(row) for row in rows.values if row in rows.failed]
    if not outside:
        return []
    at = f"At {summary.epochs_words(epochs)} trainings" if epochs else "Trainings"
    return [
        f"{at} of {', '.join(outside)} failed (diverged, exploded or "
        "collapsed): these rows are outside the pool, and the compared rows' own variances decide their comparisons."
    ]
