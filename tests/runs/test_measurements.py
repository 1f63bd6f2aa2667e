"""Measurements on trained networks are made once, and outlive the networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from helpers.made_up import record_only

from resteutils.recipes import item_recipes
from resteutils.runs.measurements import kept
from resteutils.runs.records import Run


def test_a_measurement_is_made_once_and_outlives_the_network(tmp_path: Path, results_dir: Path) -> None:
    run = replace(record_only(item_recipes("figure2", "short", seeds="0")[0]), path=tmp_path)
    made = []

    def measure(run: Run) -> dict:
        made.append(run)
        return {"answer": 42}

    assert kept("test", run, measure, results_dir) is None  # no network, nothing kept
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert kept("test", run, measure, results_dir) == {"answer": 42}
    (tmp_path / "model.safetensors").unlink()
    assert kept("test", run, measure, results_dir) == {"answer": 42}
    assert len(made) == 1


def test_a_measurement_of_an_earlier_training_does_not_count(tmp_path: Path, results_dir: Path) -> None:
    run = replace(record_only(item_recipes("figure2", "short", seeds="0")[0]), path=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    kept("test", run, lambda run: {"answer": 1}, results_dir)
    run.record["provenance"]["created"] = "2027-01-01T00:00:00+00:00"
    assert kept("test", run, lambda run: {"answer": 2}, results_dir) == {"answer": 2}


def test_a_damaged_measurement_is_said_and_made_again(tmp_path: Path, results_dir: Path, capsys) -> None:
    run = replace(record_only(item_recipes("figure2", "short", seeds="0")[0]), path=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    kept("test", run, lambda run: {"answer": 1}, results_dir)
    (path,) = results_dir.glob("short/measured/*.json")
    for spoiled in ('{"trained', "[]", "{}"):
        path.write_text(spoiled)
        assert kept("test", run, lambda run: {"answer": 2}, results_dir) == {"answer": 2}
        assert f"{path} does not count as a measurement" in capsys.readouterr().out


def test_a_measurement_is_made_in_float32_whatever_torchs_switches_say(tmp_path: Path, results_dir: Path) -> None:
    run = replace(record_only(item_recipes("figure2", "short", seeds="0")[0]), path=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    products = torch.backends.mkldnn.matmul
    before, products.fp32_precision = products.fp32_precision, "bf16"
    try:
        assert kept("test", run, lambda run: {"products": products.fp32_precision}, results_dir) == {"products": "ieee"}
        assert products.fp32_precision == "bf16"
    finally:
        products.fp32_precision = before
