"""The variants that compete: training steps of the same network, with the same data and optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

import resteutils as ru
from benchmarks import authors
from resteutils import kernels

__all__ = ["CASES", "O", "STE", "VARIANTS", "Case", "Variant", "build", "device", "training_step"]

O = 1.7  # during training o is almost never a whole number
STE = ru.STE()


def device() -> torch.device:
    """Where training steps are measured: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Case:
    """A network and the batch it is measured with."""

    name: str
    batch: int
    size: int = 32

    def __str__(self) -> str:
        return f"{self.name} batch {self.batch}" + (f" at {self.size}x{self.size}" if self.size != 32 else "")


CASES = (Case("resnet20", 128), Case("resnet18", 32), Case("vgg_small", 32))


@dataclass(frozen=True)
class Variant:
    """What a network is made of and how its step is run."""

    kind: str  # "ours", "ste", "float", "authors"
    compiled: bool = False
    channels_last: bool = False
    packed: bool = False
    tables: bool = False
    precision: torch.dtype = torch.float32


VARIANTS = {
    "authors' formulation": Variant("authors"),
    "float twin, eager": Variant("float"),
    "float twin, compiled": Variant("float", compiled=True, channels_last=True),
    "clipped STE, eager": Variant("ste"),
    "clipped STE, compiled": Variant("ste", compiled=True, channels_last=True),
    "ours, eager": Variant("ours"),
    "ours, eager, channels last": Variant("ours", channels_last=True),
    "ours, eager, packed forward": Variant("ours", packed=True),
    "ours, compiled": Variant("ours", compiled=True, channels_last=True),
    "ours, compiled, channels first": Variant("ours", compiled=True),
    "ours, compiled, packed forward": Variant("ours", compiled=True, channels_last=True, packed=True),
    "ours, eager, packed forward, table gradients": Variant("ours", packed=True, tables=True),
    "ours, compiled, packed forward, table gradients": Variant(
        "ours", compiled=True, channels_last=True, packed=True, tables=True
    ),
    "ours, compiled, bf16 autocast": Variant("ours", compiled=True, channels_last=True, precision=torch.bfloat16),
}


def build(case: Case, variant: Variant, **shape) -> torch.nn.Module:
    """The network, on the device, in training mode, with weights from one seed."""
    torch.manual_seed(0)
    if variant.kind == "authors":
        model = authors.network(case.name, O, image_size=case.size, **shape)
    else:
        bits = "32/32" if variant.kind == "float" else "1/1"
        estimator = STE if variant.kind == "ste" else ru.ReSTE(o=O)
        model = ru.create(case.name, bits, estimator, image_size=case.size, **shape)
    for _, layer in ru.binary_layers(model):
        layer.packed, layer.table_gradients = variant.packed, variant.tables
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    return model.to(device(), memory_format=layout)


def training_step(case: Case, variant: Variant) -> Callable[[], torch.Tensor]:
    """One step: forward, loss, backward, SGD with momentum; each call is the next step. No number leaves the device."""
    model = build(case, variant)
    x = torch.randn(case.batch, 3, case.size, case.size, device=device())
    x = x.contiguous(memory_format=torch.channels_last if variant.channels_last else torch.contiguous_format)
    y = torch.randint(10, (case.batch,), device=device())
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=1e-4, fused=True)
    network = torch.compile(model, dynamic=False) if variant.compiled else model

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device().type, variant.precision, enabled=variant.precision != torch.float32):
            logits = network(x)
        loss = F.cross_entropy(logits.float(), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def chosen(names: tuple[str, ...]) -> dict[str, Variant]:
    """These variants; those with packed bits only where the compiled kernels are available."""
    return {name: VARIANTS[name] for name in names if not VARIANTS[name].packed or kernels.available()}
