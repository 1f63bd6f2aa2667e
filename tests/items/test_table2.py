"""Table 2 from a folder of images to the notebook: recipes, signals, records and the table."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.pictures import two_classes
from PIL import Image

from resteutils.data.files import listed, scan
from resteutils.data.sources import open_images
from resteutils.recipes import item_recipes, recipe

pytestmark = pytest.mark.usefixtures("own_cache")

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
    try:
        end = time.monotonic() + 400
        while not list(tmp_path.glob("*/history.csv")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
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


def test_a_finished_run_on_another_folder_of_images_is_not_taken_for_this_one(
    tmp_path: Path, results_dir: Path
) -> None:
    from resteutils.runs import records
    from resteutils.runs.provenance import provenance
    from resteutils.runs.store import load_or_train
    from resteutils.training.stopping import NonFinite

    r, folder = recipe("table2/resnet18-1w1a", "short", epochs=1), two_classes(tmp_path / "data")
    row = dict.fromkeys(("train_loss", "test_loss", "test_top1", "test_top5", "seconds", "images_per_second"), 1.0)
    _, train, test = scan(folder)
    for files in (listed(train, test), "of another folder"):
        record = records.finished(
            r, [{"epoch": 1, **row}], {**provenance(), "files": files, "num_classes": 2}, "0" * 64
        )
        records.write(record, r, results_dir / "run", results_dir)
        if files == "of another folder":
            with pytest.raises(ValueError, match="is finished, on other images than those in .*RUNS_DIR.*--force"):
                load_or_train(r, data_dir=str(folder), show=False)
        else:
            assert load_or_train(r, data_dir=str(folder), show=False).result["top1"] == 1.0
        assert load_or_train(r, data_dir=str(folder / "nowhere"), show=False).result["top1"] == 1.0
    # From before such a record named its images.
    lost = records.diverged(r, "loss is nan", [], provenance())
    records.write(lost, r, results_dir / "run", results_dir)
    with pytest.raises(NonFinite, match="so its record says"):
        load_or_train(r, data_dir=str(folder), show=False)


@pytest.fixture
def cifar_folder(cifar_dir: Path, tmp_path: Path) -> Path:
    """Four training and two test images of each class of CIFAR-10, as JPEGs of 96 x 96."""
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
    from resteutils.results.reproduce import reproduce

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    few = {"rows": "resnet18-1w1a,resnet18-fp", "epochs": 1, "overrides": "image_size=64"}
    reproduce("table2", profile="short", data_dir=str(cifar_folder), **few)
    folder = results_dir / "short" / "table2"
    written = {path.name for path in folder.iterdir()}
    assert {"table.md", "table.csv", "table.html", "picture.png", "notebook.ipynb", "provenance.json"} <= written
    records = sorted((results_dir / "short" / "runs").glob("*.json"))
    assert len(records) == 2
    assert all('"num_classes": 10' in path.read_text() for path in records)
    assert "resnet18-fp" in (folder / "table.csv").read_text()
