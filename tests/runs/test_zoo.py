"""Kept models: published with a card, loaded strictly, scored again; a file that is not the card's is found out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from resteutils.cli import commands as cli
from resteutils.recipes import recipe
from resteutils.runs import zoo
from resteutils.runs.store import Run, load_or_train

TEXT_FOR_NUMBER = '{"name": "x", "file": "y", "sha256": "z", "top1": "91.0"}'


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base = tmp_path_factory.mktemp("zoo")
    return {"runs_dir": str(base / "runs"), "results_dir": str(base / "results")}


@pytest.fixture(scope="module")
def run(folders: dict[str, str]) -> Run:
    return load_or_train(recipe("table3/reste", profile="smoke", epochs=1), device="cpu", show=False, **folders)


@pytest.fixture(scope="module")
def models(run: Run, folders: dict[str, str]) -> Path:
    zoo.publish(run, folders["results_dir"], device="cpu")
    return Path(folders["results_dir"]) / "models"


def test_the_card_says_what_the_model_is(run: Run, models: Path) -> None:
    card = json.loads((models / f"{run.recipe.run_id}.json").read_text())
    assert card["top1"] == pytest.approx(run.result["top1"], abs=1e-4)
    assert card["recipe"] == run.recipe.identity
    assert card["bytes"] == (models / card["file"]).stat().st_size
    assert card["estimator"]["name"] == "reste"
    text = (models / f"{run.recipe.run_id}.md").read_text()
    assert card["sha256"] in text and "license: mit" in text and f"{card['top1']:.2f} %" in text


def test_verify_scores_again(models: Path, folders: dict[str, str], capsys: pytest.CaptureFixture) -> None:
    (check,) = zoo.verify(folders["results_dir"], device="cpu")
    assert check.problem == ""
    assert check.top1 == pytest.approx(check.card_top1, abs=1e-3)
    with pytest.raises(SystemExit) as left:
        cli.main(["verify-models", "--results-dir", folders["results_dir"], "--device", "cpu"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("ok ")


def test_a_published_network_stands_for_a_run_of_which_only_the_record_survives(
    run: Run, models: Path, folders: dict[str, str], tmp_path: Path
) -> None:
    elsewhere = {"runs_dir": str(tmp_path), "results_dir": folders["results_dir"]}
    bare = load_or_train(run.recipe, **elsewhere)
    assert not bare.path.exists() and bare.model_file == models / f"{run.recipe.run_id}.safetensors"
    published, own = bare.model().state_dict(), run.model().state_dict()
    assert published.keys() == own.keys() and all(published[name].equal(own[name]) for name in own)
    card = models / f"{run.recipe.run_id}.json"
    text = card.read_text()
    card.write_text(text.replace(json.loads(text)["commit"], "0" * 40))
    try:
        assert load_or_train(run.recipe, **elsewhere).model_file is None  # a network of another training
    finally:
        card.write_text(text)


def test_a_damaged_network_names_its_file(run: Run) -> None:
    file = run.path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    try:
        with pytest.raises(RuntimeError, match="model.safetensors is damaged .* train again: `resteutils train table3"):
            run.model()
    finally:
        file.write_bytes(whole)


def test_another_file_is_found_out(models: Path, folders: dict[str, str], capsys: pytest.CaptureFixture) -> None:
    (file,) = models.glob("*.safetensors")
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        (check,) = zoo.verify(folders["results_dir"], device="cpu")
        assert "not the file" in check.problem and math.isnan(check.top1)
        file.unlink()
        with pytest.raises(SystemExit) as left:
            cli.main(["verify-models", "--results-dir", folders["results_dir"], "--device", "cpu"])
        assert left.value.code == 1
        assert "is missing" in capsys.readouterr().err
    finally:
        file.write_bytes(whole)


def test_a_card_that_promises_more_is_found_out(models: Path, folders: dict[str, str]) -> None:
    (path,) = models.glob("*.json")
    honest = path.read_text()
    try:
        for promised in (99.0, math.nan):
            path.write_text(json.dumps(json.loads(honest) | {"top1": promised}))
            (check,) = zoo.verify(folders["results_dir"], device="cpu")
            assert "off by more than" in check.problem
    finally:
        path.write_text(honest)


def test_a_card_that_is_none_does_not_stop_the_others(models: Path, folders: dict[str, str]) -> None:
    spoiled = models / "a-first-one.json"
    try:
        for text in ('{"name": ', "[]", '{"name": "x", "file": "y"}', TEXT_FOR_NUMBER):
            spoiled.write_text(text)
            first, second = zoo.verify(folders["results_dir"], device="cpu")
            assert (first.name, second.problem) == ("a-first-one", "")
            assert f"{spoiled} is no card" in first.problem
    finally:
        spoiled.unlink()


def test_publish_by_id_and_what_it_says_of_unknown_ones(
    run: Run, models: Path, folders: dict[str, str], capsys: pytest.CaptureFixture
) -> None:
    where = [word for name, folder in folders.items() for word in (f"--{name.replace('_', '-')}", folder)]
    with pytest.raises(SystemExit) as left:
        cli.main(["publish", run.recipe.run_id[:12], "--device", "cpu", *where])
    assert left.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"{run.recipe.run_id}.md")
    with pytest.raises(SystemExit) as left:
        cli.main(["publish", run.recipe.name, "--profile", "paper", "--device", "cpu", *where])
    assert left.value.code == 2 and "no finished run" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        cli.main(["publish", "resnet99", *where])
    assert left.value.code == 2
    assert "'resnet99'" in (said := capsys.readouterr().err) and "resteutils list ITEM" in said


def test_no_models_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="resteutils publish"):
        list(zoo.verify(tmp_path))


# --- export, predict, bench --model -----------------------------------------------------------------------------------


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    return left.value.code


@pytest.fixture(scope="module")
def packed(run: Run, folders: dict[str, str]) -> Path:
    file = Path(folders["runs_dir"]).parent / "model.rbit"
    where = [word for name, folder in folders.items() for word in (f"--{name.replace('_', '-')}", folder)]
    assert command("export", "table3/reste", "--out", str(file), *where) == 0
    return file


def test_export_says_what_it_wrote(run: Run, folders: dict[str, str], tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    where = [word for name, folder in folders.items() for word in (f"--{name.replace('_', '-')}", folder)]
    assert command("export", run.recipe.run_id, "--to", "state-dict", *where) == 0
    file = Path(folders["results_dir"]) / "exports" / f"{run.recipe.run_id}.safetensors"
    assert capsys.readouterr().out.endswith(f"{file.name} ({file.stat().st_size:,} bytes)\n")
    assert command("export", run.recipe.run_id, "--to", "paper", *where) == 2
    capsys.readouterr()
    (tmp_path / "taken").touch()
    assert command("export", run.recipe.run_id, "--out", str(tmp_path / "taken" / "x"), *where) == 1
    assert "set --out elsewhere" in capsys.readouterr().err


def test_predict_with_bars_and_as_json(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from PIL import Image

    image = tmp_path / "digit.png"
    Image.new("L", (12, 12), 128).save(image)
    capsys.readouterr()
    assert command("predict", str(packed), str(image), "--top", "3") == 0
    assert capsys.readouterr().out.count("%") == 3
    assert command("predict", str(packed), str(image), "--json") == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["image"] == str(image) and len(answer["top"]) == 5
    assert sum(entry["probability"] for entry in answer["top"]) <= 1.00001


def test_predict_refuses_what_is_no_model_no_image_or_nothing(packed: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "words.txt").write_text("no image")
    for arguments, status in (
        ((str(packed),), 2),
        ((str(packed), str(tmp_path / "words.txt")), 1),
        ((str(packed), str(tmp_path / "absent.png")), 1),
        ((str(tmp_path / "words.txt"), str(tmp_path / "words.txt")), 1),
        ((str(tmp_path / "absent.rbit"), "x.png"), 1),
    ):
        capsys.readouterr()
        assert command("predict", *arguments) == status, arguments
        said = capsys.readouterr().err
        assert said.startswith("resteutils: ") and said.count("\n") == 1, said


def test_bench_of_a_model_prints_a_row_per_batch(packed: Path, capsys: pytest.CaptureFixture) -> None:
    capsys.readouterr()
    assert command("bench", "--model", str(packed)) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert "float / packed" in head and {row.split()[0] for row in rows} == {"1", "64"}


def test_bench_refuses_unknown_rows(capsys: pytest.CaptureFixture) -> None:
    assert command("bench", "--rows", "step,speed") == 2
    assert "no rows speed" in capsys.readouterr().err
