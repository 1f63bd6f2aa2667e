"""Image files: decoded whatever they are, listed and checked once, and the digits written as such files."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pictures import here, noise, small, two_classes
from PIL import Image

from resteutils.data import files as image_files
from resteutils.data.files import check_readable, decode, scan
from resteutils.data.folder import UnreadableImage
from resteutils.recipes.build import open_data
from resteutils.data.sources import open_images

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return two_classes(tmp_path / "data")


def test_digits_keep_their_label_and_their_picture() -> None:
    digits, data = open_images("digits"), open_data(small(test_size=0))
    for index in (0, 100, 359):
        path = data.test.path(index)
        number = int(path.stem)
        assert digits.test_labels[number] == data.test.labels[index] == int(path.parent.name)
        picture = decode(path).float().mean(0)[None, None]
        shrunk = torch.nn.functional.interpolate(picture, size=(8, 8), mode="area").squeeze()
        original = digits.test_images[number].squeeze().float()
        assert torch.corrcoef(torch.stack([shrunk.flatten(), original.flatten()]))[0, 1] > 0.95


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("grey.JPEG", "L", {}),
        ("cmyk.JPEG", "CMYK", {}),
        ("alpha.png", "RGBA", {}),
        ("is_png.JPEG", "RGB", {"format": "PNG"}),
    ],
)
def test_odd_files_of_imagenet_become_rgb(name: str, mode: str, options: dict, tmp_path: Path) -> None:
    noise(tmp_path / name, mode=mode, **options)
    image = decode(tmp_path / name)
    assert (image.shape, image.dtype) == ((3, 30, 40), torch.uint8)


def test_sixteen_bits_are_refused_not_cut_off(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 65535, 12, dtype=np.uint16).reshape(3, 4)).save(tmp_path / "deep.png")
    with pytest.raises(UnreadableImage, match=r"deep.png cannot be decoded \(mode I;16, expected 8 bits"):
        decode(tmp_path / "deep.png")


def test_folders_that_are_not_there(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no .*elsewhere/train; DATA_DIR must hold train/ and val/"):
        open_data(here(), folder / "elsewhere")
    (folder / "val").rename(folder / "test")
    with pytest.raises(FileNotFoundError, match="there is no .*val;"):
        open_data(here(), folder)


def test_classes_that_differ_or_are_empty(folder: Path) -> None:
    (folder / "train" / "fish").mkdir()
    with pytest.raises(FileNotFoundError, match=r"train: 1 class folder\(s\) without an image: fish"):
        open_data(here(), folder)
    noise(folder / "train" / "fish" / "0.JPEG")
    with pytest.raises(ValueError, match="different classes; in only one of the two: fish"):
        open_data(here(), folder)
    for path in (folder / "val").rglob("*.JPEG"):
        path.unlink()
    for path in (folder / "val").iterdir():
        path.rmdir()
    with pytest.raises(FileNotFoundError, match="val holds no class folders"):
        open_data(here(), folder)


def test_unreadable_images_are_counted_and_named(folder: Path) -> None:
    cut, text = folder / "train" / "cat" / "1.JPEG", folder / "val" / "dog" / "0.JPEG"
    cut.write_bytes(cut.read_bytes()[:300])
    text.write_text("no image")
    with pytest.raises(
        UnreadableImage, match="2 of 10 images cannot be read: .*cat/1.JPEG .*; replace or remove"
    ) as said:
        open_data(here(), folder)
    assert str(text) in str(said.value)


def test_files_are_checked_once_and_again_when_they_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
    read: list[Path] = []

    def counting(path: Path) -> torch.Tensor:
        read.append(path)
        return decode(path)

    monkeypatch.setattr(image_files, "decode", counting)
    digest = open_data(here(), folder).digest
    assert len(read) == len(set(read)) == 10
    assert open_data(here(), folder).digest == digest
    assert len(read) == 10
    noise(folder / "train" / "cat" / "1.JPEG", size=(50, 50))
    _, train, test = scan(folder)
    assert check_readable(train, test, threads=3) != digest
    assert sorted(read[10:]) == sorted(set(read))


def test_a_long_check_of_the_files_ends_when_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
    read: list[Path] = []

    def slow(path: Path) -> torch.Tensor:
        read.append(path)
        time.sleep(0.6)
        return decode(path)

    def enough() -> None:
        raise InterruptedError("asked")

    monkeypatch.setattr(image_files, "decode", slow)
    with pytest.raises(InterruptedError, match="asked"):
        open_data(here(), folder, patience=enough)
    assert len(read) < 5  # of 10
    monkeypatch.setattr(image_files, "decode", decode)
    assert open_data(here(), folder).train_size == 6  # what was not checked to the end is checked again
