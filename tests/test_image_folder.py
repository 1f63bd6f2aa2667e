"""Folders of images: the digits' stand-in, exact resume, what is refused, and Table 2 from files to notebook."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resteutils import image_files, image_folder
from resteutils.image_files import check_readable, decode, digits_folder, scan
from resteutils.image_folder import UnreadableImage, open_folder
from resteutils.recipes import Recipe, item_recipes, recipe


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all tests of this file: the digits are written once."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))


def small(**overrides) -> Recipe:
    fields = {"image_size": 32, "workers": 0, "train_size": 23, "test_size": 9, "batch_size": 6}
    return recipe("table2/resnet18-1w1a", profile="smoke", **(fields | overrides))


def noise(path: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB", seed: int = 0, **options) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], len(Image.new(mode, (1, 1)).getbands())))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8).squeeze(), mode).save(path, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, three training and two test images each."""
    for part, count in (("train", 3), ("val", 2)):
        for index, name in enumerate(("cat", "dog")):
            for number in range(count):
                noise(tmp_path / "data" / part / name / f"{number}.JPEG", seed=10 * index + number)
    return tmp_path / "data"


def here(**overrides) -> Recipe:
    fields = {"dataset": "imagenet", "num_classes": 0, "train_size": 0, "test_size": 0, "batch_size": 4}
    return small(**(fields | overrides))


# --- batches ---------------------------------------------------------------------------------------------------------


def test_the_digits_as_a_folder() -> None:
    data = open_folder(small(train_size=0, test_size=0))
    assert (data.train_size, data.test_size, data.num_classes) == (1437, 360, 10)
    images, labels = next(data.train_batches(64, seed=0, epoch=0))
    assert (images.shape, images.dtype, labels.dtype) == ((64, 3, 32, 32), torch.float32, torch.int64)
    assert set(labels.tolist()) == set(range(10))
    assert not list(digits_folder().parent.glob(".digits*"))


def test_digits_keep_their_label_and_their_picture() -> None:
    from resteutils.data import open_images

    digits, data = open_images("digits"), open_folder(small(test_size=0))
    for index in (0, 100, 359):
        path = data.test.path(index)
        number = int(path.stem)
        assert digits.test_labels[number] == data.test.labels[index] == int(path.parent.name)
        picture = decode(path).float().mean(0)[None, None]
        shrunk = torch.nn.functional.interpolate(picture, size=(8, 8), mode="area").squeeze()
        original = digits.test_images[number].squeeze().float()
        assert torch.corrcoef(torch.stack([shrunk.flatten(), original.flatten()]))[0, 1] > 0.95


def test_an_epoch_has_every_image_once_in_an_order_of_its_own() -> None:
    data = open_folder(small())
    first, again, later = ([labels for _, labels in data.train_batches(6, 0, epoch)] for epoch in (0, 0, 1))
    assert [len(labels) for labels in first] == [6, 6, 6, 5]
    assert data.steps(6) == 4
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    assert not all(a.equal(b) for a, b in zip(first, later, strict=True))
    assert sorted(torch.cat(first).tolist()) == sorted(data.train.labels.tolist())


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_pure_functions_of_seed_epoch_and_step(workers: int) -> None:
    expected = list(open_folder(small()).train_batches(6, seed=1, epoch=3))
    data = open_folder(small(workers=workers))
    torch.manual_seed(workers)
    before = torch.get_rng_state()
    for start in (0, 2, 4):
        found = list(data.train_batches(6, 1, 3, start))
        assert len(found) == 4 - start
        for (images, labels), (same, same_labels) in zip(found, expected[start:], strict=True):
            assert images.equal(same)
            assert labels.equal(same_labels)
    assert torch.get_rng_state().equal(before)  # nobody else's random numbers were used


def test_augmentation_differs_by_epoch_seed_and_image(folder: Path) -> None:
    for name in ("1", "2"):  # three times the same picture
        (folder / "train" / "cat" / f"{name}.JPEG").write_bytes((folder / "train" / "cat" / "0.JPEG").read_bytes())
    data = open_folder(here(), folder)

    def cats(seed: int, epoch: int) -> list[torch.Tensor]:
        images, labels = next(data.train_batches(6, seed, epoch))
        return list(images[labels == 0])

    drawn = [*cats(0, 0), *cats(0, 1), *cats(1, 0)]
    assert all(not a.equal(b) for i, a in enumerate(drawn) for b in drawn[:i])


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_each_batch(world: int) -> None:
    data = open_folder(small())
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
    data = open_folder(here(), folder)
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
    transform = open_folder(here(augment=augment), folder).train_transform
    names = [type(part).__name__ for part in getattr(transform, "transforms", [transform])]
    assert (
        names == [["Resize", "CenterCrop"], ["RandomResizedCrop"], ["RandomResizedCrop", "RandomHorizontalFlip"]][kinds]
    )
    if kinds:
        crop = getattr(transform, "transforms", [transform])[0]
        assert tuple(crop.scale) == (0.08, 1.0)
        assert tuple(crop.size) == (32, 32)


