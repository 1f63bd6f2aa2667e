"""Binary layers under autocast, in other dtypes, on any number of threads, and compiled."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import resteutils as ru
from resteutils import kernels

# --- threads: defect 23 ----------------------------------------------------------------------------------------------


def test_forward_and_relu_masks_do_not_depend_on_the_number_of_threads(threads) -> None:
    """Outputs of every layer up to the last ReLU, in training mode, are the same bits on one thread and on many."""
    model = ru.create("vgg_small", image_size=16).train()
    x, found = torch.randn(8, 3, 16, 16), []
    for count in (1, 2, 4):
        threads(count)
        outputs: list[torch.Tensor] = []
        watched = (m for m in model.modules() if isinstance(m, ru.BinaryConv2d | nn.ReLU))
        handles = [
            m.register_forward_hook(lambda module, inputs, out, kept=outputs: kept.append(out.clone())) for m in watched
        ]
        with torch.no_grad():
            model(x)
        for handle in handles:
            handle.remove()
        found.append(outputs)
    assert len(found[0]) == 5 + 6
    for other in found[1:]:
        assert all(a.equal(b) for a, b in zip(found[0], other, strict=True))


# --- precision -------------------------------------------------------------------------------------------------------


def test_autocast_bf16() -> None:
    layer = ru.BinaryConv2d(8, 6, 3, padding=1)
    x = torch.randn(4, 8, 6, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    exact = layer(x)
    assert (out - exact).abs().max() <= 2**-7 * exact.abs().max()
    incoming = torch.randn_like(exact)
    reduced = torch.autograd.grad(out, (x, layer.weight), incoming.bfloat16())
    full = torch.autograd.grad(exact, (x, layer.weight), incoming)
    for ours, theirs in zip(reduced, full, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def _skip_without_kernels() -> None:
    if not kernels.ready():
        pytest.skip("the kernels are not compiled; tests/kernels/test_kernels.py compiles them")


def test_the_packed_forward_under_autocast_is_the_same() -> None:
    _skip_without_kernels()
    x, found = torch.randn(4, 32, 6, 6), []
    layer = ru.BinaryConv2d(32, 6, 3, padding=1)
    for layer.packed in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(layer(x))
    assert found[1].dtype == torch.bfloat16
    assert found[0].equal(found[1])


@pytest.mark.parametrize("scale", ["layer", "channel-detached", "none"])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_by_tables_are_equal_to_rounding(scale: str, stride: int) -> None:
    _skip_without_kernels()
    layer = ru.BinaryConv2d(20, 6, 3, stride, 1, scale=scale)
    x, found = torch.randn(4, 20, 7, 7, requires_grad=True), []
    for layer.table_gradients in (False, True):
        out = layer(x)
        torch.manual_seed(0)
        found.append(torch.autograd.grad(out, (x, layer.weight), torch.randn_like(out)))
    for by_tables, usual in zip(*found[::-1], strict=True):
        assert float((by_tables - usual).norm()) < 1e-6 * float(usual.norm())
        assert not by_tables.equal(usual)  # they are what ran
    layer.weight.requires_grad_(False)
    assert torch.autograd.grad(layer(x).sum(), x)[0].shape == x.shape


def test_gradients_by_tables_are_float32s_only() -> None:
    layer, x = ru.BinaryConv2d(4, 6, 3, table_gradients=True), torch.randn(2, 4, 6, 6)
    usual = ru.BinaryConv2d(4, 6, 3)
    usual.load_state_dict(layer.state_dict())
    for cast in (torch.bfloat16, torch.float64):
        found = []
        for module in (layer, usual):
            if cast is torch.float64:
                out = module.double()(x.double())
            else:
                with torch.autocast("cpu", cast):
                    out = module(x)
            found.append(torch.autograd.grad(out.square().sum(), module.weight)[0])
        assert found[0].equal(found[1]), cast


def test_backward_inside_autocast_is_the_same() -> None:
    layer, x = ru.BinaryConv2d(4, 6, 3), torch.randn(2, 4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        inside = torch.autograd.grad(layer(x).float().square().sum(), layer.weight)[0]
        loss = layer(x).float().square().sum()
    assert inside.equal(torch.autograd.grad(loss, layer.weight)[0])


def test_linear_under_autocast_bf16() -> None:
    layer, x = ru.BinaryLinear(16, 6), torch.randn(4, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), layer(x), rtol=1e-2, atol=1e-3)
    out.float().sum().backward()
    assert x.grad.dtype == layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_a_model_in_another_dtype_keeps_its_path(dtype: torch.dtype) -> None:
    layer = ru.BinaryConv2d(4, 6, 3)
    ru.anneal(layer, 0.4)
    layer.to(dtype)
    assert layer.coefficients.dtype == dtype
    assert layer.progress == 0.4
    out = layer(torch.randn(2, 4, 6, 6, dtype=dtype))
    assert out.dtype == dtype
    layer.float()
    assert layer.coefficients.tolist() == pytest.approx(
        [*layer.current.coefficients(), *layer.input_current.coefficients()]
    )


def test_double_gives_coefficients_in_double_precision() -> None:
    layer = ru.BinaryConv2d(4, 6, 3, estimator=ru.ReSTE(o=3)).double()
    assert layer.coefficients[2].item() == 0.1 ** (-2 / 3)


# --- torch.compile ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"estimator": ru.EDE(), "input_estimator": ru.ReSTE(o=5)}, {"packed": True, "table_gradients": True}],
    ids=["reste", "two", "kernels"],
)
def test_compiled_once_for_the_whole_path_and_equal(options: dict) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    if options.get("packed"):
        _skip_without_kernels()
    torch._dynamo.reset()
    layer = ru.BinaryConv2d(4, 5, 3, padding=1, **options)
    counter = CompileCounterWithBackend("inductor")
    fast = torch.compile(layer, backend=counter, fullgraph=True)
    x = torch.randn(2, 4, 6, 6)
    x.view(-1)[:6] = torch.tensor([0.0, -0.0, 0.1, -0.1, 1.5, -1.5])
    for progress in (0.0, 0.3, 0.7, 1.0):
        ru.anneal(fast, progress)
        results = []
        for module in (layer, fast):
            layer.zero_grad()
            given = x.clone().requires_grad_()
            out = module(given)
            (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
            results.append((out.detach(), given.grad, layer.weight.grad.clone()))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert counter.frame_count == 1
