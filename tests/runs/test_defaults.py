"""No result depends on torch's global switches: dtype, device, gradients, autocast."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers.tiny import call, tiny, untimed

import resteutils as ru
from resteutils import kernels
from resteutils.onebit.model import load
from resteutils.recipes.build import open_data
from resteutils.runs.store import Run
from resteutils.training.stopping import Interrupted

RECIPE = tiny()


@contextlib.contextmanager
def _set(setter: Callable, value: object, before: object) -> Iterator[None]:
    setter(value)
    try:
        yield
    finally:
        setter(before)


SWITCHES = {
    "float64": lambda: _set(torch.set_default_dtype, torch.float64, torch.float32),
    "default device": lambda: _set(torch.set_default_device, "meta", None),
    "device block": lambda: torch.device("meta"),
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("plain")
    return call((folder / "runs", folder / "results"), RECIPE)


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_run_under_a_switch_of_torch_is_the_same_run(switch: str, plain: Run, tmp_path: Path) -> None:
    """Interrupted and resumed under it, packed, written, read and asked."""
    folders, file = (tmp_path / "runs", tmp_path / "results"), tmp_path / "model.rbit"
    packed, images = ru.pack(plain.model(), plain), next(open_data(RECIPE).test_batches(4))[0]
    with SWITCHES[switch]():
        before = _state()
        with pytest.raises(Interrupted):
            call(folders, RECIPE, on_epoch=lambda row: None, stop=iter([False] * 3 + [True] * 9).__next__)
        run = call(folders, RECIPE)
        again = call(folders, RECIPE)
        ru.pack(run.model(), run).save(file)
        found = {path: _logits(file, path, images) for path in ("", "torch")}
        assert _state() == before
    assert untimed(run.history.to_dict("records")) == untimed(plain.history.to_dict("records"))
    assert run.record["model_sha256"] == plain.record["model_sha256"] and again.record == run.record
    assert file.read_bytes() == packed.save(tmp_path / "plain.rbit").read_bytes()
    for path, logits in found.items():
        assert logits.dtype == torch.float32 and torch.equal(logits, packed(images)), path


def _logits(file: Path, path: str, images: torch.Tensor) -> torch.Tensor:
    model = load(file)
    model.path = path if path or kernels.available() else "torch"
    return model(images)


def _state() -> tuple:
    return (
        torch.get_default_dtype(),
        torch.empty(0).device,
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
    )


def test_a_layer_of_ones_own_follows_the_default_dtype_as_those_of_torch_do() -> None:
    with _set(torch.set_default_dtype, torch.float64, torch.float32):
        layer = ru.BinaryConv2d(3, 4, 3)
        model = ru.create("resnet20", image_size=8)
    assert layer.weight.dtype == torch.float64
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
