"""A network of the user's own made binary and float again: what is replaced, what is named, what stays the same."""

from __future__ import annotations

import io
import re
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import resteutils as ru


class Transformer(nn.Module):
    """Tokens (N, T) to classes: an embedding, one block of attention written with linear layers, a head."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, width)
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))
        self.head = nn.Linear(width, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens)
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v))
        return self.head((x + self.mlp(x)).mean(dim=1))


def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def torchvision_network(name: str) -> nn.Module:
    import torchvision

    return getattr(torchvision.models, name)(num_classes=10)


def timm_network(name: str) -> nn.Module:
    timm = pytest.importorskip("timm", reason="timm is not installed: pip install 'resteutils[dev]'")
    return timm.create_model(name, num_classes=10, zero_init_last=False)


def plain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding="same", groups=8),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 4, 1, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 10),
    )


NETWORKS = {
    "torchvision resnet18": (lambda: torchvision_network("resnet18"), images, nn.Hardtanh, 19),
    "torchvision mobilenet_v3_small": (lambda: torchvision_network("mobilenet_v3_small"), images, nn.Hardtanh, 52),
    "timm resnet18": (lambda: timm_network("resnet18"), images, nn.Hardtanh, 19),
    "transformer": (Transformer, lambda: torch.arange(12).view(2, 6) % 11, None, 4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_made_binary_trained_annealed_kept_and_exported(name: str) -> None:
    build, inputs, activation, replaced = NETWORKS[name]
    torch.manual_seed(0)
    begun, x = build(), inputs()
    model = ru.binarize_model(begun, ru.ReSTE(o=2), activation=activation, example=x)
    assert len(model.conversion.replaced) == len(ru.binary_layers(model)) == replaced
    assert ru.binary_layers(begun) == []  # a copy was changed

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ru.anneal(model, 0.5)
    before = {name: layer.weight.clone() for name, layer in ru.binary_layers(model)}
    model.train()(x).square().mean().backward()
    optimizer.step()
    moved = [name for name, layer in ru.binary_layers(model) if not layer.weight.equal(before[name])]
    assert len(moved) >= 0.8 * replaced  # the squeezed 1x1 images of a network this small leave some without gradient

    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = ru.binarize_model(build(), ru.ReSTE(o=2), activation=activation, example=x)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert {layer.progress for _, layer in ru.binary_layers(other)} == {0.5}
    with torch.no_grad():
        expected = model.eval()(x)
        assert other.eval()(x).equal(expected)
        exported = torch.export.export(model, (x,)).module()(x)
    torch.testing.assert_close(exported, expected, rtol=1e-4, atol=1e-4)

    begun.load_state_dict(ru.restore_model(model).state_dict(), strict=True)
    model.load_state_dict(begun.state_dict(), strict=True)


def test_the_float_weights_stay_the_same_parameters_in_place() -> None:
    model = plain()
    kept = dict(model.named_parameters())
    assert ru.binarize_model(model, inplace=True) is model
    assert all(parameter is kept[name] for name, parameter in model.named_parameters())
    layer = model[2]
    assert (layer.groups, layer.padding, layer.bias is not None) == (8, (1, 1), True)
    assert ru.restore_model(model, inplace=True) is model
    assert all(parameter is kept[name] for name, parameter in model.named_parameters())
    assert type(model[2]) is nn.Conv2d
    assert "conversion" not in vars(model)


@pytest.mark.parametrize("bits", ["1/1", "1/32"])
def test_a_twin_computes_what_a_layer_built_by_hand_does(bits: str) -> None:
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False).double()
    model = ru.binarize_model(nn.Sequential(conv), ru.STE(), bits, skip=(), scale="channel", weight_scale=0.5)
    byhand = ru.BinaryConv2d(3, 4, 3, 2, 1, ru.STE(), binarize_input=bits == "1/1", scale="channel").double()
    byhand.weight.data.copy_(conv.weight / 2)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert model(x).equal(byhand(x))
    assert model[0].coefficients.equal(byhand.coefficients)
    assert ru.restore_model(model)[0].weight.equal(conv.weight)


def test_hooks_mode_and_buffers_come_along() -> None:
    model, seen = plain().eval(), []
    handle = model[2].register_forward_hook(lambda *_: seen.append(1))
    ru.binarize_model(model, inplace=True)
    assert not model[2].training
    model(images())
    handle.remove()
    model(images())
    assert seen == [1]


def test_a_module_in_two_places_is_one_binary_layer_in_both() -> None:
    shared = nn.Linear(8, 8)
    model = nn.Sequential(nn.Linear(8, 8), shared, nn.Tanh(), shared, nn.Linear(8, 2))
    binary = ru.binarize_model(model)
    assert binary[1] is binary[3]
    assert [row.bits for row in binary.conversion.layers] == ["32/32", "1/1", "1/1", "32/32"]


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.ConvTranspose2d(8, 8, 3), "no binary form"),
        (nn.Conv3d(8, 8, 3), "no binary form"),
        (nn.LSTM(8, 8), "no binary form"),
        (nn.MultiheadAttention(8, 2), "reads its weights itself"),
        (nn.TransformerEncoderLayer(8, 2, 8), "reads its weights itself"),
        (nn.LazyConv2d(8, 3), "lazy"),
        (parametrizations.weight_norm(nn.Conv2d(8, 8, 3)), "parametrized"),
        (parametrizations.orthogonal(nn.Linear(8, 8)), "parametrized"),
        (nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), "reflect"),
        (nn.Conv2d(8, 8, 2, padding="same"), "same"),
        (type("Own", (nn.Linear,), {})(8, 8), "subclass of Linear"),
        (torch.ao.nn.quantized.Linear(8, 8), "quantized"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_stays_float_is_named(layer: nn.Module, why: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), layer, nn.Linear(2, 2))
    with pytest.warns(UserWarning, match=re.escape(f"2{'.self_attn' if hasattr(layer, 'self_attn') else ''} (")):
        binary = ru.binarize_model(model)
    assert [name for name, _ in ru.binary_layers(binary)] == ["1"]
    assert any(row.name.startswith("2") and why in row.why for row in binary.conversion.left)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ru.binarize_model(model, skip=("first", "last", "2"))  # said so: no warning


def test_a_weight_shared_with_a_float_layer_stays_float() -> None:
    model = nn.ModuleDict({"tokens": nn.Embedding(8, 4), "inner": nn.Linear(4, 4), "out": nn.Linear(4, 8)})
    model["out"].weight = model["tokens"].weight
    with pytest.warns(UserWarning, match="out .*shares its weight with tokens"):
        binary = ru.binarize_model(model, skip="first")
    assert binary["out"].weight is binary["tokens"].weight
    assert [name for name, _ in ru.binary_layers(binary)] == ["inner"]


def test_a_relu_is_warned_of_and_replaced_and_comes_back() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4), nn.Linear(4, 2))
    with pytest.warns(UserWarning, match=r"ReLU \(1\)"):
        ru.binarize_model(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ru.binarize_model(model, bits="1/32")
        binary = ru.binarize_model(model, activation=nn.PReLU, example=torch.randn(8, 4))
    assert isinstance(binary[1], nn.PReLU)
    restored = ru.restore_model(binary)
    assert isinstance(restored[1], nn.ReLU)
    assert restored[1].inplace
    assert list(restored.state_dict()) == list(model.state_dict())


def test_skip_takes_names_patterns_and_a_function() -> None:
    def left(skip) -> list[str]:
        return [row.name for row in ru.binarize_model(plain(), skip=skip).conversion.left]

    assert left("2") == ["2"]
    assert left(("first", "[24]")) == ["0", "2", "4"]
    assert left(lambda name, module: isinstance(module, nn.Linear)) == ["7"]
    with pytest.raises(ValueError, match="'steem'.*did you mean stem"):
        ru.binarize_model(nn.ModuleDict({"stem": nn.Linear(2, 2), "b": nn.Linear(2, 2)}), skip="steem")


def test_an_option_that_a_linear_layer_does_not_have_is_warned_of_and_always_checked() -> None:
    with pytest.warns(UserWarning) as said:
        ru.binarize_model(plain(), skip=(), scale_order="before", standardize=True)
    found = [str(each.message) for each in said]
    assert len(found) == 2 and all(message.endswith(": 7") for message in found)
    assert "scale_order = 'before'" in found[0] and "standardize = True" in found[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ru.binarize_model(plain(), scale_order="before", standardize=True)  # its linear layer stays float
    with pytest.warns(UserWarning, match="input_estimator = STE.*bits = '1/32'"):
        ru.binarize_model(plain(), bits="1/32", input_estimator=ru.STE())
    with pytest.raises(ValueError, match="scale_order = 'beforee', expected one of after, before"):
        ru.binarize_model(nn.Sequential(nn.Linear(2, 2)), skip=(), scale_order="beforee")


def test_a_layer_that_is_binary_already_is_said_to_be() -> None:
    once = ru.binarize_model(plain(), bits="1/32", skip=("first", "last", "2"))
    model = ru.binarize_model(once, skip=("first", "last"))
    assert [row.bits for row in model.conversion.layers] == ["32/32", "1/1", "1/32", "32/32"]
    assert [row.name for row in model.conversion.replaced] == ["2"]
    assert "3 of 4" not in str(model.conversion)
    assert type(ru.restore_model(model)[4]) is nn.Conv2d


@pytest.mark.parametrize("weight_scale", [1.0, 0.25, 2.0])
def test_weights_come_back_to_the_last_bit(weight_scale: float) -> None:
    model = plain()
    back = ru.restore_model(ru.binarize_model(model, weight_scale=weight_scale)).state_dict()
    assert list(back) == list(model.state_dict())
    assert all(torch.equal(tensor, back[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("assign", [False, True])
def test_a_float_state_is_scaled_on_every_load_and_a_binary_one_is_not(assign: bool) -> None:
    """A layer's state is a float one where it has no place on a path: each layer decides for itself."""
    begun, other = plain(), plain()
    model = ru.binarize_model(begun, weight_scale=0.25)
    state = other.state_dict()
    for _ in range(2):
        model.load_state_dict(state, strict=True, assign=assign)
        assert model[2].weight.equal(other[2].weight * 0.25) and model[0].weight.equal(other[0].weight)
    assert "2._extra_state" not in state and state["2.weight"].equal(other[2].weight)  # the caller's is as it was
    back = ru.restore_model(model).state_dict()
    assert all(tensor.equal(back[name]) for name, tensor in state.items())

    ru.anneal(model, 0.5)
    binary = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = ru.binarize_model(begun, weight_scale=0.25)
    other.load_state_dict(binary, strict=True, assign=assign)
    assert other[2].weight.equal(model[2].weight) and other[2].progress == 0.5
    mixed = binary | {"4.weight": begun[4].weight.detach()}
    del mixed["4._extra_state"]
    other.load_state_dict(mixed, strict=True, assign=assign)
    assert other[2].weight.equal(model[2].weight) and other[4].weight.equal(begun[4].weight * 0.25)
    assert (other[2].progress, other[4].progress) == (0.5, 1.0)


