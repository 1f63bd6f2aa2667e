"""The tasks with this package."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

import resteutils as ru
from benchmarks.tasks import material as m

PACKAGES = ("resteutils", "torch", "torchvision")


def small() -> nn.Sequential:
    return m.small(lambda cin, cout: ru.BinaryConv2d(cin, cout, 3, padding=1))


def layer(folder: Path) -> None:
    conv = ru.BinaryConv2d(3, 8, 3, padding=1)
    conv(m.images()).square().mean().backward()
    assert conv.weight.grad.abs().sum() > 0


def convert(folder: Path) -> None:
    network = m.resnet18()
    model = ru.binarize_model(network, activation=nn.Hardtanh)
    assert len(ru.binary_layers(model)) == 19
    assert model.layer1[0].conv1.weight.equal(network.layer1[0].conv1.weight)
    assert m.step(model).isfinite()


def depthwise(folder: Path) -> None:
    conv = ru.BinaryConv2d(16, 16, 3, padding=1, groups=16)
    line = ru.BinaryConv1d(16, 16, 3, padding=1)
    assert conv(m.images(16)).shape == (8, 16, 32, 32)
    assert line(torch.randn(8, 16, 32)).shape == (8, 16, 32)


def estimator(folder: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Triangle(ru.Estimator):
        width: float = 1.0

        def surrogate(self, z):
            return z.clamp(-self.width, self.width) * (2 - z.abs().clamp(max=self.width))

        def coefficients(self):
            return (self.width,)

        @staticmethod
        def slope(z, width):
            return 2 * (1 - z.abs() / width).clamp(min=0)

    conv = ru.BinaryConv2d(3, 8, 3, estimator=Triangle())
    assert torch.func.grad(lambda z: ru.binarize(z, Triangle()))(torch.tensor(0.25)) == 1.5
    assert m.step(nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))).isfinite()


def anneal(folder: Path) -> None:
    model = small()
    scheduler = ru.AnnealScheduler(model, total_steps=3)
    places = []
    for _ in range(3):
        places.append(scheduler.progress)
        m.step(model)
        scheduler.step()
    assert places == [0, 0.5, 1]
    assert [layer.current for _, layer in ru.binary_layers(model)] == [ru.ReSTE(), ru.ReSTE()]


def resume(folder: Path) -> None:
    model = m.trained(small())
    ru.anneal(model, 0.4)
    torch.save(model.state_dict(), folder / "model.pt")
    other = small()
    other.load_state_dict(torch.load(folder / "model.pt"))
    assert [layer.progress for _, layer in ru.binary_layers(other)] == [0.4, 0.4]
    assert m.same(model.eval(), other.eval())


def checkpoint(folder: Path) -> None:
    network = m.trained(m.resnet18())
    model = ru.binarize_model(m.resnet18(), activation=nn.Hardtanh)
    model.load_state_dict(network.state_dict())
    back = m.resnet18()
    back.load_state_dict(ru.restore_model(model).state_dict())
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

    module = m.lightning_module(small())
    trainer = pl.Trainer(max_epochs=1, callbacks=[ru.AnnealCallback()], **m.quiet(folder))
    trainer.fit(module, m.loader())
    assert module.places == [[0, 0], [0.5, 0.5], [1, 1]]


def program(folder: Path) -> None:
    model = m.trained(small())
    exported = torch.export.export(model, (m.images(),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(exported, folder / "model.pt2")
    loaded = torch.export.load(folder / "model.pt2").module()
    assert m.same(model, loaded)


def onnx(folder: Path) -> None:
    from resteutils.onebit.export import export_onnx

    model = m.trained(small())
    export_onnx(model, (3, 32, 32), folder / "model.onnx")
    assert m.same(model, m.onnxruntime(folder / "model.onnx"))


def packed(folder: Path) -> None:
    model = m.trained(small())
    ru.pack(model, input_size=(3, 32, 32)).save(folder / "model.rbit")
    assert (folder / "model.rbit").stat().st_size < m.floats(model) / 10


def bits(folder: Path) -> None:
    from resteutils.onebit.model import load

    model = m.trained(small())
    ru.pack(model, input_size=(3, 32, 32)).save(folder / "model.rbit")
    fast = load(folder / "model.rbit")
    assert fast(m.images()).argmax(1).equal(model(m.images()).argmax(1)) and fast._runs_compiled()


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
    assert (Path(ru.__file__).parent / "py.typed").is_file()
