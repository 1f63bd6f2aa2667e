"""Single flipped bits in every file that is read again: seen, or without consequence."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.faults import FULL, counted
from helpers.tiny import RECIPE, call

from resteutils import kernels
from resteutils.data import files
from resteutils.data.digits import digits_folder
from resteutils.kernels import build
from resteutils.runs import measurements, records
from resteutils.runs.store import Run
from resteutils.training.checkpoint import LAST, CheckpointError, load_checkpoint
from resteutils.training.stopping import Interrupted

pytestmark = pytest.mark.faults
FLIPS = 1000 if FULL else 60


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished run, and beside it the checkpoint of another that was interrupted."""
    folder = tmp_path_factory.mktemp("flips")
    call((folder / "runs", folder / "results"))
    with pytest.raises(Interrupted):
        call((folder / "other", folder / "results-of-other"), stop=lambda: True)
    return folder / "runs", folder / "results"


def flipped(path: Path, read: Callable[[], object], *refused: type[Exception]) -> tuple[int, int, list[int]]:
    """Flip single bits of a file: how many the reader saw (it raises, or gives None), how many changed nothing, and
    the places of those that it took for another content. The file is as before then.
    """
    whole, expected, draw = path.read_bytes(), read(), random.Random(2308)
    seen, harmless, accepted = 0, 0, []
    for _ in range(FLIPS):
        place = draw.randrange(8 * len(whole))
        spoiled = bytearray(whole)
        spoiled[place // 8] ^= 1 << place % 8
        path.write_bytes(spoiled)
        try:
            found = read()
        except refused:
            found = None
        seen += found is None
        harmless += found is not None and found == expected
        accepted += [place] if found is not None and found != expected else []
    path.write_bytes(whole)
    return seen, harmless, accepted


def digest(state: dict[str, torch.Tensor]) -> str:
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in state.values())).hexdigest()


def reader_of_record(folders: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Callable, tuple]:
    path = tmp_path / RECIPE.run_id / "record.json"
    path.parent.mkdir()
    shutil.copy(folders[0] / RECIPE.run_id / "record.json", path)

    def read() -> object:
        run = records.find(RECIPE, path.parent, tmp_path / "no-results", lambda line: None)
        return run and json.dumps(run.record)

    return path, read, ()


def reader_of_model(folders: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Callable, tuple]:
    shutil.copytree(folders[0] / RECIPE.run_id, tmp_path / "run")
    run = Run(RECIPE, tmp_path / "run", json.loads((tmp_path / "run" / "record.json").read_text()))
    return tmp_path / "run" / "model.safetensors", lambda: digest(run.model().state_dict()), (RuntimeError,)


def reader_of_checkpoint(folders: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Callable, tuple]:
    path = shutil.copy(folders[0].parent / "other" / RECIPE.run_id / LAST, tmp_path / LAST)
    return path, lambda: digest(load_checkpoint(path, RECIPE)["model"]), (CheckpointError,)


def reader_of_library(folders: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Callable, tuple]:
    if not kernels.available():
        pytest.skip(kernels.why_not())
    library = build.library_path()
    path = Path(shutil.copy(library, tmp_path))
    shutil.copy(library.with_suffix(".sha256"), tmp_path)
    return path, lambda: build._whole(path) or None, ()


def reader_of_listing(folders: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Callable, tuple]:
    """The list of a large image folder's files, which one process leaves for those that wait."""
    path, root = tmp_path / "list", digits_folder()
    classes, train, test = files.scan(root)
    files._leave(path, classes, train.subset(range(0, 1400, 100)), test.subset(range(0, 300, 100)), "digest")
    return path, lambda: (found := files._left(path, root, 0.0)) and str(found), ()


def reader_of_measurement(folders: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Callable, tuple]:
    record = json.loads((folders[0] / RECIPE.run_id / "record.json").read_text())
    made, gone = (Run(RECIPE, place, record) for place in (folders[0] / RECIPE.run_id, tmp_path / "gone"))
    measurements.kept("test", made, lambda run: {"gradients": [0.125, 3.75e-8], "layers": 19}, tmp_path)
    (path,) = tmp_path.glob("*/measured/*.json")
    return path, lambda: measurements.kept("test", gone, dict, tmp_path), ()


READERS = {
    "record.json": reader_of_record,
    "model.safetensors": reader_of_model,
    "checkpoint.pt": reader_of_checkpoint,
    "the kernel library": reader_of_library,
    "a measurement": reader_of_measurement,
    "the list of an image folder": reader_of_listing,
}


@pytest.mark.parametrize("kind", READERS)
def test_a_flipped_bit_is_seen_or_changes_nothing(kind: str, folders, tmp_path: Path, own_cache, request) -> None:
    path, read, refused = READERS[kind](folders, tmp_path)
    seen, harmless, accepted = flipped(path, read, *refused)
    what = f"a bit of {kind} flips: {seen} seen, {harmless} without consequence"
    counted(request.node, what, FLIPS - len(accepted), FLIPS)
    assert accepted == []
    assert seen > FLIPS / 2


def test_a_damaged_history_file_costs_nothing(tmp_path: Path, folders, request) -> None:
    """history.csv is for people: a run that goes on writes it anew from its checkpoint."""
    path = tmp_path / "runs" / RECIPE.run_id / "history.csv"
    with pytest.raises(Interrupted):
        call((tmp_path / "runs", tmp_path / "results"), stop=iter([False] * 3 + [True] * 9).__next__)
    path.write_bytes(b"\xff" + path.read_bytes()[:-9])
    call((tmp_path / "runs", tmp_path / "results"))
    whole = folders[0] / RECIPE.run_id / "history.csv"
    with_epoch = [line.split(",")[:-2] for line in path.read_text().splitlines()]
    counted(request.node, "history.csv is damaged", 1, 1)
    assert with_epoch == [line.split(",")[:-2] for line in whole.read_text().splitlines()]
