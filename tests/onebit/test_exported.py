"""Exported by torch and run elsewhere: the same result whether or not a kernel is compiled, with any batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.packable import small_network
from torch import nn

import resteutils as ru
from resteutils import kernels


@pytest.fixture(params=["a kernel", "no kernel"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernel compiled, if this machine can, or with none to be had."""
    if request.param == "a kernel":
        kernels.available()
    else:
        monkeypatch.setattr(kernels, "available", lambda: False)
        monkeypatch.setattr(kernels, "ready", lambda: False)


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"binary": small_network(), "packed": ru.pack(small_network())}


@pytest.mark.parametrize("name", ["binary", "packed"])
def test_a_saved_program_loads_elsewhere(name: str, kernel: None, tmp_path: Path) -> None:
    model, x = networks()[name], torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        program = torch.export.export(model, (x[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.testing.assert_close(program.module()(x), model(x), rtol=1e-5, atol=1e-5)
        expected = model(x)
    assert "resteutils" not in str(program.graph)
    torch.export.save(program, tmp_path / "it.pt2")
    torch.save((x, expected), tmp_path / "pair.pt")
    code = (
        "import torch, resteutils\n"
        "x, expected = torch.load('pair.pt')\n"
        "with torch.no_grad(): found = torch.export.load('it.pt2').module()(x)\n"
        "torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["binary", "packed"])
def test_onnx_with_any_batch(name: str, kernel: None, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="pip install 'resteutils[export]'")
    runtime = pytest.importorskip("onnxruntime", reason="pip install 'resteutils[export]'")
    model, x = networks()[name], torch.randn(5, 3, 32, 32)
    file = tmp_path / "it.onnx"
    torch.onnx.export(
        model, (x[:2],), file, dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), input_names=["images"],
        verbose=False,
    )  # fmt: skip
    (found,) = runtime.InferenceSession(file).run(None, {"images": x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), model(x), rtol=1e-4, atol=1e-4)
