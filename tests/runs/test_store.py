"""Runs: a finished one is read, a missing one is trained, what a kill left is cleaned up."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from helpers.tiny import RECIPE, TIMES, call, record_path, tiny

import resteutils as ru
from resteutils.recipes import Recipe
from resteutils.recipes.build import open_data
from resteutils.runs import records as record_files
from resteutils.runs import store as module
from resteutils.runs import validity
from resteutils.runs.store import Run, finished_runs, run_item
from resteutils.training.stopping import NonFinite

# --- a finished run --------------------------------------------------------------------------------------------------


def test_the_folder_of_a_finished_run(made) -> None:
    folder = made[0] / RECIPE.run_id
    names = {path.name for path in folder.iterdir()}
    assert {"recipe.json", "history.csv", "record.json", "model.safetensors"} <= names
    assert not [name for name in names if "checkpoint" in name or name.endswith(".tmp")]
    assert Recipe.from_dict(json.loads((folder / "recipe.json").read_text())) == RECIPE
    assert (folder / "record.json").read_bytes() == record_path(made).read_bytes()


def test_the_record(made) -> None:
    record = json.loads(record_path(made).read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert record["schema"] == 1
    assert (record["run_id"], record["identity"]) == (RECIPE.run_id, RECIPE.identity)
    assert Recipe.from_dict(record["recipe"]) == RECIPE
    assert record["history"]["epoch"] == [1, 2]
    assert {len(column) for column in record["history"].values()} == {2}
    assert record["result"]["epochs"] == 2
    assert {"commit", "dirty", "versions", "machine", "threads", "compile", "device"} <= set(record["provenance"])
    assert str(made[0]) not in json.dumps(record)  # no path of this machine


def test_history_and_result(made, untrained) -> None:
    run = call(made)
    history, result = run.history, run.result
    assert list(history["epoch"]) == [1, 2]
    assert {str(kind) for kind in history.dtypes} == {"int64", "float64"}
    assert result["top1"] == history["test_top1"].iloc[-1]
    assert result["top5"] == history["test_top5"].iloc[-1]
    assert result["best_top1"] == history["test_top1"].max()
    assert result["best_epoch"] == history["epoch"][history["test_top1"].idxmax()]
    assert result["train_loss"] == history["train_loss"].iloc[-1]
    assert result["seconds"] == pytest.approx(history["seconds"].sum(), rel=1e-6)


def test_the_history_of_a_float_twin_is_numbers_too(tmp_path: Path) -> None:
    folders = tmp_path / "runs", tmp_path / "results"
    run = call(folders, tiny("table1/resnet20-fp", epochs=1, warmup_epochs=0))
    assert {str(kind) for kind in run.history.dtypes} == {"int64", "float64"}
    assert run.history[["o", "error_code", "plateau"]].isna().all().all()
    assert math.isnan(run.result["o"])
    assert run.result["best_epoch"] == 1


def test_the_model_scores_what_the_record_says(made, untrained) -> None:
    run = call(made)
    model = run.model()
    assert not model.training
    data = open_data(RECIPE)
    with torch.no_grad():
        hits = (model(data.normalise(data.test_images)).argmax(1) == data.test_labels).float().mean().item()
    assert 100 * hits == pytest.approx(run.result["top1"])
    assert {layer.progress for _, layer in ru.binary_layers(model)} == {1.0}


def test_the_same_call_again_trains_nothing(made, untrained) -> None:
    before = {path: path.stat().st_mtime_ns for path in made[0].rglob("*") if path.is_file()}
    run = call(made)
    assert run.recipe == RECIPE
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_name_of_a_recipe_is_no_recipe() -> None:
    with pytest.raises(TypeError, match=r"expected a recipe, e\.g\. ru\.recipe\('table1/resnet20-1w1a'\)"):
        ru.load_or_train("table1/resnet20-1w1a")


def test_another_row_with_the_same_recipe_shares_the_run_under_its_own_name(made, untrained) -> None:
    fields = {"train_size": 48, "test_size": 20, "batch_size": 16, "epochs": 2, "compile": "off"}
    other = ru.recipe("table1/resnet20-1w1a", profile="smoke", **fields)
    run = call(made, other)
    assert run.recipe.name == "table1/resnet20-1w1a"
    assert run.path == made[0] / RECIPE.run_id


def test_force_trains_again_from_the_start(folders) -> None:
    first = call(folders)
    epochs: list[int] = []
    again = call(folders, force=True, on_epoch=lambda row: epochs.append(row["epoch"]))
    assert epochs == [1, 2]
    assert {k: v for k, v in again.result.items() if k not in TIMES} == {
        k: v for k, v in first.result.items() if k not in TIMES
    }


def test_equal_copies_of_a_record_are_checked_once(made, monkeypatch) -> None:
    checked, problem = [], validity.problem
    monkeypatch.setattr(validity, "problem", lambda record, recipe: checked.append(recipe) or problem(record, recipe))
    found = finished_runs(*made)
    assert checked == [run.recipe for run in found] and checked


def test_finished_runs_are_found_once(made) -> None:
    found = finished_runs(*made)
    assert [run.recipe.run_id for run in found] == [RECIPE.run_id]
    assert found[0].recipe == RECIPE
    assert finished_runs(made[0] / "nowhere", made[1] / "nowhere") == []


def test_a_record_elsewhere_is_read_and_kept_with_the_results(made, tmp_path: Path, monkeypatch) -> None:
    folders, said = (made[0], tmp_path / "results"), []
    assert call(folders).result["epochs"] == 2
    kept = record_files.committed(RECIPE, folders[1])
    assert kept.is_file()
    kept.unlink()

    def refused(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(record_files, "write_atomic", refused)
    assert call(folders, say=said.append).result["epochs"] == 2  # reading asks for no room
    assert len(said) == 1 and "not kept with the results: Read-only file system" in said[0]


# --- what survives ---------------------------------------------------------------------------------------------------


def test_a_committed_record_alone_counts_as_finished(folders, untrained) -> None:
    shutil.rmtree(folders[0])
    run = call(folders)
    assert run.result["epochs"] == 2
    assert len(run.history) == 2
    assert not (folders[0] / RECIPE.run_id).exists()
    with pytest.raises(
        FileNotFoundError, match=r"only the record .* survives. Train it again with `resteutils train table3/reste"
    ):
        run.model()
    assert [found.recipe.run_id for found in finished_runs(*folders)] == [RECIPE.run_id]


def test_a_record_of_another_profile_counts_and_is_copied(folders, untrained) -> None:
    shutil.rmtree(folders[0])
    (folders[1] / "smoke").rename(folders[1] / "short")
    assert call(folders).result["epochs"] == 2
    assert record_path(folders).exists()


def test_a_run_whose_record_was_not_copied_is_copied_when_it_is_read(folders, untrained) -> None:
    shutil.rmtree(folders[1])
    call(folders)
    assert record_path(folders).exists()


def test_two_equal_trainings_write_the_same_model_file(made, tmp_path: Path) -> None:
    again = call((tmp_path / "runs", tmp_path / "results"))
    mine, theirs = (folder / RECIPE.run_id / "model.safetensors" for folder in (again.path.parent, made[0]))
    assert mine.read_bytes() == theirs.read_bytes()
    assert again.record["model_sha256"] == hashlib.sha256(mine.read_bytes()).hexdigest()


def test_what_a_kill_in_the_last_clean_up_left_is_removed_when_the_run_is_read(folders, untrained) -> None:
    copy = record_path(folders)
    left = [folders[0] / RECIPE.run_id / name for name in ("checkpoint.previous.pt", ".history.csv.abc.tmp")]
    left.append(copy.with_name(f".{copy.name}.abc.tmp"))  # a disk that turned read-only
    for path in left:
        path.write_bytes(b"left")
    call(folders)
    assert not [path for path in left if path.exists()]


def test_a_results_folder_without_room_is_noticed_before_training(tmp_path: Path, untrained, monkeypatch) -> None:
    def usage(path):
        return type("Usage", (), {"free": 1_000_000 if Path(path).name == "runs" else 10**12})

    monkeypatch.setattr(module.shutil, "disk_usage", usage)
    with pytest.raises(OSError, match="1 MB free, 5 MB needed; set RESULTS_DIR"):
        call((tmp_path / "runs", tmp_path / "results"))


def test_a_full_disk_is_noticed_before_training(tmp_path: Path, untrained, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="1 MB free, 300 MB needed; set RUNS_DIR"):
        call((tmp_path / "runs", tmp_path / "results"))


def test_a_results_folder_that_cannot_be_written_is_noticed_before_training(tmp_path: Path, untrained) -> None:
    (tmp_path / "results").touch()
    with pytest.raises(OSError, match="cannot be made; set RESULTS_DIR elsewhere"):
        call((tmp_path / "runs", tmp_path / "results"))


# --- items -----------------------------------------------------------------------------------------------------------


def test_every_run_of_an_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Recipe] = []

    def fake(recipe, *arguments, **options):
        trained.append(recipe)
        source = {"created": "2026-01-02T03:04:05+00:00", "machine": {"cpu": "a CPU", "gpu": ""}}
        return Run(recipe, tmp_path, {"result": {"top1": 50.0}, "provenance": source})

    monkeypatch.setattr(module, "load_or_train", fake)
    said: list[str] = []
    found = run_item("table3", "smoke", "ste,reste", "0,1", epochs=3, say=said.append)
    assert [(r.row, r.seed, r.epochs) for r in trained] == [
        ("ste", 0, 3),
        ("ste", 1, 3),
        ("reste", 0, 3),
        ("reste", 1, 3),
    ]
    assert [run.recipe for run in found] == trained
    assert said[0].startswith("4 runs to train: about a minute on ")
    assert said[-1].startswith("[4/4] reste, seed 1: top-1 50.00 % (read from its record: trained 2026-01-02 on a CPU)")
    assert said[-1].endswith("[####################] 100 %") and "] 50 %" in said[2]


def test_the_shortest_run_of_an_item_is_trained_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def fake(recipe, *arguments, **options):
        trained.append(recipe.row)
        return Run(recipe, tmp_path, {"result": {"top1": 50.0}, "provenance": {"machine": {"cpu": "", "gpu": ""}}})

    monkeypatch.setattr(module, "load_or_train", fake)
    rows = ["resnet18-1w1a", "resnet20-1w1a", "resnet20-fp"]
    found = run_item("table1", "demo", rows, "0", device="cpu", say=lambda _: None)
    assert trained == ["resnet20-fp", "resnet20-1w1a", "resnet18-1w1a"]
    assert [run.recipe.row for run in found] == rows


def test_a_run_that_diverges_does_not_take_the_others_with_it(monkeypatch, tmp_path: Path) -> None:
    import resteutils.runs.store as module

    said, train = [], module.train

    def train_one(recipe, *args, **kwargs):
        if recipe.row == "ste-identity":
            raise NonFinite("loss is nan; try a smaller lr", "loss is nan", {"threads": 1, "files": "abc"})
        return train(recipe, *args, **kwargs)

    monkeypatch.setattr(module, "train", train_one)
    runs = module.run_item("table3", "smoke", rows="ste,ste-identity", seeds="0", say=said.append)
    assert [run.recipe.row for run in runs] == ["ste"]
    assert any("ste-identity" in line and "DIVERGED" in line for line in said)
    assert not [line for line in said if "read from its record" in line]  # it was trained just now
    assert [(lost.recipe.row, lost.reason) for lost in runs.diverged] == [("ste-identity", "loss is nan")]
    assert runs.diverged[0].provenance["threads"] == 1  # what it was trained with, as of a finished run
    assert [run.recipe.row for run in runs.every] == ["ste", "ste-identity"]


def test_a_damaged_history_file_does_not_reach_the_record_of_a_run_that_diverges(monkeypatch, tmp_path: Path) -> None:
    from resteutils.training.loop import _Loop

    gradients, folders = _Loop.gradients, (tmp_path / "runs", tmp_path / "results")

    def diverging(self, images, labels):
        loss, correct = gradients(self, images, labels)
        return (loss * math.nan if self.state.epoch == 1 else loss), correct

    def damage(row) -> None:
        (folders[0] / RECIPE.run_id / "history.csv").write_bytes(b"epoch,test_top1\n1,\xff?\n")

    monkeypatch.setattr(_Loop, "gradients", diverging)
    with pytest.raises(NonFinite):
        call(folders, RECIPE, on_epoch=damage)
    record = json.loads(record_path(folders).read_text())
    assert record["history"]["epoch"] == [1] and "diverged" in record
    with pytest.raises(NonFinite, match="so its record says"):
        call(folders, RECIPE)
