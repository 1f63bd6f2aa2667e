"""Datasets in memory: augmented as the per-image pipeline does, pure functions of (seed, epoch), whole or refused."""

from __future__ import annotations

import hashlib
import pickle
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from resteutils.data import EpochPlan, Images, classic_loader, open_images


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
    theirs = torch.cat([batch for batch, _ in classic_loader(data, 100, workers=0)])
    for pixels in (ours, theirs):
        found = Counter(shift_of((image[0] * 255).round().to(torch.uint8), ramp, 1) for image in pixels)
        assert len(found) == combinations
        expected = count / combinations
        chi_square = sum((n - expected) ** 2 / expected for n in found.values())
        assert chi_square < 40.8  # 17 degrees of freedom, one in a thousand


def test_the_per_image_pipeline_sees_the_same_images_and_normalisation() -> None:
    data = images(augment="none")
    ours = {int(label): image for batch, labels in epoch(data) for image, label in zip(batch, labels, strict=True)}
    theirs = {int(n): i for batch, labels in classic_loader(data, 16, 0) for i, n in zip(batch, labels, strict=True)}
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


def test_normalisation_and_memory_of_the_stored_images() -> None:
    data = images()
    before = data.train_images.clone()
    out = data.normalise(data.train_images)
    mean, std = torch.tensor(data.mean).view(1, 3, 1, 1), torch.tensor(data.std).view(1, 3, 1, 1)
    torch.testing.assert_close(out, (data.train_images / 255 - mean) / std)
    epoch(data)
    assert data.train_images.equal(before)


# --- digits ----------------------------------------------------------------------------------------------------------


def test_digits_whole() -> None:
    data = open_images("digits")
    assert (data.train_size, data.test_size, data.num_classes) == (1437, 360, 10)
    assert data.train_images.shape == (1437, 1, 8, 8)
    assert data.train_images.dtype == torch.uint8
    assert data.train_images.max() == 255
    assert Counter(data.test_labels.tolist()) == pytest.approx(dict.fromkeys(range(10), 36), abs=1)
    pixels = data.normalise(data.train_images)
    assert pixels.mean().item() == pytest.approx(0, abs=1e-4)
    assert pixels.std().item() == pytest.approx(1, abs=1e-3)
    assert open_images("digits").train_images.equal(data.train_images)


def test_subsets_are_chosen_once_and_for_all() -> None:
    small = open_images("digits", train_size=96, test_size=60)
    assert (small.train_size, small.test_size) == (96, 60)
    assert small.train_images.equal(open_images("digits", train_size=96).train_images)
    whole = open_images("digits")
    assert small.mean == whole.mean  # of the whole set, however few are used
    assert len(set(small.train_labels.tolist())) == 10
    known = {image.numpy().tobytes() for image in whole.train_images}
    assert all(image.numpy().tobytes() in known for image in small.train_images)


def test_held_out_images_leave_training() -> None:
    whole, held = open_images("digits"), open_images("digits", holdout=300)
    assert (held.train_size, held.test_size) == (1137, 300)

    def keys(pixels):
        return Counter(image.numpy().tobytes() for image in pixels)

    assert keys(held.train_images) + keys(held.test_images) == keys(whole.train_images)
    assert held.test_images.equal(open_images("digits", holdout=300, train_size=50).test_images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mnist"}, r"dataset = 'mnist', expected one of digits, cifar10"),
        ({"name": "digits", "augment": "mixup"}, r"augment = 'mixup', expected one of crop-flip, crop, none"),
        ({"name": "digits", "normalization": "none"}, r"normalization = 'none', expected one of"),
        ({"name": "digits", "normalization": "imagenet"}, r"'imagenet' needs 3 channels, digits has 1; use 'dataset'"),
        ({"name": "digits", "train_size": 5000}, r"train_size = 5000, expected 0 \(all\) or a number from 1 to 1437"),
        ({"name": "digits", "test_size": -1}, r"test_size = -1"),
        ({"name": "digits", "holdout": 1437}, r"holdout = 1437"),
        ({"name": "digits", "holdout": 1000, "train_size": 500}, r"train_size = 500, .*from 1 to 437"),
    ],
    ids=str,
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_images(**options)


