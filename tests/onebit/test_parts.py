"""What networks of others are made of, packed: the same logits on every code path; what does not pack is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import resteutils as ru
from resteutils import kernels
from resteutils.onebit import model as packed
from resteutils.onebit.fold import fold
from resteutils.onebit.program import slid


def settled(model: nn.Module, size: tuple[int, ...] = (3, 16, 16)) -> nn.Module:
    """With BatchNorms as a training leaves them: scales of both signs, statistics of their inputs."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias, 0, 0.3)
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.1, 0.5)
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(8, *size))
    return model.eval()


class Residual(nn.Module):
    """Blocks as users write them: BatchNorm before the activation, a shortcut, functions in place of modules."""

    def __init__(self, activation: type[nn.Module] = nn.Hardtanh) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.first, self.norm1 = ru.BinaryConv2d(16, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24)
        self.second, self.norm2 = ru.BinaryConv2d(24, 24, 3, padding=1), nn.BatchNorm2d(24)
        self.short = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(16, 24, 1, bias=False), nn.BatchNorm2d(24))
        self.act = activation()
        self.depthwise, self.norm3 = ru.BinaryConv2d(24, 24, 3, padding=1, groups=24), nn.BatchNorm2d(24)
        self.point, self.norm4 = ru.BinaryConv2d(24, 40, 1), nn.BatchNorm2d(40)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(40, 7)

    def forward(self, x):
        x = self.act(self.norm(self.stem(x)))
        out = self.act(self.norm1(self.first(x)))
        out = self.norm2(self.second(out))
        out += self.short(x)
        x = self.act(out)
        x = self.norm4(self.point(self.norm3(self.depthwise(x))))
        x = F.max_pool2d(F.relu(x), 2)
        return self.head(self.drop(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)))


def sequence(*middle: nn.Module, width: int = 8, flat: int = 8 * 8 * 8) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), *middle,
        ru.BinaryConv2d(width, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(flat, 5),
    )  # fmt: skip


class Skipped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) + x


