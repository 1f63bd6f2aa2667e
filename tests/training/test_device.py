"""How a recipe is executed on a machine: device, precision, compilation, packed forward pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.tiny import tiny

from resteutils import kernels
from resteutils.recipes import Recipe
from resteutils.training.device import (
    Execution,
    compiled,
    resolve_compile,
    resolve_device,
    resolve_packed,
    resolve_tables,
)


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "gpu", "mps", "cpu:x"])
def test_an_unknown_or_absent_device(device: str) -> None:
    with pytest.raises(ValueError, match=f"device = '{device}', "):
        resolve_device(device)


def test_auto_is_what_there_is() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("").type == resolve_device().type
    assert resolve_device("cpu") == torch.device("cpu")


def test_the_packed_forward_is_resolved_by_the_length_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    long, cpu = Recipe(epochs=10), torch.device("cpu")
    monkeypatch.setattr(kernels, "available", lambda: True)
    monkeypatch.setattr(kernels, "paths", lambda: ["avx2", "scalar"])
    assert resolve_packed(long, cpu, 50_000)
    assert not resolve_packed(long, torch.device("cuda"), 50_000)
    assert not resolve_packed(tiny(), cpu, 48)
    assert not resolve_packed(replace(long, bits="1/32"), cpu, 50_000)
    assert not resolve_packed(replace(long, scale_order="before", packed_forward=True), cpu, 50_000)
    assert not resolve_packed(replace(long, packed_forward=False), cpu, 50_000)
    assert resolve_packed(replace(tiny(), packed_forward=True), cpu, 48)
    for best in ("neon", "scalar"):  # where nothing was measured, and where floats may be faster
        monkeypatch.setattr(kernels, "paths", lambda best=best: [best])
        assert not resolve_packed(long, cpu, 50_000)
    monkeypatch.setattr(kernels, "available", lambda: False)
    assert not resolve_packed(long, cpu, 50_000)


def test_gradients_by_tables_are_resolved_where_they_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    long, cpu = Recipe(epochs=10), torch.device("cpu")
    monkeypatch.setattr(kernels, "available", lambda: True)
    monkeypatch.setattr(kernels, "paths", lambda: ["avx2", "scalar"])
    assert resolve_tables(long, cpu, 50_000)
    assert not resolve_tables(tiny(), cpu, 48)
    assert resolve_tables(replace(tiny(), table_gradients=True), cpu, 48)
    for other in ({"bits": "1/32"}, {"scale_order": "before"}, {"precision": "bf16"}, {"table_gradients": False}):
        assert not resolve_tables(replace(long, **other), cpu, 50_000), other
    for best in ("avx512", "neon", "scalar"):  # not measured there
        monkeypatch.setattr(kernels, "paths", lambda best=best: [best])
        assert not resolve_tables(long, cpu, 50_000)
    asked = replace(long, table_gradients=True)
    with pytest.raises(ValueError, match="table_gradients = True on cuda"):
        resolve_tables(asked, torch.device("cuda"), 50_000)
    monkeypatch.setattr(kernels, "available", lambda: False)
    monkeypatch.setattr(kernels, "why_not", lambda: "no compiler")
    assert not resolve_tables(long, cpu, 50_000)
    with pytest.raises(RuntimeError, match="table_gradients = True: no compiler"):
        resolve_tables(asked, cpu, 50_000)


def test_compile_is_resolved_by_the_length_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, said = torch.device("cpu"), []
    monkeypatch.setenv("CXX", "g++")
    assert resolve_compile(tiny(compile="auto"), cpu, 48) == "off"
    long = Recipe(compile="auto", epochs=10)
    assert resolve_compile(long, cpu, 50_000) == "default"
    assert resolve_compile(Recipe(compile="off"), cpu, 50_000) == "off"
    assert resolve_compile(Recipe(compile="reduce-overhead"), cpu, 1) == "reduce-overhead"
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    assert resolve_compile(long, cpu, 50_000, said.append) == "off"
    assert "install g++" in said[0]
    with pytest.raises(RuntimeError, match=r"compile = 'default' needs a C\+\+ compiler"):
        resolve_compile(Recipe(compile="default"), cpu, 50_000)


@pytest.mark.parametrize(
    ("compiler", "triton", "capability", "said"),
    [
        (None, True, (9, 0), "a C compiler, for Triton"),
        ("/usr/bin/gcc", False, (9, 0), "Triton (pip install triton)"),
        ("/usr/bin/gcc", True, (6, 1), "compute capability 7.0"),
        ("/usr/bin/gcc", True, (9, 0), ""),
    ],
)
def test_a_gpu_without_what_compiling_takes_trains_uncompiled(monkeypatch, compiler, triton, capability, said) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: compiler)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: triton or None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    heard: list[str] = []
    mode = resolve_compile(Recipe(compile="auto", epochs=10), torch.device("cuda"), 50_000, heard.append)
    assert mode == ("off" if said else "reduce-overhead")
    assert said in "".join(heard)
    assert bool(heard) == bool(said)


def test_auto_takes_cuda_graphs_on_one_gpu_where_no_batch_is_accumulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resteutils.training.device._lacking", lambda device: "")
    recipe, cuda = Recipe(compile="auto", epochs=10), torch.device("cuda")
    assert resolve_compile(recipe, cuda, 50_000) == "reduce-overhead"
    assert resolve_compile(replace(recipe, accumulate=2), cuda, 50_000) == "default"
    assert resolve_compile(recipe, torch.device("cpu"), 50_000) == "default"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert resolve_compile(recipe, cuda, 50_000) == "default"


@pytest.mark.slow
def test_every_network_of_a_process_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo gives up on a forward() after eight of its kind, and says so in a log only."""
    from torch._dynamo.testing import CompileCounter

    counter, make = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, **options: make(network, backend=counter))
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        for wide in range(4, 14):
            network = torch.nn.Sequential(torch.nn.Conv2d(3, wide, 3), torch.nn.ReLU())
            compiled(network, "default")(images)
    assert counter.frame_count == 10


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_cuda_graphs_do_not_accumulate(mode: str) -> None:
    with pytest.raises(ValueError, match=f"compile = '{mode}' with accumulate = 2"):
        Execution.resolve(Recipe(compile=mode, accumulate=2), torch.device("cuda"), 50_000)


def test_a_graph_of_the_whole_step_is_for_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resteutils.training.device._lacking", lambda device: "")
    recipe, cuda = Recipe(compile="whole-step", accumulate=2), torch.device("cuda")
    assert resolve_compile(recipe, cuda, 50_000) == "whole-step"
    with pytest.raises(ValueError, match="compile = 'whole-step' on cpu in 1"):
        resolve_compile(recipe, torch.device("cpu"), 50_000)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="compile = 'whole-step' on cuda in 2"):
        resolve_compile(recipe, cuda, 50_000)


def test_packed_bits_are_refused_on_a_gpu() -> None:
    with pytest.raises(ValueError, match="packed_forward = True on cuda"):
        Execution.resolve(Recipe(packed_forward=True, compile="off"), torch.device("cuda"), 50_000)
