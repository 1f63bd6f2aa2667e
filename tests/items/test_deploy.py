"""The item ``deploy``: what is drawn without kernels, and what its verdict says of a run."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

import resteutils as ru
from resteutils import kernels
from resteutils.items import deploy as onebit
from resteutils.onebit.rivals import Rival
from resteutils.system.settings import Places


def test_without_the_kernels_no_layer_is_timed_and_the_figure_says_so(monkeypatch):
    monkeypatch.setattr(kernels, "available", lambda: False)
    by_layer = onebit.layers()
    assert by_layer.empty
    assert list(by_layer.columns) == onebit.LAYER_COLUMNS
    values = {"times_faster": 1.0, "low": 0.9, "high": 1.1, "packed_ms": 2.0}
    speeds = pd.DataFrame([{"network": "ResNet-20", "batch": 1, **values}])
    picture = onebit.figure(speeds, by_layer, {})
    assert "no compiled kernels here" in [text.get_text() for text in picture.axes[0].texts]


def test_the_deploy_item_judges_a_run(results_dir, tmp_path):
    run = ru.load_or_train(ru.recipe("deploy/resnet20-1w1a", profile="smoke"), runs_dir=tmp_path, device="cpu")
    files = onebit.networks([run], Places.of())
    (line,) = files.itertuples()
    (tmp_path / run.recipe.run_id / "model.safetensors").unlink()
    assert onebit.networks([run], Places.of()).equals(files)  # what was measured outlives the weights
    assert list(onebit.networks([], Places.of()).columns) == onebit.FILES  # nothing to compare is a table too
    assert line.identical == line.images > 0 and line.logits <= 1e-5
    assert line.top1_packed == pytest.approx(run.result["top1"], abs=1e-3)
    none = pd.DataFrame()
    verdict = onebit.judge(files, none, none, "smoke")
    assert verdict.status == "supported" and len(verdict.checks) == 2
    broken = files.assign(identical=0)
    assert onebit.judge(broken, none, none, "smoke").status == "contradicted"


def test_the_roofline_is_that_of_the_machine_and_nothing_is_measured_for_it():
    by_layer = pd.DataFrame([{"packed_gmacs": 300.0, "float_gmacs": 40.0, "packed_intensity": 80.0,
                              "float_intensity": 20.0}])  # fmt: skip
    speeds = pd.DataFrame([{"network": "ResNet-20", "batch": 1, "times_faster": 2.0, "low": 1.9, "high": 2.1}])
    roof, *layers = onebit.figure(speeds, by_layer, {"gmacs": 100.0, "gb_per_s": 10.0}).axes[0].lines
    assert list(roof.get_ydata())[1:] == [100.0, 100.0]
    assert roof.get_xdata()[1] == 10.0  # multiply-accumulates a byte, where memory no longer limits
    assert [line.get_ydata()[0] for line in layers] == [300.0, 40.0]


def test_other_runtimes_stand_beside_it_where_they_are_installed(monkeypatch):
    """Two runtimes that only multiply: the columns, one line for each and batch, their files' sizes."""
    image = torch.randn(3072, 10)

    def runner(threads: int):
        return lambda pixels: torch.from_numpy(pixels).flatten(1) @ image

    found = {"INT8, a": Rival(4000, runner), "INT8, b": Rival(5000, runner)}
    monkeypatch.setattr(onebit, "rivals", lambda name, images: found)
    table = onebit.beside_int8("smoke", batches=(1, 2))
    assert list(table.columns) == onebit.INT8_COLUMNS
    assert list(zip(table.rival, table.batch, table.rival_kb, strict=True)) == [
        ("INT8, a", 1, 4.0), ("INT8, a", 2, 4.0), ("INT8, b", 1, 5.0), ("INT8, b", 2, 5.0)
    ]  # fmt: skip
    assert (table.packed_ms > 0).all() and set(table.network) == {"ResNet-20"}
    monkeypatch.setattr(onebit, "rivals", lambda name, images: {})
    assert list(onebit.beside_int8("smoke").columns) == onebit.INT8_COLUMNS
