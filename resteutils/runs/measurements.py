"""Measurements that need a trained network, kept as small files beside the records.

Gradients and activations can only be measured while ``model.safetensors`` is there, which is not committed. What was
measured is therefore kept in ``results/<profile>/measured/<what>-<run_id>.json``: a picture can be drawn again where
only records survive, and a measurement belongs to exactly the training it was made on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from resteutils.runs import validity
from resteutils.runs.provenance import provenance
from resteutils.system.defaults import torch_defaults
from resteutils.system.files import write_atomic
from resteutils.training.switches import numerics

__all__ = ["kept", "missing"]


@torch_defaults()
def kept(what: str, run: Any, measure: Callable[[Any], dict[str, Any]], results: Path) -> dict[str, Any] | None:
    """The measurement of a finished run: read where it is kept, else made and kept; ``None`` where neither can be.

    Arguments:
        what: names the measurement, e.g. "gradients".
        run: a finished run (:class:`resteutils.runs.store.Run`).
        measure: makes it from the run, as plain JSON values; only called where the trained network is there.
        results: the results folder.

    A kept measurement of an earlier training of the same recipe does not count; nor does a damaged one, which is said:
    its checksum is that of records (:mod:`resteutils.runs.validity`), where it has one.
    """
    recipe, trained = run.recipe, (run.provenance or {}).get("created")
    path = results / recipe.profile / "measured" / f"{what}-{recipe.run_id}.json"
    if path.is_file():
        try:
            found = validity.parsed(path.read_text(encoding="utf-8"))
            if reason := validity.fields_problem(found, ("trained", "value", "provenance"), (validity.CHECKSUM,)):
                raise ValueError(reason)
            if found["trained"] == trained:
                return found["value"]
        except ValueError as error:
            print(f"{path} does not count as a measurement ({error})")
    if not run.model_file:
        return None
    with numerics(recipe, torch.device("cpu")):
        value = measure(run)
    plain = json.dumps({"trained": trained, "value": value, "provenance": provenance()}, allow_nan=False)
    write_atomic(path, json.dumps(validity.sealed(json.loads(plain))) + "\n")
    return value


def missing(runs: list[Any], what: str) -> str:
    """The line that stands where a picture needs trained networks and only their records survive."""
    recipe = runs[0].recipe
    return (
        f"{what} need trained networks; here only the records survive. Train again: "
        f"resteutils train {recipe.name} --profile {recipe.profile} --seed {recipe.seed} --force"
    )
