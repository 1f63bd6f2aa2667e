"""Table 3: the estimators alone. One recipe, only the estimator differs; all seeds of both rows; compared with STE."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from resteutils.estimators import Estimator
from resteutils.evidence import paper, stats, summary, verdict
from resteutils.evidence.checks import LAST_EPOCH, number_checks, ordering_check, pipeline_check
from resteutils.evidence.comparison import Rows, failed_words
from resteutils.evidence.table import Table, every_run
from resteutils.items import design
from resteutils.items.beside_published import handle, name_rows, names_of, place_legend
from resteutils.items.rationality import rationality
from resteutils.items.style import COLOURS, INK, blank, diamond, instead, styled
from resteutils.runs.records import Runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLUMNS", "REFERENCE", "figure", "judge", "table"]

REFERENCE = "ste"

CONTROLS = ("ste-identity", "ste-gain", "ste-gain-clip", "reste-weights", "reste-activations", "reste-o1")
# Beside the 2x2 design: sums of rows, of which the claim says that they are positive.
CONTRASTS = {
    "ReSTE's clip alone, at o = 1, above ste": {"reste-o1": 1, REFERENCE: -1},
    "the power on the activations: ReSTE there only above its clip alone": {"reste-activations": 1, "reste-o1": -1},
    "ReSTE on the weights above their plateau gain alone": {"reste-weights": 1, "ste-gain": -1},
    "the curve, if clip and gain add up: ReSTE above both": {"reste": 1, REFERENCE: 1, "reste-o1": -1, "ste-gain": -1},
    "EDE on the weights only above ste": {"ede-weights": 1, REFERENCE: -1},
}

COLUMNS = (
    "row method type rational flexible published source measured_mean measured_std n difference ci_low ci_high "
    "welch_low welch_high moderated_low moderated_high holm_p in_pool smallest_detectable seconds_per_epoch profile "
    "epochs"
).split()


def table(runs: Iterable[Any], profile: str) -> Table:
    """Table 3 with its controls: columns ``COLUMNS``; differences are to row ``ste``, in points."""
    import pandas as pd

    runs = Runs.of(runs)
    seconds = summary.per_run(runs).groupby(["row", "epochs"])["seconds_per_epoch"].mean()
    recipes = {(run.recipe.row, run.recipe.epochs): run.recipe for run in runs.every}
    known, lines = summary.lines(runs), []
    budgets = {epochs: Rows.of(runs, epochs) for _, epochs in recipes}
    against = {key: budgets[key[1]].difference(key[0], REFERENCE) for key in recipes if key[0] != REFERENCE}
    holm = dict(zip(against, stats.holm([found.p for found in against.values()]), strict=True))
    for (row, epochs), values in ((key, known.get(key, {})) for key in recipes):
        rows, found = budgets[epochs], against.get((row, epochs))
        lines.append(
            _words(row, recipes[row, epochs])
            | {"measured_mean": stats.mean(values), "measured_std": stats.std(values), "n": len(values)}
            | (_numbers(found, rows) if found else {})
            | {
                "holm_p": holm.get((row, epochs)),
                "in_pool": "no" if row in rows.failed else "yes",
                "seconds_per_epoch": seconds.get((row, epochs)),
                "profile": profile,
                "epochs": epochs,
            }
        )
    frame = pd.DataFrame(lines, columns=COLUMNS)
    sections = {}
    for epochs, rows in budgets.items():
        if not (effects := design.frame(rows)).empty:
            sections[f"Clip and gain: the 2x2 design, {summary.epochs_words(epochs)}"] = effects
    sections["Estimators, one recipe (top-1 after the last epoch, %)"] = _reading(frame)
    sections["Rational? Checked on a grid of |z| in (0, 2], along the whole path"] = _grid(recipes)
    sections["Every run"] = every_run(runs)
    return Table(frame, sections, summary.caption(runs, profile), _notes(runs, budgets))


def _numbers(found: stats.Difference, rows: Rows) -> dict[str, float]:
    """The columns of a difference to STE."""
    detectable = stats.smallest_detectable(rows.pooled, *found.counts) if found.n and not found.by else None
    return {
        "difference": found.estimate,
        "ci_low": found.low,
        "ci_high": found.high,
        "welch_low": found.alone[0],
        "welch_high": found.alone[1],
        "moderated_low": found.moderated[0],
        "moderated_high": found.moderated[1],
        "smallest_detectable": detectable,
    }


def _sides(recipe: Any) -> dict[str, Estimator]:
    """The estimators of a recipe: one, or one for the weights and one for the activations."""
    if recipe.bits != "1/1" or recipe.input_estimator in (None, recipe.estimator):
        return {"": recipe.estimator}
    return {"weights": recipe.estimator, "activations": recipe.input_estimator}


def _words(row: str, recipe: Any) -> dict[str, Any]:
    """The columns that do not come from training; ``flexible`` is the paper's word, ``rational`` is checked."""
    sides = _sides(recipe)
    found = {side: rationality(e) for side, e in sides.items()}
    cell = paper.find("table3", row)
    return {
        "row": row,
        "method": _joined({side: e.label for side, e in sides.items()}),
        "type": _joined({side: e.kind for side, e in sides.items()}),
        "rational": _joined({side: "yes" if r.rational else "no" for side, r in found.items()}),
        "flexible": paper.value("table3", row, "flexible"),
        "published": cell.value if cell else None,
        "source": _source(cell),
    }


