"""Checkpoints: whole or not at all, refused where they do not belong, never code."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import resteutils as ru
from resteutils.recipes import Recipe
from resteutils.training import checkpoint as module
from resteutils.training.checkpoint import (
    LAST,
    MAGIC,
    PREVIOUS,
    CheckpointError,
    WrongRecipe,
    load_checkpoint,
    load_latest,
    save_checkpoint,
)

RECIPE = Recipe(epochs=6)


def state(number: int) -> dict:
    return {"model": {"weight": torch.full((3,), float(number))}, "epoch": number, "history": [{"loss": float("nan")}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two checkpoints: the previous holds 1, the last 2."""
    for number in (1, 2):
        save_checkpoint(tmp_path, state(number), RECIPE)
    return tmp_path


@pytest.fixture
def said() -> list[str]:
    return []


def test_there_and_back(folder: Path, said: list[str]) -> None:
    found = load_latest(folder, RECIPE, said.append)
    assert found["model"]["weight"].tolist() == [2.0] * 3
    assert found["epoch"] == 2
    assert load_checkpoint(folder / PREVIOUS, RECIPE)["epoch"] == 1
    assert sorted(p.name for p in folder.iterdir()) == sorted([LAST, PREVIOUS])
    assert said == []


def test_an_empty_folder_and_a_missing_one(tmp_path: Path, said: list[str]) -> None:
    assert load_latest(tmp_path, RECIPE, said.append) is None
    assert load_latest(tmp_path / "nowhere", RECIPE, said.append) is None
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / LAST, RECIPE)


def damaged(content: bytes, how: str) -> bytes:
    middle = len(content) // 2
    return {
        "truncated": content[:-1],
        "half": content[:middle],
        "empty": b"",
        "one bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "one bit of the header": content[:20] + bytes([content[20] ^ 1]) + content[21:],
        "zeros": bytes(len(content)),
        "longer": content + b"x",
        "text": b"once upon a time",
    }[how]


DAMAGE = ("truncated", "half", "empty", "one bit", "one bit of the header", "zeros", "longer", "text")


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_one_falls_back_to_the_previous_and_says_so(folder: Path, said: list[str], how: str) -> None:
    path = folder / LAST
    path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.raises(CheckpointError, match=LAST):
        load_checkpoint(path, RECIPE)
    assert load_latest(folder, RECIPE, said.append)["epoch"] == 1
    assert len(said) == 1
    assert LAST in said[0]
    assert "looking for an earlier one" in said[0]


def test_both_damaged_is_none_and_said_twice(folder: Path, said: list[str]) -> None:
    for name in (LAST, PREVIOUS):
        (folder / name).write_bytes(b"")
    assert load_latest(folder, RECIPE, said.append) is None
    assert len(said) == 2


def test_training_goes_on_writing_after_a_damaged_one(folder: Path, said: list[str]) -> None:
    (folder / LAST).write_bytes(b"")
    save_checkpoint(folder, state(3), RECIPE)
    assert load_latest(folder, RECIPE, said.append)["epoch"] == 3
    assert said == []


@pytest.mark.parametrize("killed_at", [1, 2, 3])
def test_killed_between_any_two_steps_of_saving(
    folder: Path, said: list[str], monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    """Saving renames three times; whichever rename never happens, a valid checkpoint is found."""
    rename, calls = os.replace, []

    def killing(source, target):
        calls.append(target)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "replace", killing)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(folder, state(3), RECIPE)
    monkeypatch.undo()
    assert load_latest(folder, RECIPE, said.append)["epoch"] == (2, 2, 3)[killed_at - 1]
    save_checkpoint(folder, state(4), RECIPE)
    assert load_latest(folder, RECIPE, said.append)["epoch"] == 4
    assert load_checkpoint(folder / PREVIOUS, RECIPE)["epoch"] in (2, 3)
    assert said == []


def test_a_full_disk_loses_nothing(folder: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_atomic", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(folder, state(3), RECIPE)
    assert load_latest(folder, RECIPE, said.append)["epoch"] == 2


# --- foreign ---------------------------------------------------------------------------------------------------------


def test_another_recipe_is_refused_with_the_difference(folder: Path, said: list[str]) -> None:
    asked = replace(RECIPE, lr=0.2, estimator=ru.ReSTE(o=5))
    with pytest.raises(WrongRecipe) as caught:
        load_latest(folder, asked, said.append)
    message = str(caught.value)
    assert "lr: 0.1 in the file, 0.2 asked for" in message
    assert "'o': 3.0" in message
    assert "'o': 5.0" in message
    assert "epochs" not in message  # the same in both
    assert said == []  # refused, not skipped


def test_another_seed_is_refused(folder: Path) -> None:
    with pytest.raises(WrongRecipe, match="seed: 0 in the file, 1 asked for"):
        load_checkpoint(folder / LAST, replace(RECIPE, seed=1))


def test_another_name_or_execution_is_not_another_recipe(folder: Path) -> None:
    asked = replace(RECIPE, item="table3", row="reste", compile="off", workers=0, profile="paper")
    assert load_checkpoint(folder / LAST, asked)["epoch"] == 2


def sealed(payload: bytes) -> bytes:
    return MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


class Trap:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_code_in_a_checkpoint_is_refused_even_with_the_right_checksum(
    folder: Path, said: list[str], protocol: str
) -> None:
    import io

    proof = folder / "it ran"
    buffer = io.BytesIO()
    content = {"recipe": RECIPE.to_dict(), "model": Trap(proof)}
    if protocol == "torch":
        torch.save(content, buffer)
    else:
        pickle.dump(content, buffer, protocol=2)
    (folder / LAST).write_bytes(sealed(buffer.getvalue()))
    with pytest.raises(CheckpointError, match="something other than tensors and plain values; none of it was run$"):
        load_checkpoint(folder / LAST, RECIPE)
    assert not proof.exists()
    assert load_latest(folder, RECIPE, said.append)["epoch"] == 1


@pytest.mark.parametrize(
    "content", [[1, 2], torch.zeros(2), {"epoch": 1}, {"recipe": {"speed": 1}}, {"recipe": 3}], ids=str
)
def test_plain_values_that_are_no_checkpoint(folder: Path, content) -> None:
    import io

    buffer = io.BytesIO()
    torch.save(content, buffer)
    (folder / LAST).write_bytes(sealed(buffer.getvalue()))
    with pytest.raises((CheckpointError, WrongRecipe)):
        load_checkpoint(folder / LAST, RECIPE)
