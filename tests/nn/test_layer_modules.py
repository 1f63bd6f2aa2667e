"""Binary layers as modules: moved along their path, copied, saved, loaded, refused."""

from __future__ import annotations

import copy
import io
import math
import pickle

import pytest
import torch
from torch import nn

import resteutils as ru


def network(**options) -> nn.Sequential:
    """Two binary convolutions and a binary linear layer between float ones, for (N, 3, 8, 8)."""
    linear = {key: value for key, value in options.items() if key not in ("scale_order", "standardize")}
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        ru.BinaryConv2d(8, 8, 3, padding=1, **options),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(8),
        ru.BinaryConv2d(8, 16, 3, stride=2, padding=1, **options),
        nn.BatchNorm2d(16),
        nn.Flatten(),
        ru.BinaryLinear(256, 12, **linear),
        nn.Linear(12, 10),
    )


def gradients(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    model(x).square().mean().backward()
    return [p.grad.clone() for p in model.parameters()]


# --- the path --------------------------------------------------------------------------------------------------------


def test_a_fresh_layer_stands_at_the_end_of_its_path() -> None:
    layer = ru.BinaryConv2d(3, 4, 3, estimator=ru.ReSTE(o=5), input_estimator=ru.EDE())
    assert layer.progress == 1.0
    assert (layer.current, layer.input_current) == (ru.ReSTE(o=5), ru.EDE())


def test_anneal_moves_every_binary_layer_and_back_again() -> None:
    model = network(estimator=ru.ReSTE(o=3), input_estimator=ru.EDE())
    for progress in (0.0, 0.5, 1.0, 0.25):
        ru.anneal(model, progress)
        for _, layer in ru.binary_layers(model):
            assert layer.progress == progress
            assert layer.current == ru.ReSTE(o=3).at(progress)
            assert layer.input_current == ru.EDE().at(progress)
            assert (layer.estimator, layer.input_estimator) == (ru.ReSTE(o=3), ru.EDE())


def test_anneal_changes_the_gradient_and_not_the_forward() -> None:
    model, x = network().eval(), torch.randn(2, 3, 8, 8)
    before = model(x), gradients(model, x)[0]
    ru.anneal(model, 0.0)
    after = model(x), gradients(model, x)[0]
    assert before[0].equal(after[0])
    assert not torch.allclose(before[1], after[1])


@pytest.mark.parametrize("progress", [-0.01, 1.01, math.nan])
@pytest.mark.parametrize("bits", ["1/1", "32/32"])
def test_anneal_refuses_what_is_no_share(progress: float, bits: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3)) if bits == "32/32" else network()
    with pytest.raises(ValueError, match="share of training"):
        ru.anneal(model, progress)
    for _, layer in ru.binary_layers(model):
        assert layer.progress == 1.0  # untouched


def test_binary_layers_in_order_with_their_names() -> None:
    assert [name for name, _ in ru.binary_layers(network())] == ["2", "5", "8"]
    assert ru.binary_layers(nn.Conv2d(3, 4, 3)) == []


# --- copies, files, devices ------------------------------------------------------------------------------------------


def test_state_dict_restores_weights_and_progress() -> None:
    first, second = network(), network()
    ru.anneal(first, 0.37)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    missing = second.load_state_dict(torch.load(file, weights_only=True))
    assert not missing.missing_keys
    assert not missing.unexpected_keys
    x = torch.randn(2, 3, 8, 8)
    for (_, a), (_, b) in zip(ru.binary_layers(first), ru.binary_layers(second), strict=True):
        assert (a.progress, a.current, a.input_current) == (b.progress, b.current, b.input_current)
        assert a.coefficients.equal(b.coefficients)
    assert all(a.equal(b) for a, b in zip(gradients(first, x), gradients(second, x), strict=True))


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "vgg_small"])
def test_float_twin_and_binary_network_exchange_weights_strictly(name: str) -> None:
    binary, twin = ru.create(name), ru.create(name, "32/32")
    ru.anneal(binary, 0.3)
    begun = binary.state_dict()
    twin.load_state_dict(begun, strict=True)
    assert all(p.equal(q) for p, q in zip(twin.parameters(), binary.parameters(), strict=True))
    assert any(key.endswith("_extra_state") for key in begun)  # the caller's own is left as it was
    binary.load_state_dict(twin.state_dict(), strict=True)
    assert {layer.progress for _, layer in ru.binary_layers(binary)} == {1.0}


def test_a_state_of_other_parts_does_not_move_a_layer() -> None:
    model = network()
    ru.anneal(model, 0.3)
    model.load_state_dict({"0.weight": model[0].weight}, strict=False)
    assert {layer.progress for _, layer in ru.binary_layers(model)} == {0.3}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_is_equal_and_independent(copied) -> None:
    first = network()
    ru.anneal(first, 0.5)
    second, x = copied(first), torch.randn(2, 3, 8, 8)
    assert all(a.equal(b) for a, b in zip(gradients(first, x), gradients(second, x), strict=True))
    ru.anneal(second, 0.0)
    assert {layer.progress for _, layer in ru.binary_layers(first)} == {0.5}
    assert all(layer.coefficients[0] < 1 for _, layer in ru.binary_layers(first))


def test_the_meta_device_and_back() -> None:
    with torch.device("meta"):
        layer = ru.BinaryConv2d(3, 4, 3)
    assert layer.weight.is_meta
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    assert layer.coefficients.tolist() == pytest.approx([*ru.ReSTE().coefficients()] * 2)
    assert layer(torch.randn(1, 3, 5, 5)).isfinite().all()


def test_anneal_under_inference_mode_leaves_a_layer_that_can_still_be_trained() -> None:
    with torch.inference_mode():
        layer = ru.BinaryConv2d(3, 4, 3)
        ru.anneal(layer, 0.5)
    layer.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
    ru.anneal(layer, 0.25)
    layer(torch.randn(1, 3, 5, 5)).sum().backward()
    assert layer.weight.grad.isfinite().all()


def test_the_device_under_test(device) -> None:
    model = network().to(device)
    ru.anneal(model, 0.5)
    assert all(layer.coefficients.device == layer.weight.device for _, layer in ru.binary_layers(model))
    assert all(g.isfinite().all() for g in gradients(model, torch.randn(2, 3, 8, 8, device=device)))


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"estimator": "reste"}, TypeError, r"estimator = 'reste', expected an estimator such as ru\.ReSTE"),
        ({"estimator": ru.ReSTE}, TypeError, "estimator = <class"),
        ({"input_estimator": 3.0}, TypeError, r"input_estimator = 3\.0"),
        ({"scale": "filter"}, ValueError, "scale = 'filter', expected one of layer, channel"),
        ({"scale_order": "during"}, ValueError, "scale_order = 'during', expected one of after, before"),
        ({"padding": "same"}, ValueError, "padding = 'same'"),
    ],
    ids=str,
)
def test_bad_arguments(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ru.BinaryConv2d(3, 4, 3, **options)


def test_repr_says_what_it_computes() -> None:
    text = repr(network(estimator=ru.ReSTE(o=2), binarize_input=False, scale_order="before"))
    assert "estimator=ReSTE(o=2.0" in text
    assert "binarize_input=False" in text
    assert "scale_order='before'" in text
