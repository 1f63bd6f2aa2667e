"""Folders of images become batches: pure functions of (seed, epoch, step), cropped as they should be, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pictures import here, noise, small, two_classes
from PIL import Image

from resteutils.data import folder as image_folder
from resteutils.data import reading
from resteutils.data.digits import digits_folder
from resteutils.data.files import scan
from resteutils.data.folder import UnreadableImage
from resteutils.data.shrunk import _check_room
from resteutils.recipes import recipe
from resteutils.recipes.build import open_data

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return two_classes(tmp_path / "data")


def test_the_digits_as_a_folder() -> None:
    data = open_data(small(train_size=0, test_size=0))
    assert (data.train_size, data.test_size, data.num_classes) == (1437, 360, 10)
    images, labels = next(data.train_batches(64, seed=0, epoch=0))
    assert (images.shape, images.dtype, labels.dtype) == ((64, 3, 32, 32), torch.float32, torch.int64)
    assert set(labels.tolist()) == set(range(10))
    assert not list(digits_folder().parent.glob(".digits*"))


def test_an_epoch_has_every_image_once_in_an_order_of_its_own() -> None:
    data = open_data(small())
    first, again, later = ([labels for _, labels in data.train_batches(6, 0, epoch)] for epoch in (0, 0, 1))
    assert [len(labels) for labels in first] == [6, 6, 6, 5]
    assert data.steps(6) == 4
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    assert not all(a.equal(b) for a, b in zip(first, later, strict=True))
    assert sorted(torch.cat(first).tolist()) == sorted(data.train.labels.tolist())


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_pure_functions_of_seed_epoch_and_step(workers: int) -> None:
    expected = list(open_data(small()).train_batches(6, seed=1, epoch=3))
    data = open_data(small(workers=workers))
    torch.manual_seed(workers)
    before = torch.get_rng_state()
    for start in (0, 2, 4):
        found = list(data.train_batches(6, 1, 3, start))
        assert len(found) == 4 - start
        for (images, labels), (same, same_labels) in zip(found, expected[start:], strict=True):
            assert images.equal(same)
            assert labels.equal(same_labels)
    assert torch.get_rng_state().equal(before)  # nobody else's random numbers were used


@pytest.mark.parametrize("decoder", ["pillow", "torchvision"])
def test_images_are_decoded_as_the_recipe_says(decoder: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, asked = open_data(here(decoder=decoder), folder), set()
    plain = reading.decode
    monkeypatch.setattr("resteutils.data.files.decode", lambda path, by: asked.add(by) or plain(path, by))
    next(data.train_batches(4, 0, 0))
    next(data.test_batches(4))
    assert asked == {decoder}


def test_augmentation_differs_by_epoch_seed_and_image(folder: Path) -> None:
    for name in ("1", "2"):  # three times the same picture
        (folder / "train" / "cat" / f"{name}.JPEG").write_bytes((folder / "train" / "cat" / "0.JPEG").read_bytes())
    data = open_data(here(), folder)

    def cats(seed: int, epoch: int) -> list[torch.Tensor]:
        images, labels = next(data.train_batches(6, seed, epoch))
        return list(images[labels == 0])

    drawn = [*cats(0, 0), *cats(0, 1), *cats(1, 0)]
    assert all(not a.equal(b) for i, a in enumerate(drawn) for b in drawn[:i])


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_each_batch(world: int) -> None:
    data = open_data(small())
    whole = list(data.train_batches(6, 0, 0))
    shards = [list(data.train_batches(6, 0, 0, 0, rank, world)) for rank in range(world)]
    assert {len(shard) for shard in shards} == {data.steps(6, world)}
    for step in range(data.steps(6, world)):
        for rank in range(world):
            assert shards[rank][step][0].equal(whole[step][0][rank::world])
    tested = [labels for rank in range(world) for _, labels in data.test_batches(2, rank, world)]
    assert sorted(torch.cat(tested).tolist()) == sorted(data.test.labels.tolist())


def test_evaluation_is_resize_and_central_crop(folder: Path) -> None:
    """Against Pillow: the shorter side to 37 = 32 * 256/224, then the middle 32."""
    data = open_data(here(), folder)
    (images, labels) = next(data.test_batches(10))
    assert labels.tolist() == [0, 0, 1, 1]
    with Image.open(folder / "val" / "cat" / "0.JPEG") as picture:  # 40 x 30
        resized = picture.resize((int(37 * 40 / 30), 37), Image.Resampling.BILINEAR)
    left, top = round((resized.width - 32) / 2), round((37 - 32) / 2)
    pixels = np.asarray(resized.crop((left, top, left + 32, top + 32)), dtype=np.float32) / 255
    expected = (pixels - np.float32(data.mean)) / np.float32(data.std)
    assert np.abs(images[0].numpy().transpose(1, 2, 0) - expected).max() < 2.1 / 255 / min(data.std)


@pytest.mark.parametrize(("augment", "kinds"), [("crop-flip", 2), ("crop", 1), ("none", 0)])
def test_augmentations(augment: str, kinds: int, folder: Path) -> None:
    transform = open_data(here(augment=augment), folder).train_transform
    names = [type(part).__name__ for part in getattr(transform, "transforms", [transform])]
    assert (
        names == [["Resize", "CenterCrop"], ["RandomResizedCrop"], ["RandomResizedCrop", "RandomHorizontalFlip"]][kinds]
    )
    if kinds:
        crop = getattr(transform, "transforms", [transform])[0]
        assert tuple(crop.scale) == (0.08, 1.0)
        assert tuple(crop.size) == (32, 32)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_later_is_named(workers: int, folder: Path) -> None:
    data = open_data(here(workers=workers), folder)
    (folder / "train" / "dog" / "2.JPEG").write_bytes(b"broken")
    with pytest.raises(UnreadableImage, match=r"dog/2.JPEG cannot be decoded .*; replace or remove the file") as said:
        list(data.train_batches(2, 0, 0))
    assert "\n" not in str(said.value)


def test_a_holdout_is_taken_from_training(folder: Path) -> None:
    data = open_data(here(holdout=2), folder)
    assert (data.train_size, data.test_size) == (4, 2)
    assert data.test.root.name == "train"
    assert not set(data.train.names.tolist()) & set(data.test.names.tolist())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_classes": 10}, "has 2 classes, the recipe 10; num_classes=0 takes what is there"),
        ({"train_size": 7}, "train_size = 7, expected 0 .all. or a number from 1 to 6"),
        ({"test_size": 5}, "test_size = 5"),
        ({"holdout": 5}, "holdout = 5"),
        ({"in_channels": 1}, "in_channels = 1, a folder of images needs 3"),
        ({"normalization": "dataset"}, "normalization = 'dataset', a folder of images needs 'imagenet'"),
    ],
)
def test_what_the_recipe_and_the_folder_disagree_about(fields: dict, message: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=message):
        open_data(here(**fields), folder)


def test_the_paper_profile_wants_the_whole_of_imagenet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = recipe("table2/resnet18-1w1a", profile="paper")
    with pytest.raises(ValueError, match="has 2 classes, the recipe 1000"):
        open_data(full, folder)
    classes, train, test = scan(folder)
    thousand = tuple(f"n{index:08d}" for index in range(1000))
    monkeypatch.setattr(image_folder, "shared_scan", lambda root: (thousand, train, test, ""))
    with pytest.raises(ValueError, match="not the whole of ImageNet: 6 of 1,281,167 images in train/ and 4 of 50,000"):
        open_data(full, folder)


def test_shrunk_images_are_decoded_once_and_are_what_evaluation_sees(tmp_path: Path, monkeypatch) -> None:
    for part in ("train", "val"):
        for number, (name, size) in enumerate({"cat": (90, 60), "dog": (50, 80)}.items()):
            noise(tmp_path / "data" / part / name / "0.png", size=size, seed=number)
    plain = open_data(here(augment="none", train_size=0, test_size=0, batch_size=2), tmp_path / "data")
    recipe = here(augment="none", train_size=0, test_size=0, batch_size=2, decoder="shrunk")
    data = open_data(recipe, tmp_path / "data")
    assert [min(size) for size in data.test.sizes.tolist()] == [37, 37]  # 32 * 256 / 224
    monkeypatch.setattr("resteutils.data.shrunk.decode", lambda path: 1 / 0)
    monkeypatch.setattr("resteutils.data.files.decode", lambda path, by: 1 / 0)
    again = open_data(recipe, tmp_path / "data")
    found, labels = next(again.test_batches(2))
    monkeypatch.undo()
    expected, same = next(plain.test_batches(2))
    assert labels.equal(same)
    assert found.equal(expected)


def test_a_cache_without_room_for_shrunk_images_is_named_before_the_first(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"GB in .*shrunk.*XDG_CACHE_HOME.*decoder=torchvision"):
        _check_room(tmp_path / "shrunk" / "key", 10**12, 256)
