"""Batches from memory: augmented as the per-image pipeline does, pure functions of (seed, epoch)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from resteutils.data.base import _constants
from resteutils.data.images import EpochPlan, Images


def images(
    size: int = 40, channels: int = 3, pixels: int = 8, augment: str = "crop-flip", padding: int = 2, test: int = 10
) -> Images:
    """Noise whose labels are the images' numbers, so that a batch says which image is where."""
    random = np.random.Generator(np.random.PCG64(1))

    def noise(count):
        return torch.from_numpy(random.integers(1, 256, (count, channels, pixels, pixels), dtype=np.uint8))

    return Images(
        "noise", tuple(map(str, range(size))), noise(size), torch.arange(size), noise(test), torch.arange(test) % 3,
        mean=(0.4, 0.5, 0.6)[:channels], std=(0.2, 0.25, 0.3)[:channels], augment=augment, padding=padding,
    )  # fmt: skip


def epoch(data: Images, batch_size: int = 16, seed: int = 0, number: int = 0, **where) -> list:
    return list(data.train_batches(batch_size, seed, number, **where))


class PerImage(Dataset):
    """The same training images one at a time, by torchvision's transforms: the reference."""

    def __init__(self, images: Images) -> None:
        from torchvision.transforms import v2

        self.images, steps = images, [v2.ToImage()]
        if images.augment != "none":
            steps.append(v2.RandomCrop(images.train_images.shape[-1], padding=images.padding))
        if images.augment == "crop-flip":
            steps.append(v2.RandomHorizontalFlip())
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(images.mean, images.std)]
        self.transform = v2.Compose(steps)

    def __len__(self) -> int:
        return self.images.train_size

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = self.images.train_images[index].permute(1, 2, 0).squeeze(-1).numpy()
        return self.transform(Image.fromarray(pixels)), int(self.images.train_labels[index])


# --- augmentation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", ["crop-flip", "crop", "none"])
@pytest.mark.parametrize(("channels", "padding"), [(3, 4), (1, 1), (3, 0)])
def test_every_image_is_what_torchvision_makes_of_the_same_shift_and_flip(
    augment: str, channels: int, padding: int
) -> None:
    from torchvision.transforms.v2 import functional as V

    data = images(channels=channels, augment=augment, padding=padding)
    plan = EpochPlan.draw(data.train_size, augment, padding, seed=3, epoch=5)
    pixels = torch.cat([batch for batch, _ in epoch(data, seed=3, number=5)])
    assert len(pixels) == data.train_size
    for place, image in enumerate(plan.order):
        expected = data.train_images[image]
        if augment != "none":
            shift, flip = divmod(int(plan.group[place]), plan.flips)
            top, left = divmod(shift, 2 * padding + 1)
            expected = V.crop(V.pad(expected, [padding]), top, left, 8, 8)
            expected = V.horizontal_flip(expected) if flip else expected
        expected = V.normalize(V.to_dtype(expected, torch.float32, scale=True), data.mean, data.std)
        torch.testing.assert_close(pixels[place], expected)


def shift_of(image: torch.Tensor, ramp: torch.Tensor, padding: int) -> tuple[int, int, bool]:
    """Where in the padded ramp, whose pixels are all different, a crop was taken, and whether it was mirrored."""
    padded = torch.nn.functional.pad(ramp, (padding,) * 4)
    for flip in (False, True):
        straight = image.flip(1) if flip else image
        for top in range(2 * padding + 1):
            for left in range(2 * padding + 1):
                if straight.equal(padded[top : top + 8, left : left + 8]):
                    return top, left, flip
    raise AssertionError("no crop of the padded image")


def test_shifts_and_flips_are_distributed_as_those_of_the_per_image_pipeline() -> None:
    """Counts of the 18 combinations (3 x 3 shifts, mirrored or not) in 1,800 images each, both uniform."""
    ramp = torch.arange(1, 65, dtype=torch.uint8).view(8, 8)
    count, combinations = 1800, 18
    zeros = torch.zeros(count, dtype=torch.int64)
    repeated = ramp.repeat(count, 1, 1, 1)
    data = Images("ramp", ("a",), repeated, zeros, repeated[:1], zeros[:1], (0.0,), (1.0,), "crop-flip", padding=1)
    ours = torch.cat([batch for batch, _ in epoch(data, 100)])
    theirs = torch.cat([batch for batch, _ in DataLoader(PerImage(data), 100)])
    for pixels in (ours, theirs):
        found = Counter(shift_of((image[0] * 255).round().to(torch.uint8), ramp, 1) for image in pixels)
        assert len(found) == combinations
        expected = count / combinations
        chi_square = sum((n - expected) ** 2 / expected for n in found.values())
        assert chi_square < 40.8  # 17 degrees of freedom, one in a thousand


