"""Tracking beside servers that are dead or go in mid-run: nothing is lost, and what happened is said once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.wandb_log import values, wandb_records
from helpers.wandb_servers import DEAD


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> dict:
    """What a process says and leaves beside each kind of server: all at once, each in a folder of its own."""
    program = Path(__file__).parents[1] / "helpers" / "wandb_servers.py"
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in (*DEAD, "outage", "lost")}
    started = {
        kind: subprocess.Popen([sys.executable, program, kind, folder], stdout=subprocess.PIPE, text=True)
        for kind, folder in folders.items()
    }
    return {
        kind: {**json.loads(process.communicate(timeout=300)[0]), "folder": folders[kind]}
        for kind, process in started.items()
    }


@pytest.mark.faults("a W&B server is dead")
@pytest.mark.slow
@pytest.mark.parametrize("kind", DEAD)
def test_beside_a_dead_server_the_first_run_is_an_offline_one_that_wandb_syncs(served: dict, kind: str) -> None:
    """W&B's service would refuse a second start under the id of the one that failed, and lose the run."""
    found = served[kind]
    (line,) = found["said"]
    assert "could not start" in line and "runs are kept offline, `wandb sync` uploads them later" in line
    (folder,) = (found["folder"] / "wandb").glob("*run-*-first-*")
    assert folder.name.startswith("offline-run-")
    assert epochs(folder) == [1, 2, 3, 4]
    done = subprocess.run([sys.executable, "-m", "wandb", "sync", "--dry-run", folder], capture_output=True, text=True)
    assert done.returncode == 0 and folder.name in done.stdout + done.stderr


@pytest.mark.faults("a W&B server goes in mid-run")
@pytest.mark.slow
def test_epochs_of_an_outage_arrive_when_the_server_is_back(served: dict) -> None:
    assert served["outage"]["refused"] > 0
    assert served["outage"]["taken"] == [1, 2, 3, 4]
    assert served["outage"]["said"] == []


@pytest.mark.faults("a W&B server goes in mid-run")
@pytest.mark.slow
def test_a_server_that_stays_away_is_said_and_the_run_is_on_this_disk(served: dict) -> None:
    (line,) = served["lost"]["said"]
    assert "Timed out finishing run" in line
    (folder,) = (served["lost"]["folder"] / "wandb").glob("run-*-first-*")
    assert epochs(folder) == [1, 2, 3, 4]


def epochs(folder: Path) -> list[int]:
    """The epochs in a run's log, which W&B's reader and `wandb sync` would find there."""
    (log,) = folder.glob("*.wandb")
    rows = [values(r.history.item) for r in wandb_records(log) if r.WhichOneof("record_type") == "history"]
    return [row["epoch"] for row in rows]
