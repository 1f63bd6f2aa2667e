"""What the tasks of the libraries on torch have in common: the networks of others, images, and checks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

LABELS = torch.arange(8) % 10


def resnet18() -> nn.Module:
    """torchvision's, for ten classes."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    return resnet18(num_classes=10)


def images(channels: int = 3, size: int = 32) -> Tensor:
    """Eight of them."""
    return torch.randn(8, channels, size, size, generator=torch.Generator().manual_seed(1))


def small(conv: Callable[[int, int], nn.Module]) -> nn.Sequential:
    """A stem, two layers that ``conv(cin, cout)`` makes, a classifier."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), conv(32, 128), nn.BatchNorm2d(128),
        nn.Hardtanh(), conv(128, 128), nn.BatchNorm2d(128), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def step(model: nn.Module) -> Tensor:
    """One step of SGD; the loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = nn.functional.cross_entropy(model(images()).float(), LABELS)
    loss.backward()
    optimizer.step()
    return loss.detach()


def gradients(model: nn.Module, forward: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Of a copy's parameters, by ``forward`` of that copy."""
    model.zero_grad()
    nn.functional.cross_entropy(forward(images()), LABELS).backward()
    return [p.grad.clone() for p in model.parameters()]


def alike(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether gradients are equal but for a sign that rounding turned: 1 % of each norm."""
    return all((a - b).norm() <= 0.01 * b.norm() for a, b in zip(one, other, strict=True))


def trained(model: nn.Module) -> nn.Module:
    """Three steps, then evaluation."""
    for _ in range(3):
        step(model.train())
    return model.eval()


def same(model: nn.Module, other: Callable[[Tensor], Tensor]) -> bool:
    """Whether the logits agree on batches of three sizes."""
    with torch.no_grad():
        batches = [images()[:n] for n in (1, 5, 8)]
        return all(torch.allclose(model(x), torch.as_tensor(other(x)), atol=1e-3) for x in batches)


def floats(model: nn.Module) -> int:
    """Bytes of its parameters in float32."""
    return 4 * sum(p.numel() for p in model.parameters())


# --- other packages that a task is about -----------------------------------------------------------------------------


def onnxruntime(path) -> Callable[[Tensor], Tensor]:
    """The network in a file, run by onnxruntime on its only input."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def loader() -> torch.utils.data.DataLoader:
    """Three batches."""
    batches = torch.utils.data.TensorDataset(images().repeat(3, 1, 1, 1), LABELS.repeat(3))
    return torch.utils.data.DataLoader(batches, batch_size=8)


def lightning_module(model: nn.Module):
    """What Lightning trains."""
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.places = model, []

        def training_step(self, batch, index):
            self.places.append([layer.progress for layer in model.modules() if hasattr(layer, "progress")])
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Module()


def quiet(folder) -> dict:
    """Options of Lightning's Trainer."""
    return {"default_root_dir": folder, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
            "enable_progress_bar": False, "enable_model_summary": False}  # fmt: skip
