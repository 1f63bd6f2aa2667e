"""The notebook that makes a reader's network binary runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import nbformat
import papermill
import torch

import resteutils as ru
from resteutils.items import your_network
from resteutils.onebit import model as packed


def test_the_notebook_trains_compares_and_packs(root: Path, tmp_path: Path) -> None:
    papermill.execute_notebook(
        root / "notebooks" / "binarize_your_network.ipynb",
        tmp_path / "executed.ipynb",
        parameters={"epochs": 1, "out_dir": str(tmp_path / "out")},
        kernel_name="python3",
        cwd=str(root),
        progress_bar=False,
    )
    shown = str(nbformat.read(tmp_path / "executed.ipynb", as_version=4))
    assert "2 of 4 layers binary" in shown
    assert "360 of 360" in shown
    checkpoint, small = (tmp_path / "out" / name for name in ("float.safetensors", "network.rbit"))
    assert small.stat().st_size < checkpoint.stat().st_size / 2
    assert packed.load(small).header["bits"] == "1/1"
    assert ru.binary_layers(your_network.load(checkpoint)) == []


def test_training_ends_at_the_end_of_the_path() -> None:
    data = your_network.digits()
    model = ru.binarize_model(your_network.Network(), activation=torch.nn.Hardtanh)
    course = your_network.train(model, data, 1)
    assert {layer.progress for _, layer in ru.binary_layers(model)} == {1.0}
    assert course["top-1 (%)"].iloc[-1] == your_network.accuracy(model, data)