def test_a_holdout_is_taken_from_training(folder: Path) -> None:
    data = open_folder(here(holdout=2), folder)
    assert (data.train_size, data.test_size) == (4, 2)
    assert data.test.root.name == "train"
    assert not set(data.train.names.tolist()) & set(data.test.names.tolist())


# --- files -----------------------------------------------------------------------------------------------------------


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
        open_folder(here(), folder / "elsewhere")
    (folder / "val").rename(folder / "test")
    with pytest.raises(FileNotFoundError, match="there is no .*val;"):
        open_folder(here(), folder)


def test_classes_that_differ_or_are_empty(folder: Path) -> None:
    (folder / "train" / "fish").mkdir()
    with pytest.raises(FileNotFoundError, match=r"train: 1 class folder\(s\) without an image: fish"):
        open_folder(here(), folder)
    noise(folder / "train" / "fish" / "0.JPEG")
    with pytest.raises(ValueError, match="different classes; in only one of the two: fish"):
        open_folder(here(), folder)
    for path in (folder / "val").rglob("*.JPEG"):
        path.unlink()
    for path in (folder / "val").iterdir():
        path.rmdir()
    with pytest.raises(FileNotFoundError, match="val holds no class folders"):
        open_folder(here(), folder)


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
        open_folder(here(**fields), folder)


def test_the_paper_profile_wants_the_whole_of_imagenet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = recipe("table2/resnet18-1w1a", profile="paper")
    with pytest.raises(ValueError, match="has 2 classes, the recipe 1000"):
        open_folder(full, folder)
    classes, train, test = scan(folder)
    thousand = tuple(f"n{index:08d}" for index in range(1000))
    monkeypatch.setattr(image_folder, "scan", lambda root: (thousand, train, test))
    with pytest.raises(ValueError, match="not the whole of ImageNet: 6 of 1,281,167 images in train/ and 4 of 50,000"):
        open_folder(full, folder)


def test_unreadable_images_are_counted_and_named(folder: Path) -> None:
    cut, text = folder / "train" / "cat" / "1.JPEG", folder / "val" / "dog" / "0.JPEG"
    cut.write_bytes(cut.read_bytes()[:300])
    text.write_text("no image")
    with pytest.raises(
        UnreadableImage, match="2 of 10 images cannot be read: .*cat/1.JPEG .*; replace or remove"
    ) as said:
        open_folder(here(), folder)
    assert str(text) in str(said.value)


def test_files_are_checked_once_and_again_when_they_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
    read: list[Path] = []

    def counting(path: Path) -> torch.Tensor:
        read.append(path)
        return decode(path)

    monkeypatch.setattr(image_files, "decode", counting)
    digest = open_folder(here(), folder).digest
    assert len(read) == len(set(read)) == 10
    assert open_folder(here(), folder).digest == digest
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
        open_folder(here(), folder, patience=enough)
    assert len(read) < 5  # of 10
    monkeypatch.setattr(image_files, "decode", decode)
    assert open_folder(here(), folder).train_size == 6  # what was not checked to the end is checked again


def test_a_finished_run_on_another_folder_of_images_is_not_taken_for_this_one(folder: Path, results_dir: Path) -> None:
    from resteutils import records
    from resteutils.runs import load_or_train
    from resteutils.stopping import NonFinite

    r = recipe("table2/resnet18-1w1a", "short", epochs=1)
    row = dict.fromkeys(("train_loss", "test_loss", "test_top1", "test_top5", "seconds", "images_per_second"), 1.0)
    _, train, test = scan(folder)
    for files in (image_files.listed(train, test), "of another folder"):
        record = records.finished(r, [{"epoch": 1, **row}], {"files": files, "num_classes": 2})
        records.write(record, r, results_dir / "run", results_dir)
        if files == "of another folder":
            with pytest.raises(ValueError, match="is finished, on other images than those in .*RUNS_DIR.*--force"):
                load_or_train(r, data_dir=str(folder), show=False)
        else:
            assert load_or_train(r, data_dir=str(folder), show=False).result["top1"] == 1.0
        assert load_or_train(r, data_dir=str(folder / "nowhere"), show=False).result["top1"] == 1.0
    lost = records.diverged(r, "loss is nan", results_dir / "run", {})  # from before such a record named its images
    records.write(lost, r, results_dir / "run", results_dir)
    with pytest.raises(NonFinite, match="so its record says"):
        load_or_train(r, data_dir=str(folder), show=False)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_later_is_named(workers: int, folder: Path) -> None:
    data = open_folder(here(workers=workers), folder)
    (folder / "train" / "dog" / "2.JPEG").write_bytes(b"broken")
    with pytest.raises(UnreadableImage, match=r"dog/2.JPEG cannot be decoded .*; replace or remove the file") as said:
        list(data.train_batches(2, 0, 0))
    assert "\n" not in str(said.value)


