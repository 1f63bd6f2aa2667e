"""The estimators' numbers as tensors: moved once for all layers, written in place, left where nothing moved."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import resteutils as ru
from resteutils.recipes.build import build_model


def network() -> nn.Sequential:
    """Layers of other estimators, with other counts of numbers."""
    return nn.Sequential(
        ru.BinaryConv2d(3, 4, 3, estimator=ru.ReSTE(o=5), input_estimator=ru.STE()),
        ru.BinaryConv2d(4, 4, 3, estimator=ru.EDE(), binarize_input=False),
        nn.Flatten(),
        ru.BinaryLinear(64, 2, estimator=ru.ReSTE(o=3)),
    )


def test_numbers_are_written_where_compiled_steps_read_them() -> None:
    model = network()
    layers = [layer for _, layer in ru.binary_layers(model)]
    held = [layer.coefficients for layer in layers]
    for progress in (0.0, 0.4, 1.0):
        ru.anneal(model, progress)
        for layer, tensor in zip(layers, held, strict=True):
            inputs = layer.input_estimator.at(progress).coefficients() if layer.binarize_input else ()
            assert layer.coefficients is tensor
            assert tensor.tolist() == pytest.approx([*layer.estimator.at(progress).coefficients(), *inputs])


def test_layers_that_share_an_estimator_share_its_place_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = build_model(ru.Recipe(), 10), []
    plain = ru.ReSTE._on_path
    monkeypatch.setattr(ru.ReSTE, "_on_path", lambda e, progress: calls.append(progress) or plain(e, progress))
    ru.anneal(model, 0.5)
    assert len(calls) == 2  # one more checks the range
    layers = [layer for _, layer in ru.binary_layers(model)]
    assert {id(layer.current) for layer in layers} == {id(layers[0].input_current)}


def test_what_has_not_moved_is_left() -> None:
    model = network()
    ru.anneal(model, 0.5)
    before = [(layer.current, layer.coefficients._version) for _, layer in ru.binary_layers(model)]
    ru.anneal(model, 0.5)
    after = [(layer.current, layer.coefficients._version) for _, layer in ru.binary_layers(model)]
    assert all(a[0] is b[0] and a[1] == b[1] for a, b in zip(before, after, strict=True))


def test_another_estimator_or_dtype_at_the_same_place_is_noticed() -> None:
    model = network()
    ru.anneal(model, 1.0)
    first, second, *_ = model
    first.set_estimator(ru.ReSTE(o=2))
    assert first.coefficients.tolist() == pytest.approx([*ru.ReSTE(o=2).coefficients()] * 2)
    second.estimator = ru.ReSTE(o=7)
    ru.anneal(model, 1.0)
    assert second.current == ru.ReSTE(o=7) and len(second.coefficients) == len(second.current.coefficients())
    second.weight = nn.Parameter(second.weight.double())
    ru.anneal(model, 1.0)
    assert second.coefficients.dtype == torch.float64
