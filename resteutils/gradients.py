"""Figure 2: the gradients of the latent weights in one batch, at the end of training.

The batch is the first that a next epoch would bring, in training mode (BatchNorm with the batch's statistics), with the
estimator where training left it. Only binary layers count: their latent weights are what an estimator acts on.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resteutils import measured, stats, verdict
from resteutils.checks import pipeline_check
from resteutils.construct import open_data
from resteutils.execution import resolve_device
from resteutils.kept import kept
from resteutils.layers import binary_layers

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BINS", "LOWEST", "PER_DECADE", "Gradients", "judge", "measure", "one_batch", "sizes", "table"]

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


def measure(
    runs: Iterable[Any], device: str = "auto", data_dir: str = "", results_dir: str | os.PathLike = ""
) -> list[Gradients]:
    """The gradients of each run, measured on its trained network, or as they were kept when that was there."""
    take = functools.partial(_of_run, device=device, data_dir=data_dir)
    found = ((run, kept("gradients", run, take, results_dir)) for run in runs)
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
        "Estimator": measured.method(r),
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
    for epochs, lines in frame.groupby("Epochs"):
        checks += _wider(lines, f" after {epochs} epochs")
    note = measured.noted("A difference of one decade is a factor of ten.", runs)
    return verdict.judge(profile, checks, note, measured.not_run(("ste", "ede"), runs))


# What is compared: its name, its column, and that of the record's last epoch.
WIDTHS = (
    ("s = var(|g|)", "s of the batch", "s, last epoch, as defined"),
    ("scale-free spread", "Spread of the batch", "Spread, last epoch"),
)
PAIRS = (("ede", "ste", "ordering"), ("ede", "reste", "control"), ("reste", "ste", "control"))


def _wider(lines: pd.DataFrame, when: str) -> list[verdict.Check]:
    checks = []
    for said, of_batch, of_epoch in WIDTHS:
        chosen = of_epoch if lines[of_batch].isna().any() else of_batch
        known = lines[lines[chosen] > 0]  # where every gradient is zero there is no width to compare
        groups = stats.groups(known["Row"], known["Seed"], known[chosen].map(math.log10))
        for wide, narrow, kind in PAIRS:
            if wide in groups and narrow in groups:
                d = stats.difference(groups[wide], groups[narrow], stats.pool(groups))
                claim = f"{wide}'s {said} is larger than {narrow}'s{when}"
                checks.append(verdict.ordering(claim, d, "decades", chosen, kind))
    return checks
