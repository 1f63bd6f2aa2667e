"""The tasks with bitorch (github.com/hpi-xnor/bitorch)."""

from __future__ import annotations

from pathlib import Path

import bitorch
import torch
from bitorch import RuntimeMode
from bitorch.layers import QConv1d, QConv2d
from bitorch.layers import convert as convert_layers
from bitorch.quantizations import Quantization
from bitorch.quantizations.progressive_sign import config
from torch import nn

from benchmarks.tasks import material as m
from benchmarks.tasks.needing import needs

PACKAGES = ("bitorch", "torch", "torchvision")
SIGNS = {"input_quantization": "sign", "weight_quantization": "sign"}
ANNEALED = {"input_quantization": "progressive_sign", "weight_quantization": "progressive_sign"}


def small(options: dict = SIGNS) -> nn.Sequential:
    return m.small(lambda cin, cout: QConv2d(cin, cout, 3, padding=1, **options))


def binary(model: nn.Module) -> nn.Module:
    for name, conv in list(model.named_modules()):
        if isinstance(conv, nn.Conv2d) and name != "conv1":
            made = QConv2d(
                conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
                input_quantization="sign", weight_quantization="sign",
            )  # fmt: skip
            made.weight.data.copy_(conv.weight.data)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, made)
    return model


def layer(folder: Path) -> None:
    conv = QConv2d(3, 8, 3, padding=1, input_quantization="sign", weight_quantization="sign")
    conv(m.images()).square().mean().backward()
    assert conv.weight.grad.abs().sum() > 0


@needs("binary")
def convert(folder: Path) -> None:
    network = m.resnet18()
    model = binary(m.resnet18())
    assert model.layer1[0].conv1.weight.equal(network.layer1[0].conv1.weight)
    assert m.step(model).isfinite()


def depthwise(folder: Path) -> None:
    conv = QConv2d(16, 16, 3, padding=1, groups=16, input_quantization="sign", weight_quantization="sign")
    line = QConv1d(16, 16, 3, padding=1, input_quantization="sign", weight_quantization="sign")
    assert conv(m.images(16)).shape == (8, 16, 32, 32)
    assert line(torch.randn(8, 16, 32)).shape == (8, 16, 32)


def estimator(folder: Path) -> None:
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            ctx.save_for_backward(z)
            return torch.where(z < 0, -1.0, 1.0)

        @staticmethod
        def backward(ctx, grad):
            return grad * 2 * (1 - ctx.saved_tensors[0].abs()).clamp(min=0)

    class Triangle(Quantization):
        name = "triangle"
        bit_width = 1

        def quantize(self, z):
            return Function.apply(z)

    conv = QConv2d(3, 8, 3, input_quantization=Triangle(), weight_quantization=Triangle())
    assert m.step(nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))).isfinite()


def anneal(folder: Path) -> None:
    """Its progressive sign: a Hardtanh in the forward pass, ever steeper; one scale for the whole process."""
    model = small(ANNEALED)
    for step in range(3):
        config.progressive_sign_scale = step / 2
        m.step(model)
    assert config.progressive_sign_scale == 1


def resume(folder: Path) -> None:
    model = m.trained(small(ANNEALED))
    config.progressive_sign_scale = 0.4
    torch.save({"model": model.state_dict(), "scale": config.progressive_sign_scale}, folder / "model.pt")
    other = small(ANNEALED)
    saved = torch.load(folder / "model.pt")
    other.load_state_dict(saved["model"])
    config.progressive_sign_scale = saved["scale"]
    assert m.same(model.eval(), other.eval())


def checkpoint(folder: Path) -> None:
    network = m.trained(m.resnet18())
    model = binary(m.resnet18())
    model.load_state_dict(network.state_dict())
    back = m.resnet18()
    back.load_state_dict(model.state_dict())
    assert m.same(back.eval(), network)


def autocast(folder: Path) -> None:
    model = small()
    with torch.autocast("cpu", torch.bfloat16):
        loss = m.step(model)
    assert loss.isfinite()


def compiled(folder: Path) -> None:
    model = small()
    fast = torch.compile(model)
    assert m.alike(m.gradients(model, fast), m.gradients(model, model))


def lightning(folder: Path) -> None:
    import lightning.pytorch as pl

    class Anneal(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            config.progressive_sign_scale = trainer.global_step / (trainer.estimated_stepping_batches - 1)

    trainer = pl.Trainer(max_epochs=1, callbacks=[Anneal()], **m.quiet(folder))
    trainer.fit(m.lightning_module(small(ANNEALED)), m.loader())
    assert config.progressive_sign_scale == 1


def program(folder: Path) -> None:
    model = m.trained(small())
    exported = torch.export.export(model, (m.images(),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(exported, folder / "model.pt2")
    loaded = torch.export.load(folder / "model.pt2").module()
    assert m.same(model, loaded)


def onnx(folder: Path) -> None:
    model = m.trained(small())
    batch = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(model, (m.images(),), folder / "model.onnx", dynamo=True, dynamic_shapes=batch)
    assert m.same(model, m.onnxruntime(folder / "model.onnx"))


def packed(folder: Path) -> None:
    model = m.trained(small())
    fast = convert_layers(model, RuntimeMode.CPU)
    torch.save(fast.state_dict(), folder / "model.pt")
    assert (folder / "model.pt").stat().st_size < m.floats(model) / 10


def bits(folder: Path) -> None:
    model = m.trained(small())
    expected = model(m.images()).argmax(1)
    fast = convert_layers(model, RuntimeMode.CPU)
    assert fast(m.images()).argmax(1).equal(expected)


def hub(folder: Path) -> None:
    from huggingface_hub import PyTorchModelHubMixin

    class Network(nn.Module, PyTorchModelHubMixin):
        def __init__(self):
            super().__init__()
            self.network = small()

        def forward(self, x):
            return self.network(x)

    model = m.trained(Network())
    model.save_pretrained(folder)
    read = Network.from_pretrained(folder)
    assert m.same(model, read.eval())


def types(folder: Path) -> None:
    assert (Path(bitorch.__file__).parent / "py.typed").is_file(), "it has no py.typed"