def test_the_per_image_pipeline_sees_the_same_images_and_normalisation() -> None:
    data = images(augment="none")
    ours = {int(label): image for batch, labels in epoch(data) for image, label in zip(batch, labels, strict=True)}
    theirs = {int(label): image for image, label in PerImage(data)}
    assert set(ours) == set(theirs) == set(range(40))
    for label, image in ours.items():
        torch.testing.assert_close(image, theirs[label])


# --- order -----------------------------------------------------------------------------------------------------------


def equal(first: list, second: list) -> bool:
    return len(first) == len(second) and all(
        a.equal(c) and b.equal(d) for (a, b), (c, d) in zip(first, second, strict=True)
    )


def test_an_epoch_is_a_pure_function_of_seed_and_epoch() -> None:
    first = epoch(images(), seed=7, number=3)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    data = images()
    epoch(data, seed=7, number=2)  # what came before does not matter
    assert equal(first, epoch(data, seed=7, number=3))
    assert not equal(first, epoch(data, seed=7, number=4))
    assert not equal(first, epoch(data, seed=8, number=3))


def test_the_order_is_the_same_on_every_machine() -> None:
    """Stored once: a change would silently break the exactness of runs that are resumed after an update."""
    plan = EpochPlan.draw(10, "crop-flip", 4, seed=1, epoch=2)
    assert plan.order.tolist() == [8, 5, 6, 0, 9, 1, 4, 3, 7, 2]
    assert plan.group.tolist() == [21, 15, 52, 141, 67, 107, 124, 33, 37, 84]


@pytest.mark.parametrize("start", range(4))
def test_starting_at_a_step_gives_the_rest_of_the_same_epoch(start: int) -> None:
    data = images(size=40)
    whole = epoch(data, 16)
    assert [len(labels) for _, labels in whole] == [16, 16, 8]
    assert equal(whole[start:], epoch(data, 16, start=start))


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_each_batch_without_overlap(world: int) -> None:
    data = images(size=45)
    whole = epoch(data, 12)
    shares = [epoch(data, 12, rank=rank, world=world) for rank in range(world)]
    for step, (_, labels) in enumerate(whole):
        mine = [share[step][1].tolist() for share in shares]
        assert sorted(sum(mine, [])) == sorted(labels.tolist())
        assert max(map(len, mine)) - min(map(len, mine)) <= 1
        for rank, share in enumerate(shares):
            assert share[step][0].equal(whole[step][0][rank::world])


@pytest.mark.parametrize(
    ("size", "batch", "world", "steps"),
    [(40, 16, 1, 3), (32, 16, 1, 2), (33, 16, 1, 2), (34, 16, 1, 3), (35, 16, 2, 2), (36, 16, 2, 3), (10, 16, 1, 1),
     (1, 16, 1, 0)],
)  # fmt: skip
def test_a_batch_that_would_leave_a_process_with_one_image_is_dropped(
    size: int, batch: int, world: int, steps: int
) -> None:
    data = images(size=size)
    assert data.steps(batch, world) == steps
    for rank in range(world):
        lengths = [len(labels) for _, labels in epoch(data, batch, rank=rank, world=world)]
        assert len(lengths) == steps
        assert all(length >= 2 for length in lengths)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_test_image_is_seen_once_in_order_and_without_padding(world: int) -> None:
    data = images(test=11)
    seen = [[b for b, _ in data.test_batches(4, rank, world)] for rank in range(world)]
    assert sum(len(batch) for share in seen for batch in share) == 11
    for rank, share in enumerate(seen):
        assert torch.cat(share).equal(data.normalise(data.test_images[rank::world]))


def test_normalisation_does_not_depend_on_the_default_dtype_nor_on_who_asked_first() -> None:
    data = images()
    expected = data.normalise(data.train_images)
    _constants.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        assert data.normalise(data.train_images).equal(expected)
    finally:
        torch.set_default_dtype(torch.float32)
    assert data.normalise(data.train_images).equal(expected)


def test_normalisation_and_memory_of_the_stored_images() -> None:
    data = images()
    before = data.train_images.clone()
    out = data.normalise(data.train_images)
    mean, std = torch.tensor(data.mean).view(1, 3, 1, 1), torch.tensor(data.std).view(1, 3, 1, 1)
    torch.testing.assert_close(out, (data.train_images / 255 - mean) / std)
    epoch(data)
    assert data.train_images.equal(before)
