"""Datasets held in memory as uint8 and augmented a whole epoch at a time.

Small images are decoded once and stay on the training device. Padding-and-crop has few distinct shifts, so an epoch is
cut out of the padded images one shift at a time: plain slices of many images instead of one transform per image. Order,
shifts and flips are a pure function of (seed, epoch), so a resumed run sees exactly the batches that an unbroken one
would see. A test compares the batches with those of torchvision's per-image pipeline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from resteutils.data.base import Data, EpochPlan

__all__ = ["Images"]


@dataclass
class Images(Data):
    """A dataset in memory. Images are uint8 (N, C, H, W), labels int64 (N,).

    ``mean`` and ``std`` are per channel, for pixels in [0, 1]. ``padding`` is that of the random crop.
    """

    name: str
    classes: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str = "crop-flip"
    padding: int = 4

    @property
    def train_size(self) -> int:
        return len(self.train_labels)

    @property
    def test_size(self) -> int:
        return len(self.test_labels)

    def to(self, device: torch.device | str) -> Images:
        """Move all images to the device, once; small sets belong where they are used."""
        for name in ("train_images", "train_labels", "test_images", "test_labels"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def fingerprint(self) -> str:
        found = hashlib.sha256()
        for part in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            found.update(f"{tuple(part.shape)}".encode())
            found.update(part.cpu().contiguous().numpy())
        return found.hexdigest()[:32]

    def train_batches(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented, normalised batches of epoch ``epoch`` (from 0), from step ``start`` on: float32 (B, C, H, W) and
        int64 (B,). ``batch_size`` counts all processes together; process ``rank`` gets every ``world``-th image of each
        batch.
        """
        plan = EpochPlan.draw(self.train_size, self.augment, self.padding, seed, epoch)
        shares = self.places(batch_size, start, rank, world)
        if not shares:
            return
        images, labels, places = self._cut(plan, np.concatenate(shares))
        offset = 0
        for share in shares:
            batch = places[offset : offset + len(share)]
            yield self.normalise(images.index_select(0, batch)), labels.index_select(0, batch)
            offset += len(share)

    def test_batches(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised test batches in order, without padding: process ``rank`` gets every ``world``-th image."""
        images, labels = self.test_images[rank::world], self.test_labels[rank::world]
        for begin in range(0, len(labels), batch_size):
            yield self.normalise(images[begin : begin + batch_size]), labels[begin : begin + batch_size]

    def _cut(self, plan: EpochPlan, positions: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """The images at these positions of the epoch, cropped and flipped, and their labels, sorted by group so that
        each distinct (shift, flip) is one slice; and where in them each position's image is.
        """
        device, order = self.train_images.device, plan.order[positions]
        if plan.group is None:
            index = torch.from_numpy(order).to(device)
            places = torch.arange(len(order), device=device)
            return self.train_images.index_select(0, index), self.train_labels.index_select(0, index), places
        group = plan.group[positions]
        by_group = np.argsort(group, kind="stable")
        edges = np.searchsorted(group[by_group], np.arange(plan.groups + 1)).tolist()
        index = torch.from_numpy(order[by_group]).to(device)
        out = self.train_images.new_zeros(len(order), *self.train_images.shape[1:])  # the zeros are the padding
        height, width = out.shape[2:]
        for key, (begin, end) in enumerate(pairwise(edges)):
            shift, flip = divmod(key, plan.flips)
            top, left = divmod(shift, 2 * self.padding + 1)
            rows, to_rows = _overlap(top - self.padding, height)
            columns, to_columns = _overlap(left - self.padding, width)
            seen = self.train_images.index_select(0, index[begin:end])  # few enough to stay in the cache
            crop = seen[:, :, rows, columns]
            if flip:
                crop, to_columns = crop.flip(3), slice(width - to_columns.stop, width - to_columns.start)
            out[begin:end, :, to_rows, to_columns] = crop
        places = torch.from_numpy(np.argsort(by_group)).to(device)
        return out, self.train_labels.index_select(0, index), places


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """Which pixels of a line a crop shifted by ``shift`` sees, and where in the crop they come to lie."""
    shift = max(-size, min(shift, size))
    seen = slice(max(shift, 0), size + min(shift, 0))
    return seen, slice(seen.start - shift, seen.stop - shift)
