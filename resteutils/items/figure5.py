"""Figure 5, ours: where weights and activations sit on ReSTE's curve, which decides what the estimator does at all.

ReSTE's derivative has three zones: a constant plateau for |z| <= m, the power for m < |z| <= t, and 0 beyond. The
weights' shares are in every record's history, epoch by epoch. The activations' need the network: they are measured on
one training batch at the start (initial weights) and at the end; between the two nothing was recorded.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from resteutils.estimators import Estimator, ReSTE
from resteutils.evidence import summary, verdict
from resteutils.evidence.checks import pipeline_check
from resteutils.items.figure2 import one_batch
from resteutils.items.style import OKABE_ITO, absent, blank, by_row, longest, styled
from resteutils.nn.indicators import value_shares, zone_ends, zone_shares
from resteutils.nn.layers import anneal, binary_layers
from resteutils.recipes.build import build_model
from resteutils.runs.measurements import kept, missing
from resteutils.system.settings import Places
from resteutils.training.device import resolve_device

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ZONES", "Zones", "figure", "judge", "layer_zones", "measure", "shares", "table", "through_training"]

ZONES = ("plateau", "power", "clipped")
SLOPES = {"slope": "Mean f'", "slope_spread": "Spread of f' within a layer"}


@dataclass(frozen=True)
class Zones:
    """A run, its weights' shares through training, and per layer both sides' zones at "start" and "end" of training
    (empty where the network is gone)."""

    run: Any
    weights: pd.DataFrame
    layers: dict[str, list[dict[str, Any]]]


def measure(runs: Iterable[Any], places: Places, device: str = "auto") -> list[Zones]:
    """The zones of each run; the activations' only where its network is there, or was when they were measured."""
    take = functools.partial(_of_run, device=device, data_dir=str(places.data))
    return [Zones(run, through_training(run), kept("zones", run, take, places.results) or {}) for run in runs]


def through_training(run: Any) -> pd.DataFrame:
    """Shares of the binary weights per zone: columns progress, plateau, power, clipped; the first line is the network
    as initialised."""
    import pandas as pd

    history, fresh = run.history, build_model(run.recipe, run.record["result"]["num_classes"])
    first = zone_shares(fresh, *zone_ends(run.recipe.estimator))
    after = pd.DataFrame({"progress": history["epoch"] / run.recipe.epochs, **{z: history[z] for z in ZONES}})
    return pd.concat([pd.DataFrame([{"progress": 0.0, **first}]), after], ignore_index=True)


def _of_run(run: Any, device: str, data_dir: str) -> dict[str, Any]:
    chosen = resolve_device(device)
    images, _ = one_batch(run.recipe, data_dir, chosen)
    fresh = build_model(run.recipe, run.record["result"]["num_classes"]).to(chosen)
    anneal(fresh, 0.0)
    return {"start": layer_zones(fresh, images), "end": layer_zones(run.model(str(chosen)), images)}


@torch.no_grad()
def layer_zones(model: nn.Module, images: Tensor) -> list[dict[str, Any]]:
    """Per binary layer and side: the shares of the zones, how many values, and mean and relative spread of f' there.

    The network runs in training mode: what is measured is what a backward pass sees.
    """
    found: list[dict[str, Any]] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...], name: str) -> None:
        sides = {"weights": (layer.effective_weight(), layer.current)}
        if layer.binarize_input:
            sides["activations"] = (inputs[0], layer.input_current)
        found.append({"layer": name, **{side: _zones(z, e) for side, (z, e) in sides.items()}})

    hooks = [
        layer.register_forward_pre_hook(functools.partial(look, name=name)) for name, layer in binary_layers(model)
    ]
    try:
        model.train()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _zones(z: Tensor, e: Estimator) -> dict[str, float]:
    slope = e.derivative(z).double()
    mean = float(slope.mean())
    return {
        "count": z.numel(),
        **value_shares([z], *zone_ends(e)),
        "slope": mean,
        "slope_spread": float(slope.std()) / abs(mean) if mean else 0.0,
    }


def shares(layers: Sequence[dict[str, Any]], side: str) -> dict[str, float]:
    """The zones of all layers together, each value counted once."""
    return _means(layers, side, ZONES)


def _means(layers: Sequence[dict[str, Any]], side: str, names: Iterable[str]) -> dict[str, float]:
    """Means over the layers, each weighted by its number of values; NaN where no layer has that side."""
    parts = [layer[side] for layer in layers if side in layer]
    total = sum(part["count"] for part in parts)
    return {name: sum(part["count"] * part[name] for part in parts) / total if total else math.nan for name in names}


def table(found: Sequence[Zones]) -> pd.DataFrame:
    """One line per run, side and time: the shares (%), and what f' is on average and how much it varies at the end."""
    import pandas as pd

    rows = []
    for z in found:
        about = {"Row": z.run.recipe.row, "Estimator": summary.method(z.run.recipe), "Seed": z.run.recipe.seed}
        for time in ("start", "end"):
            line = z.weights.iloc[0 if time == "start" else -1]
            values = {"weights": {zone: line[zone] for zone in ZONES}}
            if z.layers and "activations" in z.layers[time][0]:
                values["activations"] = shares(z.layers[time], "activations")
            for side, found_shares in values.items():
                percent = {f"{zone} (%)": 100 * found_shares[zone] for zone in ZONES}
                slopes = {SLOPES[k]: mean for k, mean in _means(z.layers.get(time, ()), side, SLOPES).items()}
                rows.append({**about, "Side": side, "Time": time, **percent, **slopes})
    return pd.DataFrame(rows)


