"""Folding asks torch's own operations: thresholds and BatchNorm agree to the last bit, and nothing else is accepted."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.packable import small_network
from torch import nn

import resteutils as ru
from resteutils import kernels
from resteutils.onebit.fold import fold
from resteutils.onebit.program import pack_signs, unpack_signs


def test_thresholds_equal_batch_norm_at_every_integer():
    torch.manual_seed(0)
    layer, norm = ru.BinaryConv2d(3, 40, 3), nn.BatchNorm2d(40).eval()
    with torch.no_grad():
        norm.weight.normal_().view(-1)[:3] = 0  # constant channels
        norm.bias.normal_()
        norm.running_mean.normal_().mul_(2)
        norm.running_var.uniform_(0.1, 3)
        model = nn.Sequential(
            nn.Conv2d(3, 3, 3, bias=False), nn.BatchNorm2d(3), layer, nn.ReLU(), norm,
            ru.BinaryConv2d(40, 2, 1), nn.BatchNorm2d(2),
        ).eval()  # fmt: skip
        program = fold(model)
        step = next(i for i, s in enumerate(program.steps) if s["do"] == "threshold")
        cuts = program.of(step, "cuts").view(-1, 1)
        flip = unpack_signs(program.of(step, "flip").view(1, 1, 1, -1), 40).view(-1, 1) < 0
        n = torch.arange(-27.0, 28.0)
        y = norm((n * layer.weight.abs().mean()).relu().view(-1, 1, 1, 1).expand(-1, 40, -1, -1))[:, :, 0, 0].T
        assert torch.equal((n < cuts) ^ flip, y < 0)
        assert 3 < ((y < 0).any(1) & (y >= 0).any(1)).sum()  # the test would fail for constant channels alone


def test_folded_batch_norm_is_torchs_own_to_the_last_bit():
    """Where a sum is near zero the last bit decides a sign; ``torch.sqrt`` is not BatchNorm's root on every machine."""
    torch.manual_seed(0)
    layer, norm = ru.BinaryConv2d(3, 4096, 1), nn.BatchNorm2d(4096).eval()
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.1, 3)
        program = fold(nn.Sequential(layer, norm))
        x = torch.randn(2, 4096, 4, 4)
        gain, offset = (program.of(1, name).double().view(1, -1, 1, 1) for name in ("gain", "offset"))
        assert torch.equal((x.double() * gain + offset).float(), norm(x))  # fused: rounded once


def test_signs_survive_packing():
    signs = torch.randn(5, 13, 3, 2).sign()
    assert torch.equal(unpack_signs(pack_signs(signs), 13), signs)
    if kernels.available():
        assert torch.equal(pack_signs(signs), kernels.pack_bits(signs))


@pytest.mark.parametrize(
    ("at", "module", "message"),
    [
        (0, nn.Conv2d(3, 8, 3, padding=1, bias=False, padding_mode="reflect"), "padding_mode = 'reflect'"),
        (0, nn.Conv2d(3, 8, 3, padding=5, bias=False, dilation=2), r"padding = \(5, 5\) .* at most \(4, 4\)"),
        (0, nn.Conv2d(3, 8, 3, padding="same", bias=False), "padding = 'same'"),
        (2, ru.BinaryConv2d(8, 8, 1, padding=1), r"padding = \(1, 1\) around a kernel of \(1, 1\) .* at most \(0, 0\)"),
        (2, ru.BinaryConv2d(8, 8, 3, padding=(1, 3)), r"padding = \(1, 3\) around a kernel of \(3, 3\)"),
        (1, nn.BatchNorm2d(8, affine=False), "affine = False"),
        (1, nn.SyncBatchNorm(8, affine=False), "affine = False"),
        (1, nn.BatchNorm2d(8, track_running_stats=False), "track_running_stats = False"),
        (5, nn.MaxPool2d(3, ceil_mode=True), "ceil_mode = True"),
        (5, nn.MaxPool2d(2, dilation=2), "dilation = 2"),
        (5, nn.AdaptiveAvgPool2d(3), r"5: .*output_size = 3 of \(32, 32\)"),
        (5, nn.AvgPool2d(2, ceil_mode=True), "5: .*ceil_mode = True"),
        (7, nn.Flatten(2), r"8 cannot be run on images of \(3, 32, 32\)"),
        (8, nn.Tanh(), "8: Tanh has no packed form"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_would_be_computed_otherwise_is_refused(at: int, module: nn.Module, message: str):
    with pytest.raises(ValueError, match=message):
        fold(small_network(module, at=at))


def test_synchronised_batch_norm_folds_as_batch_norm_does():
    """What a training on many GPUs leaves: one process evaluates it as BatchNorm."""
    torch.manual_seed(0)
    plain = small_network(nn.Linear(8, 5), nn.BatchNorm1d(5), at=8)
    with torch.no_grad():
        for norm in (plain[1], plain[4], plain[9]):
            norm.weight.normal_()
            norm.running_mean.normal_()
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain)).eval()
    assert any(isinstance(part, nn.SyncBatchNorm) for part in synced)
    ours, theirs = fold(synced), fold(plain)
    assert ours.steps == theirs.steps and ours.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in theirs.tensors)
