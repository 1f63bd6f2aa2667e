"""The acceptance run of GPUs: end to end where nothing computes, and its verdicts where a CPU does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.fake_gpu import under
from helpers.tiny import tiny

from benchmarks.gpu import material, numbers, speed
from benchmarks.gpu.session import Section, Session
from resteutils.nn import exact
from resteutils.recipes.build import open_data
from resteutils.training.loop import _Loop
from resteutils.training.processes import Processes
from resteutils.training.tracking import NoTracker

SECTIONS = [
    "machine", "convolutions_of_signs", "slopes_of_estimators", "a_layer_and_its_backward", "speed_of_steps",
    "trainings_repeat_resume_and_learn", "failures_are_told", "image_files", "several_runs_on_one_gpu",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.fakecuda
def test_it_runs_end_to_end_without_a_gpu(library: Path, tmp_path: Path) -> None:
    done = under(library, "-m", "benchmarks.gpu", str(tmp_path / "out"), "--fake", "--material", str(tmp_path / "none"))
    found = json.loads((tmp_path / "out" / "acceptance.json").read_text())
    bad = {name: section for name, section in found["sections"].items() if not section["ok"]}
    assert bad == {}
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(found["sections"]) == SECTIONS
    assert (found["fake"], found["images"]) == (True, "made up")
    assert found["sections"]["machine"]["gpu"].startswith("fakecuda")
    assert all(case["waits"] == 0 for case in found["sections"]["speed_of_steps"]["cases"].values())
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*")) < 16_000_000


def few(shapes) -> tuple:
    return tuple(shape for shape in shapes if shape[0] == 16)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A run on the CPU, whose numbers are right."""
    monkeypatch.setattr(numbers, "SHAPES", few(numbers.SHAPES))
    monkeypatch.setattr(numbers, "PRECISIONS", ("fp32", "tf32"))
    monkeypatch.setattr(numbers.torch, "compile", lambda module, **options: module)
    nothing = material.Material(tmp_path, "none", ())
    return Session(tmp_path, nothing, device=torch.device("cpu"))


def test_right_numbers_hold(session: Session) -> None:
    for check in (numbers.convolutions_of_signs, numbers.slopes_of_estimators, numbers.a_layer_and_its_backward):
        found = check(session)
        assert found["ok"], found


def test_wrong_numbers_do_not(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def off(x, *rest):
        return plain(x, *rest) * (1 if x.dtype == torch.float64 else 1 + 1e-4)

    plain = exact.convolve
    monkeypatch.setattr(exact, "convolve", off)
    monkeypatch.setattr("resteutils.nn.binarize.convolve", off)
    found = numbers.convolutions_of_signs(session)
    assert not found["ok"]
    assert found["inexact"]["as torch computes"] == {}
    assert "fp32, channels last, 16->32, 32 px, stride 2" in found["inexact"]["as layers compute"]
    assert not numbers.a_layer_and_its_backward(session)["ok"]


def test_a_section_that_fails_or_comes_too_late_stops_no_other(session: Session) -> None:
    def breaks(session: Session) -> dict:
        raise ValueError("the reason")

    def holds(session: Session) -> dict:
        return {"told": 1}

    assert not session.run((Section(breaks, 1), Section(holds, 10_000), Section(holds, 1)), lambda line: None)
    found = json.loads((session.out / "acceptance.json").read_text())["sections"]
    assert "the reason" in found["breaks"]["error"]
    assert found["holds"]["told"] == 1
    session.limit = 0
    assert not session.run((Section(holds, 1),), lambda line: None)
    assert "skipped" in session.found["holds"]["error"]


def test_every_timed_step_is_of_a_whole_batch(tmp_path: Path) -> None:
    """More steps than the epoch has: an odd batch would be timed uncompiled."""
    recipe = tiny()
    loop = _Loop(recipe, tmp_path, torch.device("cpu"), open_data(recipe), Processes(), NoTracker(), print, False)
    step, made = speed.repeated_step(loop), []
    loop.network.register_forward_hook(lambda network, given, out: made.append((len(given[0]), given[1])))
    for _ in range(2 * loop.steps + 1):
        step()
    assert made == [(recipe.batch_size, True)] * (2 * loop.steps + 1)


def test_what_is_brought_back_has_a_limit(session: Session) -> None:
    for number in range(2):
        (session.out / f"trace-{number}").write_bytes(bytes(8_000_000))
        assert session.keep(session.out / f"trace-{number}") == (number == 0)
    assert [path.name for path in session.out.iterdir()] == ["trace-0"]


def test_images_are_kept_and_a_history_belongs_to_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "TRAIN", 40)
    monkeypatch.setattr(material, "TEST", 20)
    made = material.Material.of(tmp_path)
    monkeypatch.setattr(material, "_history", lambda found: {"digest": found.digest, "train_loss": [2.0]})
    monkeypatch.setattr("resteutils.data.sources.Cifar10.read", lambda self, folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        material.make(tmp_path / "a")

    def absent(self, folder: Path):
        raise FileNotFoundError("no network")

    monkeypatch.setattr("resteutils.data.sources.Cifar10.read", absent)
    found = material.make(tmp_path / "a")
    assert (found.images, found.golden, found.digest) == ("made up", [2.0], made.digest)
    (tmp_path / "a" / "golden.json").write_text(json.dumps({"digest": "other", "train_loss": [9.0]}))
    assert material.Material.of(tmp_path / "a").golden is None
