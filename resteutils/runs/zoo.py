"""Kept models: ``results/models/NAME.safetensors``, each with a card that says what it is and how it scores.

``publish`` writes them from a finished run; ``verify`` loads each one strictly and scores it again. The card is written
twice from the same facts: NAME.json for ``verify``, NAME.md for a reader.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from resteutils.recipes import Recipe
from resteutils.recipes.build import build_model, open_data
from resteutils.runs import weights
from resteutils.runs.store import Run
from resteutils.system.defaults import torch_defaults
from resteutils.system.files import write_atomic
from resteutils.system.settings import results_dir as results_folder
from resteutils.training.device import resolve_device
from resteutils.training.epoch import evaluate
from resteutils.training.switches import numerics

__all__ = ["Check", "publish", "verify"]

TOLERANCE = 0.05  # points of top-1: five of CIFAR-10's 10,000 images, which rounding on another machine may move
LICENCE = "MIT"


@dataclass(frozen=True)
class Check:
    """One model against its card; ``problem`` is empty where they agree."""

    name: str
    card_top1: float
    top1: float
    problem: str = ""


def publish(run: Run, results_dir: str | os.PathLike = "", data_dir: str = "", device: str = "auto") -> Path:
    """Keep the trained network of ``run`` with a card; return the card for readers.

    The accuracy on the card is measured here, from the file as written, and must be the run's own.
    Raises ``FileNotFoundError`` where only the run's record survives, ``ValueError`` where the score differs.
    """
    folder = results_folder(results_dir) / "models"
    recipe, data = run.recipe, _file(run)
    scored = _score(_loaded(data), recipe, data_dir, device)
    if abs(scored - run.result["top1"]) > TOLERANCE:
        raise ValueError(f"{recipe.run_id} scores {scored:.2f} %, but its record says {run.result['top1']:.2f} %")
    card = {
        "name": recipe.run_id,
        "file": f"{recipe.run_id}.safetensors",
        "sha256": weights.sha256(data),
        "bytes": len(data),
        "model": recipe.model,
        "bits": recipe.bits,
        "estimator": recipe.estimator.to_dict() if recipe.estimator else None,
        "dataset": recipe.dataset,
        "epochs": recipe.epochs,
        "seed": recipe.seed,
        "recipe": recipe.identity,
        "top1": round(scored, 4),
        "best_top1": run.result["best_top1"],
        "commit": run.provenance["commit"],
        "versions": run.provenance["versions"],
        "licence": LICENCE,
    }
    write_atomic(folder / card["file"], data)
    write_atomic(folder / f"{card['name']}.json", json.dumps(card, indent=1) + "\n")
    return write_atomic(folder / f"{card['name']}.md", _readable(card))


def verify(results_dir: str | os.PathLike = "", data_dir: str = "", device: str = "auto") -> Iterator[Check]:
    """Score every kept model again. Raises ``FileNotFoundError`` where none is kept or a dataset is missing."""
    folder = results_folder(results_dir) / "models"
    cards = sorted(folder.glob("*.json"))
    if not cards:
        raise FileNotFoundError(f"no models in {folder}; `resteutils publish RUN` keeps one")
    for path in cards:
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            file, _ = folder / card["file"], (card["name"], card["sha256"], abs(card["top1"]))
        except (ValueError, KeyError, TypeError) as error:
            yield Check(path.stem, float("nan"), float("nan"), f"{path} is no card: {type(error).__name__}: {error}")
            continue
        data = file.read_bytes() if file.is_file() else b""
        if not data:
            yield Check(card["name"], card["top1"], float("nan"), f"{file} is missing")
        elif weights.sha256(data) != card["sha256"]:
            yield Check(card["name"], card["top1"], float("nan"), f"{file} is not the file that the card describes")
        else:
            top1 = _score(_loaded(data), _recipe(data), data_dir, device)
            far = not abs(top1 - card["top1"]) <= TOLERANCE  # a NaN, too
            yield Check(card["name"], card["top1"], top1, f"off by more than {TOLERANCE} points" if far else "")


def _file(run: Run) -> bytes:
    """The file of the run's network, whose checksum its record holds; made anew for records that hold none."""
    network = run.model()
    if "model_sha256" in run.record:
        return run.model_file.read_bytes()
    return weights.serialized(network, run.recipe, run.result["top1"], run.record["result"]["num_classes"])


def _recipe(data: bytes) -> Recipe:
    return Recipe.from_dict(json.loads(weights.metadata(data)["recipe"]))


@torch_defaults()
def _loaded(data: bytes) -> nn.Module:
    """The network of a kept file; every tensor must fit."""
    from safetensors.torch import load

    network = build_model(_recipe(data), int(weights.metadata(data)["num_classes"]))
    network.load_state_dict(load(data))
    return network.eval()


def _score(network: nn.Module, recipe: Recipe, data_dir: str, device: str) -> float:
    """Top-1 in % on the images that the recipe evaluates on."""
    place = resolve_device(device)
    with numerics(recipe, place):
        return evaluate(network.to(place), open_data(recipe, data_dir, place), recipe)["top1"]


def _readable(card: dict[str, Any]) -> str:
    """The card in Markdown, with the front matter that model hubs read: ``templates/card.md``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader(__package__), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )  # Markdown, not HTML
    templates.filters["tojson"] = json.dumps  # jinja2's own sorts the keys and escapes for HTML
    return templates.get_template("card.md").render(card)
