"""Figure 2: the gradients of the latent weights in one batch, at the end of training.

The batch is the first that a next epoch would bring, in training mode (BatchNorm with the batch's statistics), with the
estimator where training left it. Only binary layers count: their latent weights are what an estimator acts on.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resteutils.evidence import stats, summary, verdict
from resteutils.evidence.checks import pipeline_check
from resteutils.evidence.comparison import Rows, failed_words
from resteutils.items.style import OKABE_ITO, absent, blank, by_row, longest, styled
from resteutils.nn.layers import binary_layers
from resteutils.recipes.build import open_data
from resteutils.runs.measurements import kept, missing
from resteutils.system.settings import Places
from resteutils.training.device import resolve_device

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BINS", "LOWEST", "PER_DECADE", "Gradients", "figure", "judge", "measure", "one_batch", "sizes", "table"]

LOWEST, HIGHEST, PER_DECADE = -14, 2, 8  # of the histogram of log10|g|
BINS = (HIGHEST - LOWEST) * PER_DECADE
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
POOLED = "all layers"


@dataclass(frozen=True)
class Gradients:
    """A run and what was measured on it: one dict per layer and one for all together; empty where it could not be."""

    run: Any
    layers: tuple[dict[str, Any], ...]

    @property
    def pooled(self) -> dict[str, Any]:
        return self.layers[-1] if self.layers else {}


def measure(runs: Iterable[Any], places: Places, device: str = "auto") -> list[Gradients]:
    """The gradients of each run, measured on its trained network, or as they were kept when that was there."""
    take = functools.partial(_of_run, device=device, data_dir=str(places.data))
    found = ((run, kept("gradients", run, take, places.results)) for run in runs)
    return [Gradients(run, tuple(value["layers"]) if value else ()) for run, value in found]


def _of_run(run: Any, device: str, data_dir: str) -> dict[str, Any]:
    chosen = resolve_device(device)
    model = run.model(str(chosen)).train()
    images, labels = one_batch(run.recipe, data_dir, chosen)
    F.cross_entropy(model(images), labels).backward()
    return {"layers": sizes(model)}


def one_batch(recipe: Any, data_dir: str = "", device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """The first batch of the epoch after the last one: images (B, C, H, W), labels (B,), augmented."""
    data = open_data(recipe, data_dir, device)
    images, labels = next(iter(data.train_batches(recipe.batch_size, recipe.seed, recipe.epochs)))
    return images.to(device), labels.to(device)


def sizes(model: nn.Module) -> list[dict[str, Any]]:
    """Per binary layer, and pooled at the end: count, zeros, mean, s = var(|g|), scale-free spread std/mean,
    quantiles of the nonzero |g| and a histogram of log10|g|.

    Raises RuntimeError where there are no gradients.
    """
    found = {}
    for name, layer in binary_layers(model):
        if layer.weight.grad is None:
            raise RuntimeError(f"{name} has no gradients; call loss.backward() first")
        found[name] = layer.weight.grad.detach().abs().flatten().double().cpu()
    found[POOLED] = torch.cat(list(found.values()))
    return [{"layer": name, **_described(g)} for name, g in found.items()]


def _described(g: Tensor) -> dict[str, Any]:
    nonzero = g[g > 0]
    mean, variance = float(g.mean()), float(g.var())
    levels = torch.tensor(QUANTILES, dtype=g.dtype)
    ends = torch.quantile(nonzero, levels).tolist() if len(nonzero) else [0.0] * len(QUANTILES)
    logs = nonzero.log10().clamp(LOWEST, HIGHEST)
    return {
        "count": len(g),
        "zeros": len(g) - len(nonzero),
        "mean": mean,
        "s": variance,
        "spread": math.sqrt(variance) / mean if mean else None,
        "quantiles": ends,
        "histogram": [int(n) for n in torch.histc(logs, BINS, LOWEST, HIGHEST)],
    }


def table(found: Sequence[Gradients]) -> pd.DataFrame:
    """One line per run: pooled figures of the batch, and the indicators of the last epoch as the record has them."""
    import pandas as pd

    return pd.DataFrame([_line(g) for g in found])


def _line(g: Gradients) -> dict[str, Any]:
    r, last, pooled = g.run.recipe, g.run.history.iloc[-1], g.pooled
    nan = float("nan")
    low, middle, high = (pooled["quantiles"][i] for i in (0, 2, 4)) if pooled else (nan, nan, nan)
    return {
        "Row": r.row,
        "Estimator": summary.method(r),
        "Seed": r.seed,
        "Epochs": r.epochs,
        "s of the batch": pooled.get("s", nan),
        "Spread of the batch": pooled.get("spread", nan),
        "Mean |g|": pooled.get("mean", nan),
        "5 % of |g|": low,
        "Median |g|": middle,
        "95 % of |g|": high,
        "Decades, 5 % to 95 %": math.log10(high / low) if low and low > 0 else nan,
        "Zeros (%)": 100 * pooled["zeros"] / pooled["count"] if pooled else nan,
        "s, last epoch, as in the code": last["instability_code"],
        "s, last epoch, as defined": last["instability_definition"],
        "Spread, last epoch": last["spread"],
    }


def judge(runs: Sequence[Any], found: Sequence[Gradients], profile: str) -> verdict.Verdict:
    """EDE's gradients are spread wider than STE's: by s (which a common gain raises too) and free of scale.

    Where no network is left the record's last epoch stands in, all parameters instead of the binary weights.
    """
    frame, checks = table(found), [pipeline_check(runs)]
    if frame.empty:
        return verdict.judge(profile, checks, "No run has gradients to compare.")
    said = ["A difference of one decade is a factor of ten."]
    for epochs, lines in frame.groupby("Epochs"):
        rows = Rows.of(runs, epochs)
        checks += _wider(lines, f" after {epochs} epochs", rows)
        said += failed_words(rows, epochs)
    note = summary.noted(" ".join(said), runs)
    return verdict.judge(profile, checks, note, summary.not_run(("ste", "ede"), runs))


# What is compared: its name, its column, and that of the record's last epoch.
WIDTHS = (
    ("s = var(|g|)", "s of the batch", "s, last epoch, as defined"),
    ("scale-free spread", "Spread of the batch", "Spread, last epoch"),
)
PAIRS = (("ede", "ste", "ordering"), ("ede", "reste", "control"), ("reste", "ste", "control"))


def _wider(lines: pd.DataFrame, when: str, trained: Rows) -> list[verdict.Check]:
    """The comparisons of one budget; ``trained`` says whose trainings failed, and so whose variance decides."""
    checks = []
    for said, of_batch, of_epoch in WIDTHS:
        chosen = of_epoch if lines[of_batch].isna().any() else of_batch
        known = lines[lines[chosen] > 0]  # where every gradient is zero there is no width to compare
        widths = stats.groups(known["Row"], known["Seed"], known[chosen].map(math.log10))
        rows = trained.by(widths)
        for wide, narrow, kind in PAIRS:
            if {wide, narrow} <= rows.values.keys():
                d = rows.difference(wide, narrow)
                claim = f"{wide}'s {said} is larger than {narrow}'s{when}"
                checks.append(verdict.ordering(claim, d, "decades", chosen, kind))
    return checks


# --- the picture ---

COLOURS = {"ste": OKABE_ITO["vermillion"], "ede": OKABE_ITO["green"], "reste": OKABE_ITO["blue"]}
DASHES = {"ste": "--", "ede": "-.", "reste": "-"}


@styled
def figure(found: Sequence[Gradients]) -> Figure:
    """Pooled over the binary layers (top), and layer by layer (bottom), on logarithmic scales."""
    figure, axes = blank(7.2, 7.0, nrows=3, height_ratios=[1.0, 1.0, 1.15])
    drawn = longest(found)
    rows = by_row(drawn)
    shown = {row: [g for g in group if g.layers] for row, group in rows.items()}
    shown = {row: group for row, group in shown.items() if group}
    if not shown:
        absent(axes[0], missing([g.run for g in drawn], "The gradients of a batch"))
        for other in axes[1:]:
            other.set_axis_off()
        return figure
    for row, group in shown.items():
        _distribution(axes[0], row, group, free_of_scale=False)
        _distribution(axes[1], row, group, free_of_scale=True)
    for place in axes[:2]:
        place.set(xscale="log", ylabel="weights per decade (%)", ylim=(0, 1.5 * place.get_ylim()[1]))
        place.legend(loc="upper left")
    below = any(g.pooled["histogram"][0] for group in shown.values() for g in group)
    axes[0].set(xlabel="size of a gradient, |g|" + below * " (the leftmost bin holds all smaller ones)")
    axes[1].set(xlabel="size relative to the mean, |g| / mean |g|", xlim=(1e-5, 1e3))
    after = f"All binary layers after {summary.epochs_words(drawn[0].run.recipe.epochs)}"
    axes[0].set_title(f"{after}: the size of every gradient")
    axes[1].set_title(_message(shown) or f"{after}: free of scale")
    _layers(axes[2], shown)
    lacking = [row for row in rows if row not in shown]
    if lacking:
        axes[0].set_title(f"only records survive of {', '.join(lacking)}", loc="right", fontsize=8, fontweight="normal")
    return figure


def _message(shown: dict[str, list[Gradients]]) -> str:
    """How much wider EDE's gradients are spread than STE's, where both are drawn."""
    found = {row: [g.pooled["spread"] for g in shown.get(row, ()) if g.pooled["spread"]] for row in ("ede", "ste")}
    if not all(found.values()):
        return ""
    return f"Free of scale, EDE's gradients spread {np.mean(found['ede']) / np.mean(found['ste']):.1f} times STE's"


def _distribution(axes: Axes, row: str, group: Sequence[Gradients], free_of_scale: bool) -> None:
    """Weights per decade of |g| in percent of all weights; the area under the curve is the share that is not zero."""
    centres = 10.0 ** (LOWEST + (np.arange(BINS) + 0.5) / PER_DECADE)
    for number, g in enumerate(group):
        pooled = g.pooled
        heights = 100 * PER_DECADE * np.array(pooled["histogram"]) / pooled["count"]
        x = centres / pooled["mean"] if free_of_scale and pooled["mean"] else centres
        inside = np.flatnonzero(heights > heights.max() * 2e-3)
        part = slice(max(inside[0] - 1, 0), inside[-1] + 2) if inside.size else slice(0)
        label = _said(group, free_of_scale) if number == 0 else None
        axes.plot(x[part], heights[part], DASHES.get(row, "-"), color=COLOURS.get(row), lw=1.7, label=label)


def _said(group: Sequence[Gradients], free_of_scale: bool) -> str:
    key, name = ("spread", "std / mean") if free_of_scale else ("s", "s = var(|g|)")
    values = [g.pooled[key] for g in group if g.pooled[key] is not None]
    mean = np.mean(values) if values else float("nan")
    digits = ".2f" if free_of_scale else ".1e"
    several = f" ± {np.std(values, ddof=1):{digits}}" if len(values) > 1 else ""
    zeros = 100 * np.mean([g.pooled["zeros"] / g.pooled["count"] for g in group])
    none = f"; {zeros:.1f} % are zero" if zeros >= 0.05 and not free_of_scale else ""
    return f"{summary.method(group[0].run.recipe)}: {name} = {mean:{digits}}{several}{none}"


def _layers(axes: Axes, shown: dict[str, list[Gradients]]) -> None:
    """Per layer the median of |g| (dot), the middle half (thick) and 5 to 95 % (thin), of what is not zero; means over
    the seeds of logs. A cross on the axis: a seed whose gradients are all zero there."""
    count, dead = len(next(iter(shown.values()))[0].layers) - 1, False
    for offset, (row, group) in zip(np.linspace(-0.22, 0.22, max(len(shown), 2)), shown.items(), strict=False):
        x, q, colour = np.arange(1, count + 1) + offset, _quantiles(group, count), COLOURS.get(row)
        known = np.isfinite(q[:, 2])
        axes.vlines(x[known], q[known, 0], q[known, 4], color=colour, lw=1)
        axes.vlines(x[known], q[known, 1], q[known, 3], color=colour, lw=3)
        axes.plot(
            x[known], q[known, 2], "o", color="white", mec=colour, ms=3.6, label=summary.method(group[0].run.recipe)
        )
        silent = x[[any(g.layers[i]["zeros"] == g.layers[i]["count"] for g in group) for i in range(count)]]
        axes.plot(silent, np.full_like(silent, 0.03), "x", color=colour, ms=5, transform=axes.get_xaxis_transform())
        dead = dead or len(silent) > 0
    axes.set(yscale="log", xlabel="binary layer, from input to output", ylabel="size of a gradient, |g|")
    axes.set(xlim=(0.4, count + 0.6), xticks=range(1, count + 1))
    axes.grid(visible=False, axis="x")
    axes.set_title("Layer by layer: median, middle half, 5 to 95 %" + dead * "; crosses: all are zero")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.18)
    axes.legend(loc="upper center", ncols=len(shown))


def _quantiles(group: Sequence[Gradients], count: int) -> np.ndarray:
    """(layers, 5) quantiles of the nonzero |g|, geometric means over the seeds; NaN where there are none."""
    values = np.array([[layer["quantiles"] for layer in g.layers[:count]] for g in group])
    return np.exp(np.ma.log(np.ma.masked_less_equal(values, 0)).mean(axis=0)).filled(np.nan)