def test_a_network_that_torch_cannot_copy_is_changed_in_place_only() -> None:
    model = plain()
    prune.l1_unstructured(model[2], "weight", 0.5)
    with pytest.raises(ValueError, match=r"2\.weight.*inplace=True"):
        ru.binarize_model(model)
    with pytest.warns(UserWarning, match=r"2 \(Conv2d: its weight is computed"):
        assert ru.binarize_model(model, inplace=True) is model


def test_what_cannot_be_done_is_refused() -> None:
    for skip in (None, [nn.Linear], 3):
        with pytest.raises(TypeError, match="expected names, or one function of"):
            ru.binarize_model(plain(), skip=skip)
    with pytest.raises(TypeError, match="model = 'resnet18', expected an nn.Module"):
        ru.binarize_model("resnet18")
    with pytest.raises(ValueError, match="weight_scale = inf"):
        ru.binarize_model(plain(), weight_scale=float("inf"))
    with pytest.raises(ValueError, match="2/2"):
        ru.binarize_model(plain(), bits="2/2")
    with pytest.raises(ValueError, match="weight_scale = 0"):
        ru.binarize_model(plain(), weight_scale=0)
    with pytest.raises(TypeError, match="expected an estimator"):
        ru.binarize_model(plain(), "ste")
    with pytest.raises(ValueError, match="scale = 'row'"):
        ru.binarize_model(plain(), scale="row")
    with pytest.raises(ValueError, match="no layer can be binary:\nlayer"):
        ru.binarize_model(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="Sequential has no binary layer"):
        ru.restore_model(plain())


def test_the_table_says_shares() -> None:
    said = str(ru.binarize_model(plain()).conversion).splitlines()
    assert said[-1] == f"2 of 4 layers binary, {100 * (80 + 32) / (224 + 80 + 32 + 50):.1f} % of weights"


def test_a_twin_has_every_attribute_of_a_layer_built_by_hand_and_gives_each_back() -> None:
    plain_layers = [nn.Conv1d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 4)]
    byhand = [ru.BinaryConv1d(4, 4, 3), ru.BinaryConv2d(4, 4, 3), ru.BinaryLinear(4, 4)]
    model = ru.binarize_model(nn.ModuleList(plain_layers), skip=())
    restored = ru.restore_model(model)
    for plain_layer, layer, twin, back in zip(plain_layers, byhand, model, restored, strict=True):
        assert vars(twin).keys() - {"weight_scale"} == vars(layer).keys()
        assert vars(back).keys() == vars(plain_layer).keys()
