"""The tasks with brevitas (github.com/Xilinx/brevitas)."""

from __future__ import annotations

from pathlib import Path

import brevitas
import torch
from brevitas.graph.quantize import layerwise_quantize
from brevitas.nn import QuantConv1d, QuantConv2d
from brevitas.quant.binary import SignedBinaryActPerTensorConst, SignedBinaryWeightPerTensorConst
from torch import nn

from benchmarks.tasks import material as m
from benchmarks.tasks.needing import needs

PACKAGES = ("brevitas", "torch", "torchvision")
BINARY = {"weight_quant": SignedBinaryWeightPerTensorConst, "input_quant": SignedBinaryActPerTensorConst}


class Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, width):
        ctx.save_for_backward(z, width)
        return torch.where(z < 0, -1.0, 1.0)

    @staticmethod
    def backward(ctx, grad):
        z, width = ctx.saved_tensors
        return grad * 2 / width * (1 - z.abs() / width).clamp(min=0), None


class Triangle(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("width", torch.ones(()))

    def forward(self, z):
        one = torch.ones((), device=z.device)
        return Function.apply(z, self.width), one, torch.zeros((), device=z.device), one


class Weights(SignedBinaryWeightPerTensorConst):
    tensor_quant = Triangle


class Inputs(SignedBinaryActPerTensorConst):
    tensor_quant = Triangle


OWN = {"weight_quant": Weights, "input_quant": Inputs}


def small(options: dict = BINARY) -> nn.Sequential:
    return m.small(lambda cin, cout: QuantConv2d(cin, cout, 3, padding=1, bias=False, **options))


def set_width(model: nn.Module, progress: float) -> None:
    for module in model.modules():
        if isinstance(module, Triangle):
            module.width.fill_(1 - 0.9 * progress)


def binary(model: nn.Module) -> nn.Module:
    layers = {nn.Conv2d: (QuantConv2d, {**BINARY, "return_quant_tensor": False})}
    return layerwise_quantize(model, layers, name_blacklist=["conv1"])


def layer(folder: Path) -> None:
    binary = {"weight_quant": SignedBinaryWeightPerTensorConst, "input_quant": SignedBinaryActPerTensorConst}
    conv = QuantConv2d(3, 8, 3, padding=1, bias=False, **binary)
    conv(m.images()).square().mean().backward()
    assert conv.weight.grad.abs().sum() > 0


@needs("binary")
def convert(folder: Path) -> None:
    network = m.resnet18()
    model = binary(m.resnet18())
    assert sum(isinstance(layer, QuantConv2d) for layer in model.modules()) == 19
    assert model.layer1[0].conv1.weight.equal(network.layer1[0].conv1.weight)
    assert m.step(model).isfinite()


def depthwise(folder: Path) -> None:
    conv = QuantConv2d(16, 16, 3, padding=1, groups=16, bias=False, **BINARY)
    line = QuantConv1d(16, 16, 3, padding=1, bias=False, **BINARY)
    assert conv(m.images(16)).shape == (8, 16, 32, 32)
    assert line(torch.randn(8, 16, 32)).shape == (8, 16, 32)


@needs("Function", "Triangle", "Weights", "Inputs")
def estimator(folder: Path) -> None:
    conv = QuantConv2d(3, 8, 3, bias=False, weight_quant=Weights, input_quant=Inputs)
    assert m.step(nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))).isfinite()


@needs("Function", "Triangle", "Weights", "Inputs", "set_width")
def anneal(folder: Path) -> None:
    model = small(OWN)
    for step in range(3):
        set_width(model, step / 2)
        m.step(model)
    widths = [float(module.width) for module in model.modules() if isinstance(module, Triangle)]
    assert len(widths) == 4 and all(abs(width - 0.1) < 1e-6 for width in widths)


def resume(folder: Path) -> None:
    model = m.trained(small(OWN))
    set_width(model, 0.4)
    torch.save(model.state_dict(), folder / "model.pt")
    other = small(OWN)
    other.load_state_dict(torch.load(folder / "model.pt"))
    assert all(abs(module.width - 0.64) < 1e-6 for module in other.modules() if isinstance(module, Triangle))
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


@needs("set_width")
def lightning(folder: Path) -> None:
    import lightning.pytorch as pl

    class Anneal(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            set_width(pl_module, trainer.global_step / (trainer.estimated_stepping_batches - 1))

    module = m.lightning_module(small(OWN))
    trainer = pl.Trainer(max_epochs=1, callbacks=[Anneal()], **m.quiet(folder))
    trainer.fit(module, m.loader())
    assert all(abs(each.width - 0.1) < 1e-6 for each in module.modules() if isinstance(each, Triangle))


def program(folder: Path) -> None:
    from brevitas.export.inference import quant_inference_mode

    model = m.trained(small())
    with torch.no_grad(), quant_inference_mode(model):
        model(m.images())
        exported = torch.export.export(model, (m.images(),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(exported, folder / "model.pt2")
    loaded = torch.export.load(folder / "model.pt2").module()
    assert m.same(model, loaded)


def onnx(folder: Path) -> None:
    from brevitas.export import export_onnx_qcdq

    model = m.trained(small())
    batch = ({0: torch.export.Dim("batch")},)
    export_onnx_qcdq(model, args=(m.images(),), export_path=str(folder / "model.onnx"), dynamic_shapes=batch)
    assert m.same(model, m.onnxruntime(folder / "model.onnx"))


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
    assert (Path(brevitas.__file__).parent / "py.typed").is_file(), "it has no py.typed"
