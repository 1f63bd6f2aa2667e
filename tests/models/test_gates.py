"""ResNet-20 with another gradient at ReLU's exact zeros or in its early layers; its outputs stay."""

from __future__ import annotations

import pytest
import torch

import resteutils as ru
from resteutils.models.gates import EARLY, OPEN
from resteutils.models.zero_gate import ZeroGate

VARIANTS = ("resnet20_random_gate", "resnet20_half_gate", "resnet20_early")


def built(name: str):
    torch.manual_seed(0)
    return ru.create(name, image_size=8)


def gradients(name: str, images: torch.Tensor) -> list[torch.Tensor]:
    """Of the binary weights."""
    model = built(name).train()
    model(images).square().sum().backward()
    return [layer.weight.grad for _, layer in ru.binary_layers(model)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_outputs_are_resnet_20s(name: str, training: bool) -> None:
    images = torch.randn(4, 3, 8, 8)
    assert built(name).train(training)(images).equal(built("resnet20").train(training)(images))


def test_a_half_gate_has_half_the_derivative_at_zero_only() -> None:
    x = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    ZeroGate(0.5, random=False)(x).sum().backward()
    assert x.grad.tolist() == [0.0, 0.5, 1.0]


def test_a_random_gate_opens_a_share_of_the_zeros_anew_each_step_and_again_after_a_resume() -> None:
    gate, drawn = ZeroGate(OPEN, random=True), []
    for step in range(3):
        if step == 2:
            state = gate.state_dict()
        x = torch.zeros(10_000, requires_grad=True)
        gate(x).sum().backward()
        drawn.append(x.grad)
    for each in drawn:
        assert set(each.tolist()) == {0.0, 1.0} and each.mean().item() == pytest.approx(OPEN, abs=0.02)
    assert not drawn[0].equal(drawn[1])
    state["steps"] = torch.tensor(2)
    resumed = ZeroGate(OPEN, random=True)
    resumed.load_state_dict(state)
    resumed(x := torch.zeros(10_000, requires_grad=True)).sum().backward()
    assert x.grad.equal(drawn[2])


def test_layers_draw_for_themselves() -> None:
    first, second = (ZeroGate(OPEN, random=True, index=index) for index in (0, 1))
    assert not first._drawn(torch.zeros(100)).equal(second._drawn(torch.zeros(100)))


def test_only_the_first_six_layers_get_larger_gradients() -> None:
    images = torch.randn(4, 3, 8, 8)
    pairs = zip(gradients("resnet20", images), gradients("resnet20_early", images), strict=True)
    for index, (plain, early) in enumerate(pairs):
        torch.testing.assert_close(early, plain * (EARLY if index < 6 else 1.0))


def test_the_gates_change_the_gradients() -> None:
    images = torch.randn(4, 3, 8, 8)
    plain, half, noisy = (
        torch.cat([g.flatten() for g in gradients(n, images)]) for n in ("resnet20", *VARIANTS[1::-1])
    )
    assert not torch.allclose(plain, half) and not torch.allclose(half, noisy)
