"""A training that is killed, or whose disk fails, at any call that changes a file ends with the same bits later."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from helpers.command import environment, python
from helpers.faults import FULL, counted

pytestmark = pytest.mark.faults
KINDS = {
    "SIGKILL": "killed at a call that changes a file",
    "EIO": "a call that changes a file fails with EIO",
    "ENOSPC": "the disk is full from a call on",
    "EROFS": "the disk is read-only from a call on",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What campaign.py prints, by fault: at four calls each, or with FAULTS=full at all of them."""
    folder = tmp_path_factory.mktemp("campaign")
    script = python("-m", "helpers.campaign", str(folder), "0" if FULL else "4")
    done = subprocess.run(script, env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return {line["kind"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.timeout(7200 if FULL else 600)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each try is forked")
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_call_ends_with_the_same_bits(kind: str, found: dict[str, dict], request) -> None:
    fault = found[kind]
    counted(request.node, KINDS[kind], fault["survived"], fault["tried"], fault["difference"])
    assert fault["lost"] == []
    assert fault["tried"] >= 4 and fault["difference"] == 0.0