def _source(cell: Any) -> str:
    """Where the published figure is from, and the remark on which STE it is."""
    if cell is None:
        return "not in the paper"
    return f"{cell.mark}; {cell.note}" if cell.row == REFERENCE and cell.note else cell.mark


def _joined(texts: dict[str, str]) -> str:
    """One text where both sides agree, else ``power (weights), identity (activations)``."""
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{text} ({side})" for side, text in texts.items())


def _reading(frame: Any) -> Any:
    import pandas as pd

    def line(r: Any) -> dict[str, Any]:
        difference = (
            f"{r.difference:+.2f} {design.bounds((r.ci_low, r.ci_high))}" if r.difference == r.difference else ""
        )
        mean = f"{r.measured_mean:.2f} ± {r.measured_std:.2f}" if r.n > 1 else f"{r.measured_mean:.2f}"
        mean = mean if r.n else "diverged"
        return {
            "Row": r.row,
            "Published": "" if r.published != r.published or r.published is None else f"{r.published:.2f}",
            "Measured": mean,
            "n": r.n,
            "Difference to STE [95 %]": "reference" if r.row == REFERENCE else difference.rstrip(),
            "By these rows alone": design.bounds((r.welch_low, r.welch_high)),
            "Moderated": design.bounds((r.moderated_low, r.moderated_high)),
            "Holm p": "" if r.holm_p != r.holm_p else f"{r.holm_p:.2g}",
            "In the pool": r.in_pool,
            "Detectable": "" if r.smallest_detectable != r.smallest_detectable else f"{r.smallest_detectable:.2f}",
            "s per epoch": round(r.seconds_per_epoch, 2) if r.n else "",
            "Epochs": r.epochs,
            "Estimator": r.method,
            "Type": r.type,
            "Rational": r.rational,
            "Flexible (paper)": r.flexible,
            "Source": r.source,
        }

    numeric = "published measured_mean measured_std difference ci_low ci_high welch_low welch_high".split()
    numeric += "moderated_low moderated_high holm_p smallest_detectable seconds_per_epoch".split()
    frame = frame.assign(**{name: frame[name].astype(float) for name in numeric})
    return pd.DataFrame([line(r) for r in frame.itertuples()])


def _grid(recipes: dict[tuple[str, int], Any]) -> Any:
    import pandas as pd

    rows, said = [], {}
    for (row, _), recipe in recipes.items():
        for e in _sides(recipe).values():
            said[e] = said.get(e) or paper.value("table3", row, "rational")
    for e, word in said.items():
        found = rationality(e)
        rows.append(
            {
                "Estimator": str(e),
                "Rational, on the grid": str(found),
                "The paper says": word,
                "Largest excess": f"{max(found.excess, 0.0):.3g}",
                "Mean squared error, start of the path": f"{found.error_start:.3f}",
                "End of the path": f"{found.error_end:.3f}",
            }
        )
    return pd.DataFrame(rows)


def _notes(runs: Runs, budgets: dict[int, Rows]) -> tuple[str, ...]:
    notes = (
        "Differences are those of the means over all seeds of both rows. Their 95 % intervals use the variance pooled "
        "within the rows of which no training failed; beside them stand Welch's, by the compared rows alone, and those "
        "by moderated variances (empirical Bayes). Holm p is adjusted for the differences to STE in this table.",
        "With n = 3 against 3 an exact permutation test cannot give p below 0.10: what is decided here rests on the "
        "normal model of the spread between seeds. A test set of 10,000 images is itself a sample: at 50 to 60 % its "
        "standard error is 0.5 points, common to all rows and part of no interval.",
        "Detectable: the true difference that this n would have found with a probability of 80 %. Seconds per epoch "
        "are those of the machine that trained the run, whatever else it was doing.",
    )
    for epochs, rows in budgets.items():
        pool = {row: values for row, values in rows.values.items() if row not in rows.failed}
        pooled, own = rows.pooled, [stats.std(values) for values in pool.values() if len(values) > 1]
        spread = f"{pooled.std:.2f} points ({pooled.dof} degrees of freedom)" if pooled.dof else "unknown (one seed)"
        if len(own) > 1:  # where they differ much, one pooled variance is too wide for some rows, too narrow for others
            spread += f"; single estimators {min(own):.2f} to {max(own):.2f}"
        effect = stats.seed_effect(pool)
        spread += f"; p of a common effect of the seeds {effect:.2g}" if effect == effect else ""
        lead = [words] if (words := design.words(rows)) else []
        notes = (*lead, *notes, f"Spread from seed to seed at {epochs} epochs, pooled within estimators: {spread}.")
        notes += tuple(failed_words(rows, epochs))
    return (*notes, *summary.diverged_words(runs), *summary.exploded_words(runs))


