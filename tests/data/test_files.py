"""Image files: decoded whatever they are, listed and checked once, and the digits written as such files."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from helpers.pictures import here, noise, small, two_classes

from resteutils.data import files as image_files
from resteutils.data.files import listed, scan, shared_scan
from resteutils.data.folder import UnreadableImage
from resteutils.data.reading import decode
from resteutils.data.sources import open_images
from resteutils.recipes.build import open_data

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
    assert open_data(here(workers=3), folder).digest != digest
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


def test_a_link_to_nothing_is_named_as_one(folder: Path) -> None:
    (folder / "train" / "cat" / "9.JPEG").symlink_to(folder / "gone.JPEG")
    with pytest.raises(UnreadableImage, match=r"cat/9.JPEG .*a link to .*gone.JPEG, which is not there.; mend or"):
        open_data(here(), folder)


def test_names_are_as_they_are_below_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "a \u00e4 %s" / "data"
    two_classes(root)
    noise(root / "train" / "cat" / "deeper" / "\u732b.JPEG")
    _, train, test = scan(root)
    assert set(train.names.tolist()) == {
        str(p.relative_to(root / "train")).encode() for p in root.glob("train/**/*.JPEG")
    }
    assert all(split.path(i).is_file() for split in (train, test) for i in range(len(split)))


def test_processes_that_ask_together_make_one_list(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "SECONDS_WORTH_SHARING", -1.0)
    alone = (*scan(folder), listed(*scan(folder)[1:]))
    made, now = [], [time.time()]
    monkeypatch.setattr(image_files, "scan", lambda root: made.append(root) or scan(root))
    monkeypatch.setattr(image_files.time, "time", lambda: now[0])
    for tick in (0, 0, 5):  # two at once, one later
        now[0] += tick
        classes, train, test, digest = shared_scan(folder)
        assert (classes, digest) == (alone[0], alone[3])
        assert train.names.tolist() == alone[1].names.tolist() and test.labels.tolist() == alone[2].labels.tolist()
    assert len(made) == 2
