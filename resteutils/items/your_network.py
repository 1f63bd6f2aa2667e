"""A network of the reader's own, made binary: what the notebook ``binarize_your_network`` calls.

The network is written as most are, convolution, BatchNorm, ReLU, with a shortcut, and knows nothing of this package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from resteutils.data.images import Images
from resteutils.data.sources import DATASETS, Options
from resteutils.nn.annealing import AnnealScheduler
from resteutils.nn.convert import binarize_model
from resteutils.onebit import model as packed
from resteutils.system.files import write_atomic

__all__ = ["Network", "accuracy", "compare", "digits", "load", "pack", "save", "train"]


def digits() -> Images:
    """Open scikit-learn's digits: 1,437 training and 360 test images of 8x8, one channel."""
    return DATASETS["digits"].open(Options(image_size=8, in_channels=1, num_classes=10, augment="none"))


class Network(nn.Module):
    """Three convolutions and a shortcut: (N, 1, 8, 8) to (N, 10)."""

    def __init__(self, width: int = 32, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            self.first = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
            self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
            self.relu = nn.ReLU()
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of normalised images."""
        x = self.stem(x)
        x = self.relu(self.first(x) + x)
        return self.head(self.relu(self.second(x) + x))


def train(model: nn.Module, data: Images, epochs: int, lr: float = 0.01, seed: int = 0) -> pd.DataFrame:
    """Train with Adam, moving binary layers along their path; return epoch, loss and test accuracy in %."""
    steps = -(-data.train_size // 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    path = AnnealScheduler(model, epochs * steps)
    rows = []
    for epoch in range(epochs):
        model.train()
        for images, labels in data.train_batches(64, seed, epoch):
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            path.step()
        rows.append({"epoch": epoch + 1, "loss": loss.item(), "top-1 (%)": accuracy(model, data)})
    return pd.DataFrame(rows)


@torch.no_grad()
def accuracy(model: nn.Module, data: Images) -> float:
    """Share of the test images that are classified rightly, in %."""
    model.eval()
    right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in data.test_batches(120))
    return 100 * right / data.test_size


def save(model: nn.Module, path: Path) -> Path:
    """Write the weights as safetensors, whole or not at all."""
    from safetensors.torch import save as serialised

    path.parent.mkdir(parents=True, exist_ok=True)
    return write_atomic(path, serialised({name: t.contiguous() for name, t in model.state_dict().items()}))


def load(path: Path) -> Network:
    """Read a float network from its checkpoint."""
    from safetensors.torch import load_file

    network = Network()
    network.load_state_dict(load_file(path), strict=True)
    return network


def compare(checkpoint: Path, data: Images, epochs: int, seed: int = 0) -> tuple[pd.DataFrame, nn.Module]:
    """Train the binary network from the float checkpoint and from new weights; return both courses, and the first."""
    image = next(data.test_batches(1))[0]
    options: dict[str, Any] = {"activation": nn.Hardtanh, "example": image}
    warm = binarize_model(load(checkpoint), **options)
    new = binarize_model(Network(seed=seed + 1), **options)
    starts = {"from the checkpoint": warm, "from new weights": new}
    courses = {start: train(model, data, epochs, seed=seed) for start, model in starts.items()}
    table = pd.concat({start: course.set_index("epoch")["top-1 (%)"] for start, course in courses.items()}, axis=1)
    return table.round(1), warm


def pack(model: nn.Module, checkpoint: Path, data: Images, path: Path) -> pd.DataFrame:
    """Pack the network into ``path``; return sizes beside the float checkpoint, and how many predictions agree."""
    packed.pack(model, input_size=(1, 8, 8), data=data).save(path)
    small = packed.load(path)
    with torch.no_grad():
        pairs = [(model.eval()(images).argmax(1), small(images).argmax(1)) for images, _ in data.test_batches(120)]
    same = sum(int((ours == theirs).sum()) for ours, theirs in pairs)
    return pd.DataFrame(
        {
            "bytes": [checkpoint.stat().st_size, path.stat().st_size],
            "top-1 (%)": [accuracy(load(checkpoint), data), accuracy(small, data)],
            "same predictions as the trained binary network": ["", f"{same} of {data.test_size}"],
        },
        index=["float checkpoint", "packed"],
    ).round(1)