def judge(runs: Sequence[Any], found: Sequence[Zones], profile: str) -> verdict.Verdict:
    """The paper makes no claim here: two questions of ours, about ReSTE's weights and activations at the end."""
    checks = [pipeline_check(runs)]
    mine = [z for z in found if isinstance(z.run.recipe.estimator, ReSTE)]
    if mine:
        held = [float(z.weights.iloc[-1]["plateau"]) for z in mine]
        checks.append(_most("most weights end in the plateau, where ReSTE is a constant gain", held))
    acting = [shares(z.layers["end"], "activations")["power"] for z in mine if z.layers]
    if acting:
        checks.append(_most("most activations end where the power acts", acting))
    note = "The paper's own Figure 5 could not be sourced; this one is ours."
    return verdict.judge(profile, checks, summary.noted(note, runs))


def _most(claim: str, values: list[float]) -> verdict.Check:
    ends = dict.fromkeys(f"{100 * value:.1f}" for value in (min(values), max(values)))
    shown = f"{' to '.join(ends)} % in {len(values)} {'run' if len(values) == 1 else 'runs'}"
    if min(values) <= 0.5 < max(values):
        return verdict.Check(claim, "control", "undecided", shown, "above 50 % in every run")
    return verdict.fact(claim, min(values) > 0.5, shown, "control", "above 50 % in every run")


# --- the picture ---

COLOURS = {"plateau": OKABE_ITO["sky"], "power": OKABE_ITO["blue"], "clipped": OKABE_ITO["orange"]}


@styled
def figure(found: Sequence[Zones]) -> Figure:
    """One column per row of the item: weights through training, weights per layer, activations per layer."""
    rows = dict(sorted(by_row(longest(found)).items(), key=lambda pair: pair[0] != "reste"))
    figure, axes = blank(7.2, 7.4, nrows=3, ncols=len(rows), squeeze=False, sharey=True)
    for column, group in enumerate(rows.values()):
        name = summary.method(group[0].run.recipe)
        _through_training(axes[0, column], group)
        m, t = zone_ends(group[0].run.recipe.estimator)
        ended = 100 * np.mean([z.weights["plateau"].iloc[-1] for z in group])
        axes[0, column].set_title(f"{name}: {ended:.0f} % of weights end in |z| ≤ {m:g}")
        there = [z for z in group if z.layers]
        for line, side in ((1, "weights"), (2, "activations")):
            if there:
                _by_layer(axes[line, column], there, side)
                axes[line, column].set_title(f"{name}: {side}, layer by layer")
                if side == "activations":
                    acted = 100 * _pooled([z.layers["end"] for z in there], side)["power"]
                    axes[line, column].set_title(f"{name}: {acted:.0f} % of activations in {m:g} to {t:g}")
            else:
                absent(axes[line, column], missing([z.run for z in group], f"The {side} of each layer"), 42)
    for line in axes:
        line[0].set_ylabel("share (%)")
        line[0].set_ylim(0, 100)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _through_training(axes: Axes, group: Sequence[Zones]) -> None:
    """Stacked shares; the mean over the seeds."""
    frames = [z.weights for z in group]
    mean = {zone: 100 * np.mean([f[zone].to_numpy() for f in frames], axis=0) for zone in ZONES}
    x = 100 * frames[0]["progress"].to_numpy()
    m, t = zone_ends(group[0].run.recipe.estimator)
    labels = [f"|z| ≤ {m:g}, ReSTE's plateau", f"{m:g} < |z| ≤ {t:g}, its power", f"|z| > {t:g}, clipped"]
    axes.stackplot(x, *mean.values(), colors=[COLOURS[zone] for zone in ZONES], labels=labels, lw=0)
    axes.set(xlim=(0, 100), xticks=(0, 20, 40, 60, 80), xlabel="share of training (%)")


def _by_layer(axes: Axes, group: Sequence[Zones], side: str) -> None:
    """Bars: all layers at the start and at the end of training, then each layer at the end."""
    start, end = ([z.layers[time] for z in group] for time in ("start", "end"))
    bars = [_pooled(start, side), _pooled(end, side), *_each(end, side)]
    x = [0, 1, *range(3, 1 + len(bars))]
    bottom = np.zeros(len(bars))
    for zone in ZONES:
        heights = 100 * np.array([bar[zone] for bar in bars])
        axes.bar(x, heights, 0.86, bottom=bottom, color=COLOURS[zone])
        bottom += heights
    count = len(bars) - 2
    ticks = {0: "start", 1: "end"} | {2 + i: str(i) for i in range(1, count + 1) if i == 1 or i % 4 == 0}
    axes.set_xticks(list(ticks), list(ticks.values()))
    for label in axes.get_xticklabels()[:2]:
        label.set(rotation=90)
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.7, x[-1] + 0.7)
    axes.set_xlabel("all layers | each binary layer at the end")


def _pooled(layers: list[list[dict]], side: str) -> dict[str, float]:
    found = [shares(each, side) for each in layers]
    return {zone: float(np.mean([f[zone] for f in found])) for zone in ZONES}


def _each(layers: list[list[dict]], side: str) -> list[dict[str, float]]:
    return [
        {zone: float(np.mean([layer[side][zone] for layer in same])) for zone in ZONES}
        for same in zip(*layers, strict=True)
    ]
