"""torch.compile and several GPUs on a runtime that computes nothing: graphs, captures, exchanges, bad networks."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.fake_gpu import said

pytestmark = [pytest.mark.slow, pytest.mark.fakecuda]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One cache of compiled kernels for all tests of this file."""
    folder = tmp_path_factory.mktemp("inductor")
    return {"TORCHINDUCTOR_CACHE_DIR": str(folder), "TRITON_CACHE_DIR": str(folder / "triton")}


def found(library: Path, kept: dict[str, str], what: str, devices: int = 1) -> dict[str, int]:
    """The numbers by name that compiled.py printed."""
    lines = said(library, what, "compiled.py", devices=devices, **kept)
    (words,) = [line.split() for line in lines if line.startswith("GRAPHS")]
    return {name: int(value) for name, value in zip(words[::2], words[1::2], strict=True)}


def test_a_compiled_training_is_one_graph_whatever_moves(library: Path, kept: dict[str, str]) -> None:
    """o, learning rate, an odd last batch, evaluation."""
    numbers = found(library, kept, "default")
    assert {name: numbers[name] for name in ("GRAPHS", "breaks", "copies", "waits", "captures")} == {
        "GRAPHS": 1, "breaks": 0, "copies": 0, "waits": 0, "captures": 0,
    }  # fmt: skip
    assert 20 < numbers["kernels"] < 120


def test_cuda_graphs_are_captured_once_and_hold_nothing_illegal(library: Path, kept: dict[str, str]) -> None:
    numbers = found(library, kept, "reduce-overhead")
    assert (numbers["GRAPHS"], numbers["breaks"], numbers["illegal"]) == (1, 0, 0)
    assert (numbers["copies"], numbers["waits"]) == (0, 0)
    assert numbers["captures"] <= 3  # forward, backward, and torch's own empty one
    assert numbers["launches"] == 2


def test_a_whole_step_is_one_cuda_graph(library: Path, kept: dict[str, str]) -> None:
    """Forward and backward pass, loss, check and optimizer; outside are the batch, learning rate, o and sums."""
    numbers = found(library, kept, "whole-step")
    assert (numbers["GRAPHS"], numbers["breaks"], numbers["illegal"], numbers["captures"]) == (1, 0, 0, 1)
    assert (numbers["copies"], numbers["waits"], numbers["launches"]) == (0, 0, 1)
    assert numbers["inside"] > 2 * numbers["kernels"]


@pytest.mark.parametrize(("flaw", "name"), [("breaks", "breaks"), ("recompiles", "GRAPHS")])
def test_a_network_that_a_compiler_cannot_keep_whole_is_found(library, kept, flaw: str, name: str) -> None:
    assert found(library, kept, f"default {flaw}")[name] > (name == "GRAPHS")


@pytest.mark.parametrize("mode", ["off", "default"])
def test_two_gpus_with_synchronised_batchnorm_wait_for_nothing(library, kept, mode: str) -> None:
    numbers = found(library, kept, mode, devices=2)
    assert (numbers["copies"], numbers["waits"]) == (0, 0)
    assert (numbers["GRAPHS"], numbers["breaks"]) == (mode == "default", 0)
    assert numbers["nccl"] == 5  # two BatchNorms forward, two backward, and the gradients
