"""Packed networks give the model's own logits."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.packable import small_network, trained
from torch import nn

import resteutils as ru
from resteutils import kernels
from resteutils.items import deploy as onebit
from resteutils.onebit import model as packed
from resteutils.onebit.fold import fold


def paths(bits: str = "1/1") -> list[str]:
    return ["torch", *(kernels.paths() if bits == "1/1" and kernels.available() else [])]


CASES = [
    ("resnet20", "1/1", {}),
    ("resnet20", "1/32", {}),
    ("resnet20", "1/1", {"scale": "channel", "num_classes": 7, "in_channels": 1}),
    ("resnet20", "1/1", {"scale": "none", "standardize": True}),
    ("resnet20_bireal", "1/1", {}),
    ("resnet18", "1/1", {}),
    ("vgg_small", "1/1", {}),
    ("vgg_small", "1/32", {}),
    ("resnet18_imagenet", "1/1", {}),
]


@pytest.mark.parametrize(("name", "bits", "fields"), CASES)
def test_logits_are_the_models_own(name, bits, fields):
    size = 16 if name == "resnet18" else 32
    model = trained(name, bits, size, **fields)
    x = torch.randn(3, fields.get("in_channels", 3), size, size)
    with torch.no_grad():
        expected = model(x)
        model_in_float = model.double()(x.double()).float() if bits == "1/32" else expected
    small = ru.pack(model.float(), input_size=tuple(x.shape[1:]))
    for path in paths(bits):
        result = packed.PackedModel(small.header, small.program, path)(x)
        # bits leave nothing to round; 1/32 sums floats, in another order where the scale comes later
        tolerance = 1e-5 * max(1, expected.abs().max().item()) if bits == "1/1" else 1e-3 * expected.abs().max().item()
        assert (result - expected).abs().max() <= tolerance, path
        assert torch.equal(result.argmax(1), model_in_float.argmax(1)), path


def test_every_sign_between_the_layers_is_the_models_own():
    """Not only the logits: the signs that each binary convolution of VGG-small sees."""
    model = trained("vgg_small")
    x = torch.randn(4, 3, 32, 32)
    seen = []
    for _, layer in ru.binary_layers(model):
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(ru.sign(inputs[0])))
    with torch.no_grad():
        model(x)
    small = ru.pack(model)
    values = [x]
    for number, step in enumerate(small.program.steps):
        values.append(small._step(number, step, values))
    inputs = [values[s["source"]] for s in small.program.steps if s["do"] in ("binary", "threshold")]
    assert [s["do"] for s in small.program.steps].count("threshold") == 4
    for mine, theirs in zip(inputs, seen, strict=True):
        assert torch.equal(ru.sign(mine), theirs)


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(ValueError, match="no binary layers"):
        ru.pack(ru.create("resnet20", "32/32"))
    model = trained("resnet20")
    model.blocks[0].first[0].weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        ru.pack(model)
    with pytest.raises(ValueError, match="Sigmoid"):
        fold(nn.Sequential(ru.BinaryConv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Sigmoid()))
    with pytest.raises(ValueError, match="expected"):
        ru.pack(trained("resnet20"))(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="input_size"):  # another size of images than it was built for
        ru.pack(trained("vgg_small", size=16), input_size=(3, 32, 32))
    small = ru.pack(trained("vgg_small", size=16))  # it knows its own size
    assert small(torch.zeros(1, 3, 16, 16)).shape == (1, 10)
    assert "W/A 1/1, images of 3x16x16, 10 classes" in repr(small)
    with pytest.raises(ValueError, match="does not say how its images are normalised.*ru.pack"):
        small.normalise(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))


@pytest.mark.parametrize("bias", [True, False])
def test_a_network_of_one_s_own_gives_the_same_logits(bias: bool):
    torch.manual_seed(0)
    model, x = small_network(nn.Linear(8, 5, bias=bias), at=8), torch.randn(6, 3, 8, 8)
    for path in ("", "torch"):
        small = packed.pack(model)
        small = packed.PackedModel(small.header | {"input": [3, 8, 8]}, small.program, path)
        torch.testing.assert_close(small(x), model(x).detach(), rtol=1e-5, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            assert small(x).equal(small(x.clone()))
            assert small(x).dtype == torch.float32


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_is_not_hidden(bad: float):
    small, x = packed.pack(small_network()), torch.randn(3, 3, 32, 32)
    x[1, 2, 3, 4] = bad
    logits = small(x)
    assert logits[1].isnan().all()
    assert logits[[0, 2]].isfinite().all()


def test_images_of_another_dtype_are_refused_by_name():
    with pytest.raises(ValueError, match="images are torch.float64 on cpu; a packed network takes float32 on the CPU"):
        packed.pack(small_network())(torch.randn(1, 3, 32, 32, dtype=torch.float64))


def test_packing_leaves_the_network_as_it_is():
    model, x = trained("resnet20", "1/1", 16).double().train(), torch.randn(2, 3, 16, 16)
    before = {name: value.clone() for name, value in model.state_dict().items() if torch.is_tensor(value)}
    packed.pack(model, input_size=(3, 16, 16))(x)
    assert model.training
    assert all(value.dtype == before[name].dtype for name, value in model.state_dict().items() if name in before)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items() if name in before)


@pytest.mark.cifar
@pytest.mark.slow
@pytest.mark.skipif(not kernels.available(), reason="needs the compiled kernels")
def test_a_network_trained_on_cifar10_predicts_the_same_in_one_bit(cifar_dir, root):
    """The kept model of results/models, on all 10,000 test images, against float convolutions."""
    from safetensors.torch import load_file

    from resteutils.data.sources import open_images

    path = sorted((root / "results" / "models").glob("resnet20-1w1a-reste3-cifar10-*.safetensors"))[0]
    model = ru.create("resnet20")
    model.load_state_dict(load_file(path))
    model = onebit.float_arithmetic(model.eval())
    small, right = ru.pack(model), 0
    data = open_images("cifar10", cifar_dir, normalization="imagenet")
    with torch.inference_mode():
        for images, labels in data.test_batches(500):
            expected, result = model(images), small(images)
            assert torch.equal(result.argmax(1), expected.argmax(1))
            assert (result - expected).abs().max() < 1e-5
            right += int((result.argmax(1) == labels).sum())
    assert right == round(100 * json.loads(path.with_suffix(".json").read_text())["top1"])
