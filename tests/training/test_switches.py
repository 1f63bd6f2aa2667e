"""torch's process-wide switches: set for a run, and put back."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest
import torch
from helpers.tiny import tiny

from resteutils.recipes import Recipe
from resteutils.training.device import resolve_compile
from resteutils.training.switches import numerics

CPU = torch.device("cpu")


def test_determinism_is_switched_on_for_the_run_and_off_again() -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    with numerics(tiny(deterministic=True), CPU):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.are_deterministic_algorithms_enabled()
    before = torch.backends.cudnn.allow_tf32
    with numerics(tiny(precision="tf32"), CPU):
        assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.fixture
def switches():
    """torch's switches for TF32, put back after the test however it ends."""
    backends = torch.backends
    own = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends)
    before = [switch.fp32_precision for switch in own]
    yield own
    for switch, value in zip(own, before, strict=True):
        switch.fp32_precision = value


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_torchs_newer_switch_for_tf32_neither_stops_a_run_nor_changes_it(switches, precision) -> None:
    matmul, conv, cpu, _ = switches
    for switch in switches:
        switch.fp32_precision = "tf32"
    with numerics(tiny(precision=precision), CPU):
        wanted = "ieee" if precision == "fp32" else "tf32"
        assert (matmul.fp32_precision, conv.fp32_precision, cpu.fp32_precision) == (wanted, wanted, "ieee")
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == (wanted == "tf32")
    assert [switch.fp32_precision for switch in switches] == ["tf32"] * 4


def test_the_workspace_of_cublas_and_warnings_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with numerics(tiny(deterministic=True), CPU):
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        with numerics(tiny(), CPU):
            assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


@pytest.mark.parametrize("precision", ["medium", "high", "highest"])
def test_the_older_switch_for_products_can_still_be_read_behind_a_run(switches, precision: str) -> None:
    torch.set_float32_matmul_precision(precision)
    try:
        before = [switch.fp32_precision for switch in switches]
        with numerics(tiny(), CPU):
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        assert torch.get_float32_matmul_precision() == precision
        assert [switch.fp32_precision for switch in switches] == before
    finally:
        torch.set_float32_matmul_precision("highest")


def keeps_denormals() -> bool:
    return sys.float_info.min / 2 > 0


def compiles() -> bool:
    calls: list[int] = []
    torch.compile(lambda x: x + 1, backend=lambda graph, inputs: calls.append(1) or graph.forward)(torch.ones(1))
    return bool(calls)


@pytest.mark.parametrize(
    ("set_to", "wanted"),
    [
        (lambda on: setattr(torch.backends.mkldnn, "enabled", on), lambda: torch.backends.mkldnn.enabled),
        (lambda on: torch.set_flush_denormal(not on), keeps_denormals),
        (lambda on: torch.compiler.set_stance("default" if on else "force_eager"), compiles),
    ],
    ids=["oneDNN", "denormals", "compiler"],
)
def test_what_would_change_a_run_is_undone_for_it(set_to: Callable, wanted: Callable[[], bool]) -> None:
    set_to(False)
    try:
        assert not wanted()
        with numerics(tiny(), CPU):
            assert wanted()
        assert not wanted()
    finally:
        set_to(True)


@pytest.mark.parametrize("variable", ["TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE"])
def test_a_run_does_not_say_that_it_is_compiled_where_nothing_is(variable: str, monkeypatch) -> None:
    monkeypatch.setenv(variable, "1")
    said: list[str] = []
    with pytest.raises(RuntimeError, match=f"compile = 'default' needs {variable} to be unset"):
        resolve_compile(Recipe(compile="default"), CPU, 50_000)
    assert resolve_compile(Recipe(compile="auto", epochs=10), CPU, 50_000, said.append) == "off"
    assert variable in said[0]
