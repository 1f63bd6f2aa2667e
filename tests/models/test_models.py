"""The networks: sizes, order of layers, what stays in full precision, initialisation."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import tiny as smallest
from torch import nn

import resteutils as ru
from resteutils import kernels

PARAMETERS = {
    "resnet18": 11_174_986,
    "resnet20": 269_850,
    "resnet20_bireal": 269_850,
    "resnet20_hardtanh": 269_850,
    "vgg_small": 4_660_106,
    "resnet18_imagenet": 11_690_536,
    "resnet34_imagenet": 21_798_696,
}
# binary convolutions and their weights
BINARY = {
    "resnet18": (16, 10_985_472),
    "resnet20": (18, 267_264),
    "resnet20_bireal": (18, 267_264),
    "resnet20_hardtanh": (18, 267_264),
    "vgg_small": (5, 4_571_136),
    "resnet18_imagenet": (16, 10_985_472),
    "resnet34_imagenet": (32, 21_086_208),
}
SMALL = ("resnet18", "resnet20", "resnet20_bireal", "resnet20_hardtanh", "vgg_small")
LARGE = ("resnet18_imagenet", "resnet34_imagenet")


def build(name: str, **options) -> nn.Module:
    if name in LARGE:
        options = {"num_classes": 1000, "image_size": 224} | options
    return ru.create(name, **options)


def tiny(name: str, **options) -> tuple[nn.Module, torch.Tensor]:
    """A network for the smallest images it takes, and two of them."""
    size = 32 if name in LARGE else 8
    return ru.create(name, image_size=size, **options), torch.randn(2, 3, size, size)


def test_the_table_covers_every_model() -> None:
    gates = {"resnet20_random_gate", "resnet20_half_gate", "resnet20_early"}  # test_gates.py has them
    assert set(PARAMETERS) == set(BINARY) == set(ru.MODELS) - gates


@pytest.mark.parametrize("bits", ["1/1", "1/32", "32/32"])
@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters(name: str, bits: str) -> None:
    with torch.device("meta"):
        model = build(name, bits=bits)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    layers = ru.binary_layers(model)
    count, weights = BINARY[name] if bits != "32/32" else (0, 0)
    assert (len(layers), sum(layer.weight.numel() for _, layer in layers)) == (count, weights)
    assert all(layer.binarize_input == (bits == "1/1") for _, layer in layers)


@pytest.mark.parametrize("name", PARAMETERS)
def test_what_stays_in_full_precision(name: str) -> None:
    """First convolution, 1x1 shortcuts, classifier; every convolution without a bias."""
    with torch.device("meta"):
        model = build(name)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert type(convolutions[0]) is nn.Conv2d
    for conv in convolutions[1:]:
        assert isinstance(conv, ru.BinaryConv2d) == (conv.kernel_size == (3, 3))
    assert all(conv.bias is None for conv in convolutions)
    assert type(list(model.modules())[-1]) is nn.Linear
    assert list(model.modules())[-1].bias is not None


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name != "resnet20_hardtanh"])
def test_inside_blocks_the_order_is_convolution_relu_norm(name: str) -> None:
    model, x = tiny(name)
    order: list[str] = []
    kinds = {ru.BinaryConv2d: "conv", nn.Conv2d: "conv", nn.ReLU: "relu", nn.BatchNorm2d: "norm"}
    for module_name, module in model.named_modules():
        if type(module) in kinds and "shortcut" not in module_name:
            module.register_forward_hook(lambda m, inputs, out: order.append(kinds[type(m)]))
    model.eval()(x)
    assert order == ["conv", "relu", "norm"] * (BINARY[name][0] + 1)  # so there is no ReLU after an addition


@pytest.mark.parametrize("name", PARAMETERS)
def test_batchnorm_before_the_classifier_except_in_vgg(name: str) -> None:
    with torch.device("meta"):
        model = build(name)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
    assert [m.num_features for m in norms] == {"vgg_small": []}.get(name, [64 if "20" in name else 512])


def test_resnet20_single_and_double_skip_by_hand() -> None:
    """Same weights, other skips: compared with the two formulas written out."""
    single, x = tiny("resnet20")
    double, _ = tiny("resnet20_bireal")
    double.load_state_dict(single.state_dict())
    single.eval(), double.eval()
    block = single.blocks[3]  # stride 2, 16 -> 32 channels
    z = torch.randn(2, 16, 8, 8)
    skip = torch.cat([torch.zeros(2, 8, 4, 4), z[:, :, ::2, ::2], torch.zeros(2, 8, 4, 4)], dim=1)
    torch.testing.assert_close(block(z), block.second(block.first(z)) + skip)
    middle = block.first(z) + skip
    torch.testing.assert_close(double.blocks[3](z), block.second(middle) + middle)
    assert not torch.allclose(single(x), double(x))


def test_ir_nets_arrangement_by_hand() -> None:
    """The same layers as the double skip; BatchNorm, the skip, then Hardtanh, and no ReLU anywhere."""
    model, _ = tiny("resnet20_hardtanh")
    block, z = model.eval().blocks[3], torch.randn(2, 16, 8, 8)
    skip = torch.cat([torch.zeros(2, 8, 4, 4), z[:, :, ::2, ::2], torch.zeros(2, 8, 4, 4)], dim=1)
    norms = [nn.BatchNorm2d(32).eval() for _ in range(2)]  # as they start
    middle = (norms[0](block.first[0](z)) + skip).clamp(-1, 1)
    torch.testing.assert_close(block(z), (norms[1](block.second[0](middle)) + middle).clamp(-1, 1))
    assert not any(isinstance(module, nn.ReLU) for module in model.modules())
    assert model.stem(torch.randn(2, 3, 8, 8)).abs().max() <= 1


def test_projection_shortcuts_are_convolution_and_norm() -> None:
    with torch.device("meta"):
        model = build("resnet18")
    shortcuts = [block.shortcut for block in model.blocks]
    kinds = [[type(m).__name__ for m in s] if isinstance(s, nn.Sequential) else type(s).__name__ for s in shortcuts]
    projection = ["Conv2d", "BatchNorm2d"]
    assert kinds == ["Identity", "Identity", projection, "Identity", projection, "Identity", projection, "Identity"]


@pytest.mark.parametrize(
    ("bits", "name"), [("1/1", n) for n in PARAMETERS] + [("1/32", "resnet20"), ("32/32", "vgg_small")]
)
def test_forward_and_backward(name: str, bits: str) -> None:
    model, x = tiny(name, bits=bits)
    logits = model(x)
    assert logits.shape == (2, 10)
    logits.square().mean().backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert missing == []
    assert all((layer.weight.grad != 0).any() for _, layer in ru.binary_layers(model))


@pytest.mark.parametrize("name", SMALL)
def test_image_size_channels_and_classes_are_arguments(name: str) -> None:
    model = ru.create(name, image_size=16, in_channels=1, num_classes=7)
    assert model.eval()(torch.randn(3, 1, 16, 16)).shape == (3, 7)


def test_initialisation() -> None:
    resnet20 = ru.create("resnet20")
    for module in resnet20.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 4000:  # Kaiming, fan-in, ReLU
            fan_in = module.in_channels * 9
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.06)
    assert list(resnet20.modules())[-1].weight.std().item() == pytest.approx(math.sqrt(2 / 64), rel=0.15)

    vgg = ru.create("vgg_small")
    for module in vgg.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * module.out_channels)), rel=0.05)
    classifier = list(vgg.modules())[-1]
    assert classifier.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert (classifier.bias == 0).all()

    torch.manual_seed(3)
    layer = ru.BinaryConv2d(64, 64, 3)
    torch.manual_seed(3)
    assert layer.weight.equal(nn.Conv2d(64, 64, 3, bias=False).weight)  # ResNet-18 keeps PyTorch's defaults
    bound = 1 / math.sqrt(64 * 9)
    first = ru.binary_layers(ru.create("resnet18"))[0][1]
    assert first.weight.abs().max().item() == pytest.approx(bound, rel=1e-2)


@pytest.mark.parametrize("name", ["resnet20", "vgg_small"])
def test_the_float_twin_has_the_same_weights_under_the_same_seed(name: str) -> None:
    states = []
    for bits in ("1/1", "32/32"):
        torch.manual_seed(11)
        states.append([p.detach() for p in ru.create(name, bits=bits, image_size=8).parameters()])
    assert all(a.equal(b) for a, b in zip(*states, strict=True))


def test_the_float_twin_is_the_binary_network_without_its_signs() -> None:
    twin, x = tiny("resnet20", bits="32/32")
    assert [type(m) for m in twin.modules() if isinstance(m, nn.Conv2d)] == [nn.Conv2d] * 19
    assert not ru.binary_layers(twin)
    ru.anneal(twin, 0.5)  # does nothing, and may be called
    assert twin(x).isfinite().all()


def test_options_reach_every_binary_layer() -> None:
    chosen = {"estimator": ru.EDE(), "input_estimator": ru.STE(), "scale": "channel", "scale_order": "before"}
    model = ru.create("resnet20", standardize=True, **chosen)
    for _, layer in ru.binary_layers(model):
        assert {key: getattr(layer, key) for key in chosen} == chosen
        assert layer.standardize


def test_the_scale_does_not_matter_between_convolution_and_norm() -> None:
    """ReLU and BatchNorm divide a common scale out again (paper.md 1.6)."""
    block = ru.create("resnet20").double().blocks[0].first
    block[2].eps = 1e-14
    x, outputs = torch.randn(16, 16, 8, 8, dtype=torch.float64), []
    for scale in ("layer", "none"):
        block[0].scale = scale
        outputs.append(block(x))
    torch.testing.assert_close(*outputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet50"}, r"unknown model 'resnet50'; known: resnet18, resnet20"),
        ({"name": "resnet20", "bits": "1/2"}, r"bits = '1/2', expected one of 1/1, 1/32, 32/32"),
        ({"name": "resnet20", "image_size": 30}, r"resnet20: image_size = 30, expected a positive multiple of 4"),
        ({"name": "vgg_small", "image_size": 12}, r"vgg_small: image_size = 12, expected a positive multiple of 8"),
        ({"name": "resnet18", "image_size": -8}, r"image_size = -8, expected a whole number of at least 1"),
        ({"name": "resnet20", "image_size": "32"}, r"image_size = '32', expected a whole number of at least 1"),
        ({"name": "resnet20", "num_classes": 0}, r"num_classes = 0, expected a whole number of at least 1"),
        ({"name": "resnet20", "in_channels": 2.5}, r"in_channels = 2\.5, expected a whole number of at least 1"),
        ({"name": "resnet18_imagenet", "image_size": 200}, r"image_size = 200, expected a positive multiple of 32"),
        ({"name": "resnet20", "scale": "row"}, r"scale = 'row'"),
    ],
    ids=str,
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ru.create(**options)


# --- summary ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_summary_counts_weights(name: str) -> None:
    found = ru.summary(ru.create(name))
    assert (found.binary_weights, found.parameters) == (BINARY[name][1], PARAMETERS[name])
    assert found.float_weights == PARAMETERS[name] - BINARY[name][1]
    assert sum(layer.weight_bits == 1 for layer in found.layers) == BINARY[name][0]


def test_summary_of_vgg_small_by_hand() -> None:
    convolutions = [(128, 128, 32), (128, 256, 16), (256, 256, 16), (256, 512, 8), (512, 512, 8)]  # after the first
    binary = sum(9 * cin * cout * size * size for cin, cout, size in convolutions)
    first, classifier = 27 * 128 * 32 * 32, 512 * 16 * 10
    found = ru.summary(ru.create("vgg_small"))
    assert (found.binary_macs, found.mixed_macs, found.float_macs) == (binary, 0, first + classifier)

    statistics = 2 * 2 * (128 + 256 + 512)  # running mean and variance of six BatchNorms
    rest = 4 * (PARAMETERS["vgg_small"] - BINARY["vgg_small"][1] + statistics)
    assert found.bytes == BINARY["vgg_small"][1] // 8 + rest + 4 * 5  # one scale per binary layer
    assert found.bytes_float == 4 * BINARY["vgg_small"][1] + rest


def test_summary_follows_bits_scale_and_input_size() -> None:
    binary = ru.summary(ru.create("resnet20"))
    mixed = ru.summary(ru.create("resnet20", bits="1/32"))
    assert (mixed.binary_macs, mixed.mixed_macs, mixed.float_macs) == (0, binary.binary_macs, binary.float_macs)
    float_twin = ru.summary(ru.create("resnet20", bits="32/32"))
    assert float_twin.float_macs == binary.binary_macs + binary.float_macs
    assert float_twin.bytes == float_twin.bytes_float == binary.bytes_float
    channels = sum(layer.out_channels for _, layer in ru.binary_layers(ru.create("resnet20")))
    assert ru.summary(ru.create("resnet20", scale="channel")).bytes == binary.bytes + 4 * (channels - 18)
    assert ru.summary(ru.create("resnet20", scale="none")).bytes == binary.bytes - 4 * 18
    small = ru.summary(ru.create("resnet20", image_size=8, in_channels=1), (1, 8, 8))
    assert small.binary_macs * 16 == binary.binary_macs


def test_summary_leaves_the_model_as_it_was() -> None:
    model = ru.create("resnet20", image_size=8).train()
    model.stem.eval()
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    ru.summary(model, (3, 8, 8))
    assert [module.training for module in model.modules()] == modes
    assert all(value.equal(state[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_summary_prints_every_layer() -> None:
    text = str(ru.summary(ru.create("resnet20")))
    assert text.count("BinaryConv2d") == 18
    assert "1-bit weights 267,264, 32-bit weights 2,586, all 269,850" in text


@pytest.mark.parametrize("size", [32, (1, 32, 32), (32, 32), "32"])
def test_summary_refuses_a_size_that_the_network_does_not_take(size) -> None:
    with pytest.raises(ValueError, match=r"input_size = .*, expected \(C, H, W\) with C = 3, e\.g\. \(3, 32, 32\)"):
        ru.summary(ru.create("resnet20"), size)


# --- networks of one's own ------------------------------------------------------------------------------------------


def mine(conv, num_classes: int, image_size: int, in_channels: int) -> nn.Sequential:
    stem = nn.Sequential(nn.Conv2d(in_channels, 4, 3, padding=1), nn.BatchNorm2d(4))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
    return nn.Sequential(stem, conv(4, 4, stride=2), nn.BatchNorm2d(4), head)


def test_a_registered_network_is_made_and_trained_by_a_recipe(tmp_path) -> None:
    ru.register_model(mine)
    try:
        assert len(ru.binary_layers(ru.create("mine"))) == 1
        assert ru.create("mine", "32/32", num_classes=3)(torch.randn(2, 3, 8, 8)).shape == (2, 3)
        recipe = ru.recipe("table1/resnet20-1w1a", "smoke", model="mine")
        assert recipe.run_id.startswith("mine-1w1a-reste")
        run = ru.load_or_train(recipe, runs_dir=tmp_path / "runs", results_dir=tmp_path / "results", device="cpu")
        assert type(run.model()) is nn.Sequential
    finally:
        del ru.MODELS["mine"]
    with pytest.raises(ValueError, match="model = 'mine', expected one of resnet18"):
        ru.recipe("table1/resnet20-1w1a", "smoke", model="mine")


def dilated(conv, num_classes: int, image_size: int, in_channels: int) -> nn.Sequential:
    inner = [
        conv(8, 16, groups=2, padding=2, dilation=2),
        nn.BatchNorm2d(16),
        conv(16, 16, groups=16),
        nn.BatchNorm2d(16),
    ]
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3), *inner, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes)
    )


@pytest.mark.skipif(not kernels.available(), reason=kernels.why_not() or "-")
def test_a_network_of_groups_trains_on_packed_bits_to_the_same_numbers(tmp_path) -> None:
    ru.register_model(dilated)
    try:
        found = [smallest.run(smallest.tiny(model="dilated", packed_forward=packed), tmp_path / str(packed))
                 for packed in (True, False)]  # fmt: skip
    finally:
        del ru.MODELS["dilated"]
    (_, packed, environment), (_, floats, _) = found
    assert environment["packed_forward"] and environment["packed_evaluation"]
    assert [row["train_loss"] for row in packed] == [row["train_loss"] for row in floats]
    assert [row["test_top1"] for row in packed] == [row["test_top1"] for row in floats]


def test_what_is_no_network_or_has_a_taken_name_is_refused() -> None:
    with pytest.raises(TypeError, match="conv, num_classes, image_size, in_channels"):
        ru.register_model(lambda conv, classes: nn.Identity())
    with pytest.raises(ValueError, match="model name '<lambda>', expected letters"):
        ru.register_model(lambda conv, num_classes, image_size, in_channels: nn.Identity())
    other = type(mine)(mine.__code__, {}, "resnet20")
    other.__module__ = "elsewhere"
    with pytest.raises(ValueError, match="'resnet20' is registered already, by resteutils.models.resnet"):
        ru.register_model(other)
    assert ru.register_model(ru.MODELS["resnet20"]) is ru.MODELS["resnet20"]  # reloaded: the same again
