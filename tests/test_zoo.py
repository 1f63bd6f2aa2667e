"""Kept models: published with a card, loaded strictly, scored again; a file that is not the card's is found out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from resteutils import cli, zoo
from resteutils.recipes import recipe
from resteutils.runs import Run, load_or_train


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
        path.write_text(json.dumps(json.loads(honest) | {"top1": 99.0}))
        (check,) = zoo.verify(folders["results_dir"], device="cpu")
        assert "off by more than" in check.problem
    finally:
        path.write_text(honest)


def test_publish_by_id_and_what_it_says_of_unknown_ones(
    run: Run, models: Path, folders: dict[str, str], capsys: pytest.CaptureFixture
) -> None:
    where = [word for name, folder in folders.items() for word in (f"--{name.replace('_', '-')}", folder)]
    with pytest.raises(SystemExit) as left:
        cli.main(["publish", run.recipe.run_id[:12], "--device", "cpu", *where])
    assert left.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"{run.recipe.run_id}.md")
    with pytest.raises(SystemExit) as left:
        cli.main(["publish", "resnet99", *where])
    assert left.value.code == 2
    assert "no finished run 'resnet99'" in (said := capsys.readouterr().err) and run.recipe.run_id in said


def test_no_models_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="resteutils publish"):
        list(zoo.verify(tmp_path))