# --- the whole path --------------------------------------------------------------------------------------------------

SETTINGS = ["batch_size=8", "train_size=64", "test_size=10", "dataset=digits-folder", "image_size=32"]
SETTINGS += ["in_channels=3", "normalization=imagenet", "augment=crop-flip", "workers=2", "compile=off"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="process groups are POSIX")
def test_a_signal_to_the_whole_group_saves_although_it_hits_the_workers(tmp_path: Path) -> None:
    """torchrun and Slurm signal a training process together with its workers."""
    command = [sys.executable, "-m", "resteutils", "train", "table3/reste", "--profile", "smoke", "--epochs", "50"]
    command += ["--runs-dir", str(tmp_path), "--results-dir", str(tmp_path / "results")]
    process = subprocess.Popen(
        command + [part for setting in SETTINGS for part in ("--set", setting)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not list(tmp_path.glob("*/history.csv")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "everything is saved" in errors
    assert list(tmp_path.glob("*/checkpoint.pt"))


@pytest.mark.parametrize(
    ("row", "model", "bits", "epochs", "batch"),
    [
        ("resnet18-1w1a", "resnet18_imagenet", "1/1", 250, 750),
        ("resnet18-1w32a", "resnet18_imagenet", "1/32", 250, 750),
        ("resnet34-1w1a", "resnet34_imagenet", "1/1", 250, 750),
        ("resnet34-1w32a", "resnet34_imagenet", "1/32", 250, 750),
        ("resnet18-1w1a-150ep-b512", "resnet18_imagenet", "1/1", 150, 512),
        ("resnet18-1w1a-200ep-b512", "resnet18_imagenet", "1/1", 200, 512),
        ("resnet18-1w1a-200ep-b750", "resnet18_imagenet", "1/1", 200, 750),
    ],
)
def test_the_authors_imagenet_recipes(row: str, model: str, bits: str, epochs: int, batch: int) -> None:
    found = recipe(f"table2/{row}", profile="paper")
    assert (found.model, found.bits, found.epochs, found.batch_size) == (model, bits, epochs, batch)
    assert (found.lr, found.momentum, found.weight_decay, found.warmup_epochs) == (0.1, 0.9, 1e-4, 0)
    assert (found.image_size, found.num_classes, found.schedule, found.dataset) == (224, 1000, "epoch", "imagenet")
    assert (found.estimator.o, found.estimator.path) == (3.0, "cosine")
    assert (found.train_size, found.test_size, found.holdout) == (0, 0, 0)


def test_rows_that_differ_only_on_paper_share_their_run_elsewhere() -> None:
    assert len({r.run_id for r in item_recipes("table2", "demo")}) == 6
    assert len({r.run_id for r in item_recipes("table2", "paper", seeds="0")}) == 9


@pytest.fixture
def cifar_folder(cifar_dir: Path, tmp_path: Path) -> Path:
    """Four training and two test images of each class of CIFAR-10, as JPEGs of 96 x 96."""
    from resteutils.data import open_images

    data = open_images("cifar10", cifar_dir)
    for part, images, labels, count in (
        ("train", data.train_images, data.train_labels, 4),
        ("val", data.test_images, data.test_labels, 2),
    ):
        for label, name in enumerate(data.classes):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for number, index in enumerate((labels == label).nonzero()[:count, 0].tolist()):
                picture = Image.fromarray(images[index].permute(1, 2, 0).numpy()).resize((96, 96))
                picture.save(tmp_path / "data" / part / name / f"{number}.JPEG")
    return tmp_path / "data"


@pytest.mark.slow
@pytest.mark.cifar
def test_table_2_in_the_short_profile_on_a_folder_of_cifar(
    cifar_folder: Path, tmp_path: Path, results_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resteutils.reproduce import reproduce

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    reproduce("table2", profile="short", rows="resnet18-1w1a,resnet18-fp", epochs=1, data_dir=str(cifar_folder))
    folder = results_dir / "short" / "table2"
    written = {path.name for path in folder.iterdir()}
    assert {"table.md", "table.csv", "table.html", "picture.png", "notebook.ipynb", "provenance.json"} <= written
    records = sorted((results_dir / "short" / "runs").glob("*.json"))
    assert len(records) == 2
    assert all('"num_classes": 10' in path.read_text() for path in records)
    assert "resnet18-fp" in (folder / "table.csv").read_text()
