"""The baseline: the authors' formulation, stated again in our own words, with the costs that it has there.

* The derivative is filled in by boolean masks, zone by zone; the plateau is taken with ``math.pow`` of a tensor o,
  which fetches it from the device, twice per backward pass.
* Both signs are tensors of the graph, made by autograd functions of their own; sign(0) = 0.
* The scale mean|w| multiplies the binary weights before the convolution.
* Images are augmented one at a time, as PIL images, in worker processes of a DataLoader.

Nothing here is used outside `benchmarks`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import resteutils as ru

__all__ = ["MaskedReSTE", "MaskedConv2d", "loader", "network"]


class MaskedReSTE(torch.autograd.Function):
    """Sign forward; backward, ReSTE's derivative by masks and fills."""

    @staticmethod
    def forward(ctx, z, o, t, m):
        ctx.save_for_backward(z, o)
        ctx.t, ctx.m = t, m
        return torch.sign(z)

    @staticmethod
    def backward(ctx, grad):
        z, o = ctx.saved_tensors
        t, m = ctx.t, ctx.m
        slope = torch.zeros_like(grad)
        curve = (z.abs() <= t) & (z.abs() > m)
        slope[curve] = (1 / o) * torch.pow(z[curve].abs(), (1 - o) / o)
        right = (z >= 0) & (z <= m)
        left = (z < 0) & (z >= -m)
        slope[right] = math.pow(m, 1 / o) / m
        slope[left] = math.pow(m, 1 / o) / m
        return grad * slope, None, None, None


class MaskedConv2d(nn.Conv2d):
    """3x3 binary convolution with o as a tensor on the layer and the scale on the weights."""

    def __init__(self, cin: int, cout: int, stride: int, o: float = 1.7, t: float = 1.5, m: float = 0.1) -> None:
        super().__init__(cin, cout, 3, stride, 1, bias=False)
        self.o, self.t, self.m = torch.tensor(o), t, m

    def _apply(self, fn, recurse=True):
        self.o = fn(self.o)
        return super()._apply(fn, recurse)

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.weight.abs().mean(dim=(0, 1, 2, 3), keepdim=True)
        weight = MaskedReSTE.apply(self.weight, self.o, self.t, self.m) * alpha
        return F.conv2d(MaskedReSTE.apply(x, self.o, self.t, self.m), weight, None, self.stride, self.padding)


def network(name: str, o: float = 1.7, **shape) -> nn.Module:
    """The network ``name`` at W/A 1/1 with :class:`MaskedConv2d` for its binary convolutions and the same weights."""
    model = ru.create(name, estimator=ru.ReSTE(o=o), **shape)
    for path, layer in ru.binary_layers(model):
        masked = MaskedConv2d(layer.in_channels, layer.out_channels, layer.stride[0], o)
        masked.load_state_dict({"weight": layer.weight})
        model.set_submodule(path, masked)
    return model


class PerImage(Dataset):
    """uint8 images (N, 3, H, W), augmented one at a time through PIL."""

    def __init__(self, images: Tensor, labels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        from torchvision import transforms

        self.images, self.labels = images.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[-1], padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def loader(images, batch_size: int, workers: int = 2) -> DataLoader:
    """Their pipeline for the training images of a :class:`resteutils.data.images.Images`."""
    dataset = PerImage(images.train_images, images.train_labels, images.mean, images.std)
    return DataLoader(dataset, batch_size, shuffle=True, num_workers=workers, pin_memory=torch.cuda.is_available())
