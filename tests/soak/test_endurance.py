"""What a long life costs: nothing grows over many runs, and thousands of records are read in seconds."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.command import tiny_recipe
from helpers.faults import FULL, counted
from helpers.tiny import call

from resteutils.runs import records, validity

pytestmark = pytest.mark.faults
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
RUNS = 50 if FULL else 4


def held() -> tuple[float, int, int]:
    """MB of memory, open files and threads of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir("/proc/self/fd")), threading.active_count()


@LINUX
def test_many_runs_in_one_process_hold_nothing(tmp_path: Path, request) -> None:
    """50 runs of four epochs: memory within 20 MB of what it was after five, and no file nor thread more."""
    before = None
    for seed in range(RUNS):
        call((tmp_path / "runs", tmp_path / "results"), tiny_recipe(epochs=4, seed=seed))
        before = held() if seed < 5 and seed < RUNS - 1 else before
    after = held()
    grown = [now - then for now, then in zip(after, before, strict=True)]
    what = f"soak: {RUNS} runs, {4 * RUNS} epochs in one process: {grown[0]:+.1f} MB, {grown[1]:+d} files"
    counted(request.node, f"{what}, {grown[2]:+d} threads", int(grown[0] < 20 and max(grown[1:]) <= 0), 1)
    assert grown[0] < 20 and grown[1] <= 0 and grown[2] <= 0


@pytest.mark.skipif(not FULL, reason="make test-faults does it: it makes 10,000 records")
@pytest.mark.parametrize("what", ["list", "report", "load_or_train"])
def test_ten_thousand_records_and_two_thousand_runs(what: str, full: tuple[Path, Path], run, request) -> None:
    """Of CPU: 10 s to list or report them, 0.2 s to read a run that is finished."""
    runs, results = full
    begun = time.process_time()
    if what == "load_or_train":
        call(full, tiny_recipe(seed=1234))
    else:
        places = ["--runs-dir", str(runs)] if what == "list" else []
        status, _, said = run(what, "--results-dir", str(results), *places)
        assert status == 0, said
    seconds, most = time.process_time() - begun, 0.2 if what == "load_or_train" else 10.0
    kind = f"soak: {what} beside 10,000 records: {seconds:.2f} s of CPU, at most {most:g}"
    counted(request.node, kind, int(seconds <= most), 1)
    assert seconds <= most


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """10,000 records, of 2,000 of which the run's folder is there too."""
    folder = tmp_path_factory.mktemp("full")
    folders = folder / "runs", folder / "results"
    first = call(folders, tiny_recipe())
    for seed in range(1, 10_000):
        recipe = replace(first.recipe, seed=seed)
        fresh = {"run_id": recipe.run_id, "recipe": recipe.to_dict()}
        record = json.dumps(validity.sealed({**first.record, **fresh}))
        copy = records.committed(recipe, folders[1])
        copy.write_text(record)
        if seed < 2000:
            (folders[0] / recipe.run_id).mkdir()
            (folders[0] / recipe.run_id / "record.json").write_text(record)
            shutil.copy(first.path / "history.csv", folders[0] / recipe.run_id)
    return folders