# --- CIFAR-10 --------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.error
    import urllib.request

    def refuse(*arguments, **options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def small_cifar(folder: Path, monkeypatch: pytest.MonkeyPatch, per_file: int = 4) -> Path:
    """Files of CIFAR-10's format with a few images each, that torchvision takes for the real ones."""
    from torchvision.datasets import CIFAR10

    base = folder / CIFAR10.base_folder
    base.mkdir(parents=True)
    random = np.random.Generator(np.random.PCG64(0))

    def write(name: str, content: dict) -> list[str]:
        (base / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((base / name).read_bytes()).hexdigest()]

    def batch(name: str) -> list[str]:
        data = random.integers(0, 256, (per_file, 3072), dtype=np.uint8)
        return write(name, {"data": data, "labels": list(range(per_file))})

    monkeypatch.setattr(CIFAR10, "train_list", [batch(f"data_batch_{i}") for i in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch")])
    name, md5 = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": md5})
    return base


def test_missing_without_a_network_says_what_to_do(tmp_path: Path, no_network) -> None:
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded .*set DATA_DIR .*PROFILE=demo"):
        open_images("cifar10", tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "flipped"])
def test_damaged_files_are_refused(damage: str, tmp_path: Path, no_network, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = small_cifar(tmp_path, monkeypatch) / "data_batch_3"
    content = victim.read_bytes()
    if damage == "missing":
        victim.unlink()
    else:
        flipped = bytes([content[50] ^ 1])
        new = {"truncated": content[:-100], "empty": b"", "flipped": content[:50] + flipped + content[51:]}
        victim.write_bytes(new[damage])
    with pytest.raises(RuntimeError, match=r"incomplete or damaged .*delete that folder .*or set DATA_DIR"):
        open_images("cifar10", tmp_path)


def test_what_another_process_is_unpacking_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resteutils.locks import locked

    half = small_cifar(tmp_path, monkeypatch) / "data_batch_3"
    whole, begun = half.read_bytes(), threading.Event()
    half.write_bytes(whole[:10])

    def unpack() -> None:
        with locked(tmp_path / ".cifar-10.lock"):
            begun.set()
            time.sleep(0.3)
            half.write_bytes(whole)

    other = threading.Thread(target=unpack)
    other.start()
    begun.wait(10)
    with pytest.raises(RuntimeError, match=r"has 20 \+ 4 images"):  # that is, it was read
        open_images("cifar10", tmp_path)
    other.join()


def test_a_part_of_the_dataset_is_never_taken_for_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_cifar(tmp_path, monkeypatch)
    with pytest.raises(RuntimeError, match=r"has 20 \+ 4 images, not 50000 \+ 10000"):
        open_images("cifar10", tmp_path)


@pytest.mark.cifar
def test_the_real_cifar10(cifar_dir: Path) -> None:
    data = open_images("cifar10", cifar_dir, normalization="dataset")
    assert (data.train_size, data.test_size, data.num_classes) == (50_000, 10_000, 10)
    assert data.train_images.shape[1:] == (3, 32, 32)
    assert Counter(data.test_labels.tolist()) == dict.fromkeys(range(10), 1000)
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-4)
    assert data.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=1e-4)
    assert data.classes[int(data.train_labels[0])] == "frog"  # the first training image
    images, labels = next(data.train_batches(256, seed=0, epoch=0))
    assert images.shape == (256, 3, 32, 32)
    assert labels.dtype == torch.int64


def test_the_papers_normalisation_of_cifar10_is_that_of_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    part = torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.arange(4)
    monkeypatch.setattr("resteutils.data._cifar10", lambda folder: (tuple("abcd"), part, part))
    data = open_images("cifar10", normalization="imagenet")
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    black = data.normalise(data.train_images)[0, :, 0, 0].tolist()
    assert black == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
