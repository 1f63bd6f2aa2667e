"""Checkpoints that survive: written whole or not at all, checked on reading, refused where they do not belong.

A checkpoint file is one line of text, ``RESTE1 <sha256>``, and a ``torch.save`` archive of tensors and plain values.
The digest catches truncation and flipped bits; ``weights_only=True`` keeps code out; the recipe inside must be the
recipe asked for. The previous checkpoint is kept beside the last one.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from resteutils.recipes import Recipe
from resteutils.system.files import write_atomic

__all__ = ["CheckpointError", "WrongRecipe", "compare_environment", "load_checkpoint", "load_latest", "save_checkpoint"]

LAST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
MAGIC = b"RESTE1 "
# What runs did whose checkpoint does not say.
BEFORE_THEY_WERE_RECORDED = {"table_gradients": False, "packed_evaluation": False}


class CheckpointError(RuntimeError):
    """A checkpoint file is damaged or is none of ours."""


class WrongRecipe(RuntimeError):
    """A checkpoint belongs to another recipe."""


def save_checkpoint(folder: str | os.PathLike, state: dict[str, Any], recipe: Recipe) -> Path:
    """Write ``state`` (tensors and plain values) as the folder's last checkpoint; the last one becomes the previous.

    Raises ``OSError`` when the disk is full or read-only; an earlier checkpoint then remains.
    """
    folder = Path(folder)
    buffer = io.BytesIO()
    torch.save({**state, "recipe": recipe.to_dict()}, buffer)
    payload = buffer.getvalue()
    content = MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload
    fresh = write_atomic(folder / f"{LAST}.new", content)
    if (folder / LAST).exists():
        os.replace(folder / LAST, folder / PREVIOUS)
    os.replace(fresh, folder / LAST)
    return folder / LAST


def load_checkpoint(path: str | os.PathLike, recipe: Recipe) -> dict[str, Any]:
    """Read one checkpoint file.

    Raises ``CheckpointError`` where it is missing, damaged or holds anything but tensors and plain values, and
    ``WrongRecipe``, with the differing fields, where it belongs to another recipe or seed.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    header, _, payload = content.partition(b"\n")
    if not header.startswith(MAGIC):
        raise CheckpointError(f"{path} is not a checkpoint of this project ({len(content)} bytes)")
    if header[len(MAGIC) :].decode("ascii", "replace") != hashlib.sha256(payload).hexdigest():
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum ({len(content)} bytes)")
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        # torch's own message suggests to load it without weights_only: the one thing never to do.
        raise CheckpointError(
            f"{path} holds something other than tensors and plain values; none of it was run"
        ) from error
    if not isinstance(state, dict) or "recipe" not in state:
        raise CheckpointError(f"{path} is not a checkpoint of this project: it names no recipe")
    _check_recipe(path, state["recipe"], recipe)
    return state


def load_latest(
    folder: str | os.PathLike,
    recipe: Recipe,
    say: Callable[[str], None] = print,
    take: Callable[[dict[str, Any]], None] = lambda state: None,
) -> dict[str, Any] | None:
    """The newest valid checkpoint of a run's folder, or ``None`` without one; a damaged one is reported by ``say``.

    ``take`` gets its state; what it cannot use, for instance what another version wrote, is reported and the previous
    checkpoint is taken. Raises ``CheckpointError``, naming ``--force``, where none that is whole can be used, and
    ``WrongRecipe`` as :func:`load_checkpoint` does: a foreign checkpoint is refused, never skipped.
    """
    unusable: CheckpointError | None = None
    for name in (LAST, f"{LAST}.new", PREVIOUS):
        path = Path(folder) / name
        if not path.exists():
            continue
        try:
            state = load_checkpoint(path, recipe)
        except CheckpointError as error:
            say(f"{error}; looking for an earlier one")
            continue
        try:
            take(state)
        except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
            reason = (str(error).splitlines() or [""])[0]
            unusable = CheckpointError(
                f"{path} does not fit this version of the network; `--force` trains from the start "
                f"({type(error).__name__}: {reason})"
            )
            unusable.__cause__ = error
            say(f"{unusable}; looking for an earlier one")
            continue
        return state
    if unusable:
        raise unusable
    return None


def compare_environment(
    before: dict[str, Any], now: dict[str, Any], folder: Path, say: Callable[[str], None]
) -> dict[str, list[Any]]:
    """What decides the rounding and has changed since the checkpoint, for the record: {name: earlier values}; each
    change of this time is said. Raises ``CheckpointError`` where the run began on another folder of images.
    """
    if before.get("files", "") != now["files"]:
        raise CheckpointError(
            f"the checkpoint in {folder} is of a run on other images than those in DATA_DIR now (names or sizes "
            "differ): set DATA_DIR to those, or RUNS_DIR to another folder; `--force` trains from the start"
        )
    changed: dict[str, list[Any]] = before.get("changed", {})
    for name, then in (BEFORE_THEY_WERE_RECORDED | before).items():
        if name != "changed" and then != now.get(name):
            changed.setdefault(name, []).append(then)
            say(
                f"resuming with {name} = {now.get(name)}, the run began with {then}: the result may differ in rounding "
                "from that of an undisturbed run"
            )
    return changed


def _check_recipe(path: Path, found: dict[str, Any], recipe: Recipe) -> None:
    try:
        other = Recipe.from_dict(found)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} names no valid recipe: {error}") from error
    if (other.identity, other.seed) == (recipe.identity, recipe.seed):
        return
    mine, theirs = recipe.to_dict(), other.to_dict()
    differing = {**recipe.identifying(), **other.identifying(), "seed": None}
    lines = [f"  {k}: {theirs[k]} in the file, {mine[k]} asked for" for k in differing if mine[k] != theirs[k]]
    raise WrongRecipe("\n".join([f"{path} belongs to another recipe; move it away or set RUNS_DIR elsewhere:", *lines]))