def judge(runs: Iterable[Any], profile: str) -> verdict.Verdict:
    """Everything ran; the 2x2 design; ReSTE above each rival of the paper and each control that would explain it away;
    the numbers. A rival none of whose trainings succeeded is a control."""
    runs = Runs.of(runs)
    rivals = {cell.row: "ordering" for cell in paper.cells("table3", metric="top1") if cell.row != "reste"}
    asked, checks, lead = rivals | dict.fromkeys(CONTROLS, "control"), [pipeline_check(runs)], []
    for epochs in sorted({run.recipe.epochs for run in runs}):
        rows, after = Rows.of(runs, epochs), f" after {epochs} epochs"
        there = rows.values.keys() | rows.lost.keys()
        checks += design.checks(rows, after)
        lead += [words] if (words := design.words(rows)) else []
        idle = sorted(rows.untrained & rivals.keys())  # block G's rule: who does not train leaves the claims
        if "reste" in there:
            checks += [
                ordering_check("reste", row, rows, f"ReSTE above {row}{after}", "control" if row in idle else kind)
                for row, kind in asked.items()
                if row in there
            ]
            if idle:
                lead.append(f"To be above {' and '.join(idle)} is no claim: none of their trainings{after} succeeded.")
        for claim, weights in CONTRASTS.items():
            if weights.keys() <= there:
                checks.append(verdict.ordering(f"{claim}{after}", rows.contrast(weights), kind="control"))
    checks += _rational_check(runs) + number_checks("table3", runs)
    lacking = summary.not_run(["reste", *rivals], runs)
    return verdict.judge(profile, checks, summary.noted(" ".join([*lead, LAST_EPOCH]), runs), lacking)


def _rational_check(runs: list[Any]) -> list[verdict.Check]:
    """ReSTE is rational. The others' answers hang on parameters that no source gives: those are shown, not judged."""
    found = [rationality(run.recipe.estimator) for run in runs if run.recipe.row == "reste"][:1]
    return [verdict.fact("ReSTE's error is never above the identity's", f.rational, f"on the grid: {f}") for f in found]


# --- the picture ---


@styled
def figure(runs: Iterable[Any]) -> Figure:
    """Table 3: each estimator's difference to STE with its 95 % interval, the largest on top, and its n; open diamonds:
    the published differences."""
    runs = Runs.of(runs)
    lines = {key: v for key, v in summary.lines(runs).items() if key[0] != REFERENCE}
    lines |= {key: {} for key in summary.diverged(runs) if key not in lines}
    found = {(row, epochs): Rows.of(runs, epochs).difference(row, REFERENCE) for row, epochs in lines}
    ordered = sorted(lines, key=lambda key: -found[key].estimate if lines[key] and found[key].n else math.inf)
    names = [
        f"{name} (n = {len(lines[key])})" if lines[key] else name
        for name, key in zip(names_of(ordered), ordered, strict=True)
    ]
    figure, axes = blank(7.2, 1.4 + 0.3 * max(len(lines), 3))
    for y, (row, epochs) in enumerate(ordered):
        _draw_difference(axes, y, row, found[row, epochs], bool(lines[row, epochs]))
    axes.axvline(0, color="#888888", lw=1)
    name_rows(axes, names)
    axes.set_xlabel("difference to STE in top-1 (points)")
    elsewhere = any(map(summary.elsewhere, runs))
    axes.set_title(_message(found) + " (measured on other data)" * elsewhere)
    known = any(difference.low == difference.low for difference in found.values())
    handles = [
        handle(axes, "o", COLOURS["other"], "measured, 95 % interval" if known else "measured, one seed each"),
        handle(axes, "D", INK, "published (to the paper's STE)", hollow=True),
    ]
    place_legend(axes, handles)
    return figure


def _draw_difference(axes: Axes, y: int, row: str, found: stats.Difference, ended: bool) -> None:
    colour = COLOURS["ReSTE"] if row == "reste" else COLOURS["other"]
    if found.low == found.low:
        axes.plot([found.low, found.high], [y, y], "-", color=colour, lw=2, solid_capstyle="butt")
    if not ended:
        instead(axes, y, "diverged")
    elif found.n:
        axes.plot(found.estimate, y, "o", color=colour, ms=6)
    else:
        instead(axes, y, "no STE to compare with")
    if (published := paper.value("table3", row)) is not None:
        diamond(axes, published - paper.value("table3", REFERENCE), y)


def _message(found: Mapping[tuple[str, int], stats.Difference]) -> str:
    """What the picture shows of ReSTE, at the largest budget at which it has runs."""
    budgets = [epochs for row, epochs in found if row == "reste"]
    lead = found["reste", max(budgets)].estimate if budgets else math.nan
    if math.isnan(lead):
        return "Table 3: only the estimator differs"
    return f"ReSTE is {abs(lead):.1f} points {'above' if lead >= 0 else 'below'} STE; only the estimator differs"
