"""Digits and CIFAR-10: whole or refused, and the part of them that is used always the same."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import shutil
import tarfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from resteutils.data.base import Labelled
from resteutils.data.sources import _halved, open_images

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
        ({"name": "digits", "holdout": 1437}, r"holdout = 1437, expected 0 \(none\) or a number from 1 to 1435"),
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


def small_cifar(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of CIFAR-10's format with a few images each, that torchvision takes for the real ones."""
    from torchvision.datasets import CIFAR10

    base = folder / CIFAR10.base_folder
    base.mkdir(parents=True)
    random = np.random.Generator(np.random.PCG64(0))

    def write(name: str, content: dict) -> list[str]:
        (base / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((base / name).read_bytes()).hexdigest()]

    def batch(name: str) -> list[str]:
        data = random.integers(0, 256, (4, 3072), dtype=np.uint8)
        return write(name, {"data": data, "labels": [0, 1, 2, 3]})

    monkeypatch.setattr(CIFAR10, "train_list", [batch(f"data_batch_{i}") for i in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch")])
    name, md5 = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": md5})
    return base


def test_missing_without_a_network_says_what_to_do(tmp_path: Path, no_network, own_cache) -> None:
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded .*set DATA_DIR .*PROFILE=demo"):
        open_images("cifar10", tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "flipped"])
def test_damaged_files_are_refused(
    damage: str, tmp_path: Path, no_network, own_cache, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_what_another_process_is_downloading_is_waited_for(
    tmp_path: Path, no_network, own_cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resteutils.data.download import downloading

    base = small_cifar(tmp_path / "data", monkeypatch)
    aside, begun = base.rename(tmp_path / "aside"), threading.Event()

    def download() -> None:
        with downloading(base):
            begun.set()
            time.sleep(0.3)
            aside.rename(base)

    other = threading.Thread(target=download)
    other.start()
    begun.wait(10)
    with pytest.raises(RuntimeError, match=r"has 20 \+ 4 images"):  # that is, it was read
        open_images("cifar10", tmp_path / "data")
    other.join()


def archived(base: Path, members: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What stands for the published archive, in the place of its folder."""
    from torchvision.datasets import CIFAR10

    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, path in members.items():
            tar.add(path, name, recursive=False)
    shutil.rmtree(base)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(made.getvalue()).hexdigest())
    return made.getvalue()


def serve(content: bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answer every request with these bytes; the list of their addresses."""
    import urllib.request

    asked = []

    def answer(request, *arguments, **options):
        asked.append(request.full_url)
        response = urllib.request.addinfourl(io.BytesIO(content), {"Content-Length": str(len(content))}, asked[-1], 200)
        response.length = len(content)
        return response

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    return asked


def small_archive(folder: Path, monkeypatch: pytest.MonkeyPatch, **others: Path) -> bytes:
    base = small_cifar(folder, monkeypatch)
    members = {base.name: base, **{f"{base.name}/{path.name}": path for path in base.iterdir()}, **others}
    return archived(base, members, monkeypatch)


def test_what_is_downloaded_is_checked_unpacked_and_put_in_its_place(
    tmp_path: Path, own_cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10

    from resteutils.system.settings import cache_dir

    data = tmp_path / "data"
    asked = serve(small_archive(data, monkeypatch), monkeypatch)
    with pytest.raises(RuntimeError, match=r"has 20 \+ 4 images"):
        open_images("cifar10", data)
    assert set(asked) == {CIFAR10.url} and [path.name for path in data.iterdir()] == [CIFAR10.base_folder]
    assert len(list((data / CIFAR10.base_folder).iterdir())) == 7
    assert {path.suffix for path in (cache_dir() / "downloads").iterdir()} == {".lock"}


def test_an_archive_that_lies_there_already_is_unpacked(
    tmp_path: Path, no_network, own_cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = small_archive(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(content)
    with pytest.raises(RuntimeError, match=r"has 20 \+ 4 images"):
        open_images("cifar10", tmp_path)


@pytest.mark.faults("a download is damaged")
@pytest.mark.parametrize("damage", ["truncated", "flipped", "html"])
def test_a_damaged_download_is_not_unpacked(
    damage: str, tmp_path: Path, own_cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    content = small_archive(data, monkeypatch)
    data.rmdir()
    flipped = content[:90] + bytes([content[90] ^ 1]) + content[91:]
    serve({"truncated": content[:-9], "flipped": flipped, "html": b"<html>log in</html>"}[damage], monkeypatch)
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded .*set DATA_DIR"):
        open_images("cifar10", data)
    assert not data.exists()


@pytest.mark.faults("paths of an archive climb")
@pytest.mark.parametrize("name", ["../evil", "cifar-10-batches-py/../../evil", "/etc/evil", "elsewhere/evil"])
def test_an_archive_whose_paths_climb_is_refused_by_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resteutils.data.download import unpack

    data, evil = tmp_path / "data", tmp_path / "payload"
    evil.write_text("evil")
    (tmp_path / "a.tar.gz").write_bytes(small_archive(data, monkeypatch, **{name: evil}))
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        stored = tar.getnames()[-1]
    with pytest.raises(RuntimeError, match=re.escape(f"{tmp_path / 'a.tar.gz'} is refused: {stored!r}")):
        unpack(tmp_path / "a.tar.gz", data / "cifar-10-batches-py")
    assert not list(data.iterdir()) and {path.name for path in tmp_path.iterdir()} == {"data", "payload", "a.tar.gz"}


@pytest.mark.faults("paths of an archive climb")
def test_a_link_in_an_archive_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resteutils.data.download import unpack

    (tmp_path / "link").symlink_to("/etc/passwd")
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(small_archive(tmp_path, monkeypatch, **{"cifar-10-batches-py/link": tmp_path / "link"}))
    with pytest.raises(RuntimeError, match="'cifar-10-batches-py/link' is no file"):
        unpack(archive, tmp_path / "cifar-10-batches-py")


def test_a_wrong_data_dir_keeps_nothing(tmp_path: Path, no_network, own_cache) -> None:
    for folder in (tmp_path / "wrong", tmp_path / "is" / "missing"):
        if folder.name == "wrong":
            folder.mkdir()
        with pytest.raises(FileNotFoundError, match="could not be downloaded"):
            open_images("cifar10", folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["wrong"]


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
    part = Labelled(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.arange(4))
    monkeypatch.setattr("resteutils.data.sources.Cifar10.read", lambda self, folder: (tuple("abcd"), part, part))
    data = open_images("cifar10", normalization="imagenet")
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    black = data.normalise(data.train_images)[0, :, 0, 0].tolist()
    assert black == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])


# --- the registry ----------------------------------------------------------------------------------------------------


def test_cifar100_is_one_class_and_a_recipe_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof that a new dataset takes no more: recipe, data, network and caption follow from its name."""
    from helpers.made_up import fake_runs
    from torchvision.datasets import CIFAR100

    import resteutils as ru
    from resteutils.evidence import summary
    from resteutils.recipes.build import build_model, open_data

    base = tmp_path / CIFAR100.base_folder
    base.mkdir()
    random = np.random.Generator(np.random.PCG64(0))

    def write(name: str, content: dict) -> list[str]:
        (base / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((base / name).read_bytes()).hexdigest()]

    def part(name: str, size: int) -> list[str]:
        labels = [(7 * i) % 100 for i in range(size)]
        return write(name, {"data": random.integers(0, 256, (size, 3072), dtype=np.uint8), "fine_labels": labels})

    monkeypatch.setattr(CIFAR100, "train_list", [part("train", 40)])
    monkeypatch.setattr(CIFAR100, "test_list", [part("test", 10)])
    name, md5 = write("meta", {"fine_label_names": [f"class {i}" for i in range(100)]})
    monkeypatch.setattr(CIFAR100, "meta", {"filename": name, "key": "fine_label_names", "md5": md5})
    monkeypatch.setattr("resteutils.data.sources.Cifar100.sizes", (40, 10))

    recipe = ru.recipe("table3/reste", "short", dataset="cifar100", num_classes=100, batch_size=8)
    data = open_data(recipe, tmp_path)
    assert (data.train_size, data.test_size, data.num_classes, data.classes[99]) == (40, 10, 100, "class 99")
    images, labels = next(data.train_batches(8, seed=0, epoch=0))
    assert build_model(recipe)(images).shape == (8, 100)
    assert int(labels.max()) < 100
    (run,) = fake_runs("table3", "short", rows="reste", seeds="0", dataset="cifar100", num_classes=100)
    assert "CIFAR-100" in summary.caption([run], "short")
    assert summary.elsewhere(run)
    with pytest.raises(ValueError, match="in 10 classes, cifar100 has .* in 100"):
        open_data(ru.recipe("table3/reste", "short", dataset="cifar100"), tmp_path)


def test_a_dataset_of_ones_own_is_a_recipe_and_an_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    import resteutils as ru
    from resteutils.data.sources import DATASETS, InMemory, register_dataset
    from resteutils.recipes.build import open_data

    class Stripes(InMemory):
        name, label = "stripes", "stripes"

        def read(self, folder: Path) -> tuple:
            images = torch.arange(4 * 64, dtype=torch.uint8).view(4, 1, 8, 8)
            both = Labelled(images, torch.tensor([0, 1, 0, 1]))
            return ("even", "odd"), both, both

    monkeypatch.setitem(DATASETS, "stripes", Stripes())
    recipe = ru.recipe("table3/reste", "smoke", dataset="stripes", num_classes=2, train_size=0, test_size=0)
    assert recipe.identity != ru.recipe("table3/reste", "smoke").identity
    assert open_data(recipe).classes == ("even", "odd")
    with pytest.raises(ValueError, match="dataset name 'digits' is taken by Digits"):
        register_dataset(type("Mine", (Stripes,), {"name": "digits"}))
    with pytest.raises(ValueError, match="Nameless: a dataset needs a name and a label"):
        register_dataset(type("Nameless", (InMemory,), {}))
    with pytest.raises(ValueError, match="dataset name 'my/stripes', expected letters"):
        register_dataset(type("Slashed", (Stripes,), {"name": "my/stripes"}))
    with pytest.raises(ValueError, match="dataset = 'mnist', expected one of digits, cifar10, cifar100"):
        ru.recipe("table3/reste", dataset="mnist")


def test_the_proxy_is_the_rounded_mean_of_four_pixels() -> None:
    images = torch.tensor([[0, 1, 255, 255], [2, 3, 255, 254]], dtype=torch.uint8).view(1, 1, 2, 4)
    assert _halved(images).flatten().tolist() == [2, 255]
