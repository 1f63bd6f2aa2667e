"""What only GPUs need, as far as a CPU can show it: which convolutions are checked, and what is then chosen."""

from __future__ import annotations

import pytest
import torch

import resteutils as ru
from resteutils.nn import exact
from resteutils.training.gpu import ALGORITHMS, batch_sizes, settle_signs, sign_convolutions
from resteutils.training.switches import numerics

CPU, LAYOUT = torch.device("cpu"), torch.contiguous_format


@pytest.fixture
def settled():
    """cuDNN's switches, put back after the test however it ends."""
    with numerics(ru.Recipe(), CPU):
        yield torch.backends.cudnn


def test_each_shape_of_a_convolution_of_signs_is_checked_once(settled) -> None:
    model = ru.create("resnet20").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = sign_convolutions(model, (4, 3, 32, 32))
    assert len(found) == 5  # three widths, and the two steps between them, of 18 layers
    assert {call[0][0] for call in found} == {4}
    assert model.training
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert sign_convolutions(ru.create("resnet20", bits="1/32"), (4, 3, 32, 32)) == []
    assert sign_convolutions(ru.create("resnet20", scale_order="before"), (4, 3, 32, 32)) == []


@pytest.mark.parametrize(
    ("fields", "world", "sizes"),
    [
        ({}, 1, {256, 80, 500}),  # 50,000 images end with a batch of 80, 10,000 are evaluated in batches of 500
        ({"eval_batch_size": 384}, 1, {256, 80, 384, 16}),
        ({"accumulate": 3}, 1, {85, 86, 26, 27, 500}),
        ({"eval_batch_size": 384}, 3, {85, 86, 26, 27, 384, 261, 262}),
    ],
    ids=str,
)
def test_every_size_of_batch_is_checked(fields: dict, world: int, sizes: set[int]) -> None:
    assert batch_sizes(ru.Recipe(**fields), 50_000, 10_000, world) == sizes


def test_an_algorithm_may_fail_in_one_size_only(settled, monkeypatch) -> None:
    plain = exact.convolve

    def convolve(x, *rest):
        return plain(x, *rest) + (0.25 if len(x) == 3 and not settled.deterministic and x.dtype == torch.float32 else 0)

    monkeypatch.setattr(exact, "convolve", convolve)
    model = ru.create("vgg_small", image_size=8)
    assert settle_signs(model, {2, 3}, (3, 8, 8), LAYOUT, lambda line: None) == ALGORITHMS[1]


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_an_algorithm_that_gives_fractions_is_not_used(wrong: int, settled, monkeypatch) -> None:
    """The first ``wrong`` algorithms give fractions."""
    plain = exact.convolve

    def convolve(x, *rest):
        now = 2 if not settled.enabled else 1 if settled.deterministic else 0
        return plain(x, *rest) + (0.25 if now < wrong and x.dtype == torch.float32 else 0.0)

    model = ru.create("vgg_small", image_size=8)
    with monkeypatch.context() as patch:
        patch.setattr(exact, "convolve", convolve)
        heard: list[str] = []
        assert settle_signs(model, {2}, (3, 8, 8), LAYOUT, heard.append) == ALGORITHMS[wrong]
        assert len(heard) == wrong
        assert settled.enabled == (wrong < 2)
        assert settled.deterministic == (wrong == 1)


def test_without_an_exact_algorithm_nothing_is_trained(settled, monkeypatch) -> None:
    plain = exact.convolve
    monkeypatch.setattr(exact, "convolve", lambda x, *rest: plain(x, *rest) * (1 if x.dtype == torch.float64 else 1.1))
    with pytest.raises(RuntimeError, match=r"\(2, 128, 8, 8\).*device=cpu"):
        settle_signs(ru.create("vgg_small", image_size=8), {2}, (3, 8, 8), LAYOUT, lambda line: None)


def test_switches_of_cudnn_are_put_back() -> None:
    cudnn = torch.backends.cudnn
    before = (cudnn.enabled, cudnn.deterministic, cudnn.benchmark)
    with numerics(ru.Recipe(deterministic=True), CPU):
        assert cudnn.deterministic
        cudnn.enabled = False
    assert (cudnn.enabled, cudnn.deterministic, cudnn.benchmark) == before