def biased(*middle: nn.Module) -> nn.Sequential:
    """Every layer with a bias that matters."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), *middle, ru.BinaryConv2d(8, 8, 3, padding=1, bias=True), *middle,
        ru.BinaryConv2d(8, 8, 3, stride=2, padding=1, bias=True, scale="channel"), nn.BatchNorm2d(8), nn.Flatten(),
        ru.BinaryLinear(8 * 8 * 8, 24, bias=True), nn.Hardtanh(), ru.BinaryLinear(24, 16, bias=True), nn.Linear(16, 5),
    )  # fmt: skip
    torch.manual_seed(1)
    for layer in model.modules():
        if getattr(layer, "bias", None) is not None:
            nn.init.normal_(layer.bias)
    return model


def perceptron() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), ru.BinaryLinear(3 * 16 * 16, 40), nn.BatchNorm1d(40), nn.Hardtanh(), ru.BinaryLinear(40, 24),
        nn.BatchNorm1d(24), nn.PReLU(), nn.Dropout(), nn.Linear(24, 5),
    )  # fmt: skip


def torchvision_resnet18() -> nn.Module:
    import torchvision

    return ru.binarize_model(torchvision.models.resnet18(num_classes=10), bits="1/1", activation=nn.Hardtanh)


NETWORKS = {
    "Hardtanh": lambda: sequence(nn.Hardtanh()),
    "PReLU": lambda: sequence(nn.PReLU(8)),
    "LeakyReLU": lambda: sequence(nn.LeakyReLU(0.1)),
    "ReLU": lambda: sequence(nn.ReLU(), nn.BatchNorm2d(8)),
    "ReLU6": lambda: sequence(nn.ReLU6(), nn.BatchNorm2d(8)),
    "Identity": lambda: sequence(nn.Identity()),
    "Dropout": lambda: sequence(nn.Dropout2d()),
    "AvgPool2d": lambda: sequence(nn.AvgPool2d(3, 1, 1)),
    "AvgPool2d without padding": lambda: sequence(nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
    "AdaptiveAvgPool2d": lambda: sequence(nn.AdaptiveAvgPool2d(8), flat=8 * 4 * 4),
    "a float convolution inside": lambda: sequence(nn.Conv2d(8, 12, 3, padding=1, groups=4, bias=False), width=12),
    "groups": lambda: sequence(ru.BinaryConv2d(8, 16, 3, padding=1, groups=4), nn.BatchNorm2d(16), width=16),
    "depthwise": lambda: sequence(ru.BinaryConv2d(8, 8, 3, padding=1, groups=8, scale="channel"), nn.BatchNorm2d(8)),
    "dilation": lambda: sequence(ru.BinaryConv2d(8, 8, 3, padding=2, dilation=2), nn.BatchNorm2d(8)),
    "a dilated float convolution": lambda: sequence(nn.Conv2d(8, 8, 3, padding=3, dilation=3, bias=False)),
    "biases": lambda: biased(nn.ReLU(), nn.BatchNorm2d(8)),
    "biases before signs": lambda: biased(nn.Hardtanh()),
    "biases before a sum": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), Skipped(ru.BinaryConv2d(8, 8, 3, 1, 1, bias=True)),
                                                 ru.BinaryConv2d(8, 8, 3, bias=True), nn.Flatten(),
                                                 ru.BinaryLinear(8 * 14 * 14, 5, bias=True)),
    "no BatchNorm": lambda: sequence(ru.BinaryConv2d(8, 8, 3, padding=1, scale="channel")),
    "a first binary layer": lambda: nn.Sequential(ru.BinaryConv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(),
                                                  nn.Linear(8 * 14 * 14, 5)),
    "Flatten first": perceptron,
    "residual blocks": Residual,
    "residual blocks, PReLU": lambda: Residual(nn.PReLU),
    "residual blocks, Identity": lambda: Residual(nn.Identity),
    "torchvision's resnet18": torchvision_resnet18,
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore:a binary layer right behind a ReLU")
def test_it_packs_to_the_same_logits(name: str, tmp_path: Path) -> None:
    model, x = settled(NETWORKS[name]()), torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        expected = model(x)
    small = packed.load(ru.pack(model, input_size=(3, 16, 16)).save(tmp_path / "it.rbit"))
    ways = ["torch", *(kernels.paths() if kernels.available() else [])]
    for way in ways:
        found = packed.PackedModel(small.header, small.program, way)(x)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, msg=lambda said, way=way: f"{way}: {said}")


@st.composite
def layers(draw) -> nn.Sequential:
    """Two binary layers of groups, depthwise or not, with dilation; what comes out are integers."""
    parts, size = [], (draw(st.integers(5, 13)), draw(st.integers(5, 13)))
    channels = 3
    for _ in range(2):
        groups = draw(st.sampled_from([g for g in (1, 2, 3, 5, channels) if channels % g == 0]))
        out, kernel = groups * draw(st.integers(1, 18)), draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        padding = tuple(draw(st.integers(0, d * (k - 1))) for k, d in zip(kernel, dilation, strict=True))
        stride = draw(st.integers(1, 2))
        layer = ru.BinaryConv2d(channels, out, kernel, stride, padding, dilation=dilation, groups=groups, scale="none",
                                packed=False, bias=draw(st.booleans()))  # fmt: skip
        if layer.bias is not None:
            nn.init.constant_(layer.bias, 2.0)
        parts, channels = [*parts, layer], out
        size = slid(size, kernel, (stride, stride), padding, dilation)
        assume(min(size) > 0)
    return nn.Sequential(*parts, nn.Flatten()).eval()


@settings(max_examples=40, deadline=None)
@given(layers(), st.integers(0, 1000))
def test_groups_and_dilation_pack_to_the_same_integers(model: nn.Sequential, seed: int) -> None:
    x = torch.randn(2, 3, 13, 13, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = model(x)
    small = ru.pack(model, input_size=(3, 13, 13))
    for way in ["torch", *(kernels.paths() if kernels.available() else [])]:
        found = packed.PackedModel(small.header, small.program, way)(x)
        assert torch.equal(found, expected), way


def test_packing_leaves_the_network_as_it_was() -> None:
    model, seen = settled(sequence(nn.Hardtanh())).train(), []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    ru.pack(model, input_size=(3, 16, 16))
    assert model.training and not seen


def test_a_sign_sees_through_what_keeps_it() -> None:
    """Behind Hardtanh and PReLU the signs are those before: no step, no floats between the two layers."""
    parts = [ru.BinaryConv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.PReLU(), nn.Hardtanh()]
    steps = [step["do"] for step in fold(settled(sequence(nn.Hardtanh(), *parts)), (3, 16, 16)).steps]
    assert steps == ["stem", "threshold", "binary", "flatten", "linear"]
    parts[2] = nn.PReLU(init=-0.5)  # a negative slope turns signs
    model = sequence(nn.Hardtanh(), *parts).eval()
    assert [step["do"] for step in fold(model, (3, 16, 16)).steps].count("activate") == 1


class Head(nn.Module):
    """A binary layer, and the way from its images (N, 8, 8, 6) to rows, as users write it."""

    def __init__(self, way: Callable[[torch.Tensor], torch.Tensor], features: int) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv, self.way, self.head = ru.BinaryConv2d(8, 8, 3, 2, 1), way, nn.Linear(features, 5)

    def forward(self, x):
        return self.head(self.way(self.conv(self.norm(self.stem(x)))))


def unpacked(x):
    n, c, _, _ = x.size()
    return F.adaptive_avg_pool2d(x, 1).view(n, c)


def pooled(x):
    return F.adaptive_avg_pool2d(x, (1, 1))


FLAT = 8 * 8 * 6
HEADS = {
    "view, size": (lambda x: x.view(x.size(0), -1), FLAT),
    "view, shape": (lambda x: x.view(x.shape[0], -1), FLAT),
    "reshape, shape": (lambda x: x.reshape(x.shape[0], -1), FLAT),
    "torch.reshape": (lambda x: torch.reshape(x, (x.shape[0], -1)), FLAT),
    "view of a tuple": (lambda x: x.contiguous().view((x.size()[0], -1)), FLAT),
    "view, features": (lambda x: x.view(-1, FLAT), FLAT),
    "view, product": (lambda x: x.view(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3]), FLAT),
    "flatten, keywords": (lambda x: torch.flatten(input=x, start_dim=1, end_dim=-1), FLAT),
    "flatten, negative": (lambda x: x.flatten(-3), FLAT),
    "flatten twice": (lambda x: x.flatten(2).flatten(start_dim=1), FLAT),
    "a module, negative": (nn.Flatten(-3, 3), FLAT),
    "unpacked": (unpacked, 8),
    "mean": (lambda x: x.mean((2, 3)), 8),
    "mean, dim": (lambda x: x.mean(dim=(2, 3)), 8),
    "mean, other order": (lambda x: x.mean(dim=[-1, -2]), 8),
    "torch.mean": (lambda x: torch.mean(x, dim=[2, 3]), 8),
    "mean, keepdim": (lambda x: torch.flatten(x.mean([2, 3], keepdim=True), 1), 8),
    "mean, keepdim, squeeze": (lambda x: torch.mean(x, (2, 3), True).squeeze(), 8),
    "mean of means": (lambda x: x.mean(3).mean(2), 8),
    "mean of means, other order": (lambda x: x.mean(2).mean(-1), 8),
    "mean of a width": (lambda x: x.mean(-1).flatten(1), 64),
    "mean of a height": (lambda x: x.mean(2, keepdim=True).flatten(1), 48),
    "mean of pixels": (lambda x: x.flatten(2).mean(-1), 8),
    "squeeze": (lambda x: pooled(x).squeeze(), 8),
    "squeeze twice": (lambda x: pooled(x).squeeze(-1).squeeze(-1), 8),
    "squeeze, dims": (lambda x: torch.squeeze(torch.squeeze(pooled(x), 3), dim=2), 8),
    "squeeze and back": (lambda x: pooled(x).squeeze(-1).unsqueeze(-1).flatten(1), 8),
    "indexed": (lambda x: pooled(x)[:, :, 0, 0], 8),
    "pooled by size": (lambda x: F.avg_pool2d(x, x.size()[2:]).view(-1, 8), 8),
    "dropped": (lambda x: F.dropout2d(x, 0.5, False).flatten(1), FLAT),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_ways_from_images_to_rows_pack_to_the_same_logits(name: str) -> None:
    model, x = settled(Head(*HEADS[name]), (3, 16, 12)), torch.randn(3, 3, 16, 12)
    small = ru.pack(model, input_size=(3, 16, 12))
    ways = ["torch", *(kernels.paths()[:1] if kernels.available() else [])]
    for way in ways:
        found = packed.PackedModel(small.header, small.program, way)(x)
        torch.testing.assert_close(found, model(x).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("way", "features", "said"),
    [
        (lambda x: x.view(x.size(1), -1)[: x.size(0)], 96, "view"),
        (lambda x: x.transpose(2, 3).flatten(1), FLAT, "transpose"),
        (lambda x: x.reshape(-1, 8, 6, 8).flatten(1), FLAT, r"reshape\(\) from \(8, 8, 6\) to \(8, 6, 8\)"),
        (lambda x: x.view(-1, 2, 4, 8, 6).transpose(1, 2).flatten(1), FLAT, r"view\(\) from \(8, 8, 6\)"),
        (lambda x: x.mean(1).flatten(1), 48, "mean"),
        (lambda x: x.mean(), 1, "mean"),
        (lambda x: x.view(torch.int32).flatten(1).float(), FLAT, "view"),
        (lambda x: x[:, [1, 0, 2, 3, 4, 5, 6, 7]].flatten(1), FLAT, "getitem"),
        (lambda x: x.flatten(2).relu().flatten(1), FLAT, r"relu\(\) of a value of shape \(N, 8, 48\)"),
        (lambda x: nn.functional.dropout(x).flatten(1), FLAT, "dropout.*training=self.training"),
        (lambda x: x, 6, r"head of a value of shape \(N, 8, 8, 6\)"),
        (lambda x: x.flatten(1), 7, r"head cannot be run on images of \(3, 16, 12\).*input_size"),
    ],
)
def test_what_moves_numbers_is_refused(way: Callable, features: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ru.pack(Head(way, features), input_size=(3, 16, 12))


class Gate(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.block, self.how = nn.ModuleDict({"conv": ru.BinaryConv2d(3, 3, 1)}), how
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        y = self.block["conv"](x)
        if self.how == "mul":
            return x * y
        if self.how == "branch":
            return y if x.sum() > 0 else x
        if self.how == "constant":
            return y + 1
        if self.how == "parameter":
            return y + self.shift
        return y, x


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("mul", r"mul\(\) has no packed form"),
        ("branch", "Gate.forward cannot be followed by torch.fx"),
        ("constant", r"add\(\): only a sum of two values"),
        ("parameter", "shift: a parameter used by itself"),
        ("tuple", "returns something else than its last value"),
    ],
)
def test_what_does_not_pack_is_named(how: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ru.pack(nn.Sequential(Gate(how)) if how == "mul" else Gate(how))


def test_a_layer_is_named_by_its_path() -> None:
    import torchvision

    model = ru.binarize_model(torchvision.models.mobilenet_v3_small(), activation=nn.Hardtanh)
    with pytest.raises(ValueError, match=re.escape("features.1.block.1.mul() has no packed form")):
        ru.pack(model, input_size=(3, 32, 32))
    deep = nn.Sequential(nn.Sequential(ru.BinaryConv2d(3, 4, 3), nn.Sequential(nn.GELU())))
    with pytest.raises(ValueError, match=re.escape("0.1.0: GELU has no packed form")):
        ru.pack(deep)


def test_the_table_of_the_docs_says_what_packs(root: Path) -> None:
    """Every module of its first column packs or is refused as its second says."""
    text = (root / "docs" / "one-bit.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| (.+?) \|", text[text.index("## What packs") :], re.MULTILINE)[2:]
    said = {name: "no" not in answer.split()[:1] for names, answer in rows for name in re.findall(r"`(\w+)`", names)}
    found = {}
    for name, parts in EACH.items():
        try:
            ru.pack(sequence(*parts).eval(), input_size=(3, 16, 16))
            found[name] = True
        except ValueError:
            found[name] = False
    assert said == found


EACH = {
    "BinaryConv2d": [ru.BinaryConv2d(8, 8, 1)],
    "BinaryLinear": [],
    "Conv2d": [],
    "Linear": [],
    "BatchNorm1d": [],
    "BatchNorm2d": [],
    "SyncBatchNorm": [nn.SyncBatchNorm(8)],
    "ReLU": [nn.ReLU()],
    "ReLU6": [nn.ReLU6()],
    "Hardtanh": [nn.Hardtanh()],
    "PReLU": [nn.PReLU()],
    "LeakyReLU": [nn.LeakyReLU()],
    "Identity": [nn.Identity()],
    "Dropout": [nn.Dropout()],
    "Dropout2d": [nn.Dropout2d()],
    "MaxPool2d": [nn.MaxPool2d(3, 1, 1)],
    "AvgPool2d": [nn.AvgPool2d(3, 1, 1)],
    "AdaptiveAvgPool2d": [nn.AdaptiveAvgPool2d(16)],
    "Flatten": [],
    "BinaryConv1d": [ru.BinaryConv1d(8, 8, 1)],
    "ConvTranspose2d": [nn.ConvTranspose2d(8, 8, 1)],
    "LayerNorm": [nn.LayerNorm(16)],
    "GroupNorm": [nn.GroupNorm(2, 8)],
    "GELU": [nn.GELU()],
    "Hardswish": [nn.Hardswish()],
    "Sigmoid": [nn.Sigmoid()],
    "Tanh": [nn.Tanh()],
    "Softmax": [nn.Softmax(1)],
}
