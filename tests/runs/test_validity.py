"""Records that are no records: damaged, impossible, renamed or edited ones are named and left out; the others count."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import threading
from pathlib import Path

import pytest
from helpers.tiny import RECIPE, call, record_path, tiny

from resteutils.runs import records as record_files
from resteutils.runs import store as module
from resteutils.runs import validity
from resteutils.runs.store import finished_runs

SPOILED = {
    "empty": lambda text: "",
    "cut": lambda text: text[: len(text) // 2],
    "no JSON": lambda text: "top1: 99",
    "a list": lambda text: "[1, 2]",
    "no result": lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "result"}),
    "fewer epochs": lambda text: text.replace('"epoch": [1, 2]', '"epoch": [1]'),
    "no provenance": lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "provenance"}),
    "an accuracy that is no number": lambda text: json.dumps(json.loads(text) | {"result": {"top1": "high"}}),
    "another schema": lambda text: text.replace('"schema": 1', '"schema": 99'),
    "an unknown field": lambda text: text.replace('"recipe": {', '"recipe": {"speed": 3, '),
    "another recipe": lambda text: text.replace('"lr": 0.1,', '"lr": 0.3,'),
    "another seed": lambda text: text.replace('"seed": 0', '"seed": 1'),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_record_does_not_count(how: str, folders, monkeypatch: pytest.MonkeyPatch) -> None:
    class Trained(Exception):
        pass

    def train(*arguments, **options):
        raise Trained

    monkeypatch.setattr(module, "train", train)
    paths = (folders[0] / RECIPE.run_id / "record.json", record_path(folders))
    text = paths[1].read_text()
    spoiled = SPOILED[how](text)
    assert spoiled != text
    paths[0].write_text(spoiled)
    said: list[str] = []
    if how != "another seed":
        assert call(folders, say=said.append).result["epochs"] == 2  # the other copy is good
        assert any("does not count as a finished run" in line for line in said)
    paths[1].write_text(spoiled)
    with pytest.raises(Trained):
        call(folders, say=said.append)
    if how != "another seed":
        assert finished_runs(*folders, say=said.append) == []


def resealed(how):
    """What a change that knows the checksum would write: the numbers themselves must be possible."""

    def spoil(record: dict) -> str:
        how(record)
        return json.dumps(validity.sealed(record)) + "\n"

    return spoil


def without_checksum(how):
    def spoil(record: dict) -> str:
        how(record)
        del record["sha256"]
        return json.dumps(record) + "\n"

    return spoil


IMPOSSIBLE = {
    "top1 NaN": without_checksum(lambda r: r["result"].update(top1=math.nan)),
    "top1 1e308": resealed(lambda r: r["result"].update(top1=1e308)),
    "a number of 400 digits": without_checksum(lambda r: r["history"].update(lr=[10**400] * len(r["history"]["lr"]))),
    "top1 -1": resealed(lambda r: r["result"].update(top1=-1.0)),
    "top1 101 of the history too": resealed(
        lambda r: (r["result"].update(top1=101.0), r["history"].update(test_top1=[1.0, 101.0]))
    ),
    "top1 not the history's": resealed(lambda r: r["result"].update(top1=r["result"]["top1"] / 2 + 1e-3)),
    "best not the history's": resealed(lambda r: r["result"].update(best_top1=77.0)),
    "best epoch not the history's": resealed(
        lambda r: (r["history"].update(test_top1=[1.0, 2.0]), r["result"].update(top1=2.0, best_top1=2.0, best_epoch=1))
    ),
    "a loss not the history's": resealed(lambda r: r["result"].update(train_loss=0.001)),
    "no accuracies in the history": resealed(lambda r: r["history"].pop("test_top1")),
    "a column twice": lambda r: json.dumps(r).replace('"history": {', '"history": {"test_top1": [1.0, 2.0], '),
    "a label that is no text": resealed(lambda r: r["recipe"].update(row=[])),
    "best below last": resealed(lambda r: r["result"].update(best_top1=0.0)),
    "a result of one field": resealed(lambda r: r.update(result={"top1": r["result"]["top1"]})),
    "provenance {}": resealed(lambda r: r.update(provenance={})),
    "no run_id": resealed(lambda r: r.pop("run_id")),
    "a list for run_id": resealed(lambda r: r.update(run_id=[1, 2])),
    "another run_id": resealed(lambda r: r.update(run_id="resnet20-of-somebody-else")),
    "unequal columns": resealed(lambda r: r["history"]["lr"].append(0.1)),
    "a column that is a number": resealed(lambda r: r["history"].update(lr=3)),
    "text in a column": resealed(lambda r: r["history"].update(lr=["a", "b"])),
    "a recipe that is a list": resealed(lambda r: r.update(recipe=[1])),
    "a history that is a list": resealed(lambda r: r.update(history=[1])),
    "diverged and finished": resealed(lambda r: r.update(diverged="nan")),
    "a field that nobody knows": resealed(lambda r: r.update(sha255="")),
    "edited": lambda r: json.dumps(r | {"result": r["result"] | {"top1": r["result"]["top1"] * 0.9}}),
    "nested without end": lambda r: '{"a": ' * 100_000,
    "no object": lambda r: "3",
}


@pytest.mark.parametrize("how", IMPOSSIBLE)
def test_one_impossible_record_is_named_and_left_out_and_the_others_count(how: str, folders, run) -> None:
    other = tiny(seed=7)
    good = json.loads(record_path(folders).read_text())
    twin = good | {"run_id": other.run_id, "recipe": other.to_dict()}
    record_path(folders, other).write_text(json.dumps(validity.sealed(twin)))
    shutil.rmtree(folders[0])
    record_path(folders).write_text(IMPOSSIBLE[how](json.loads(json.dumps(good))))
    said: list[str] = []
    assert [found.recipe.run_id for found in finished_runs(*folders, say=said.append)] == [other.run_id]
    assert len(said) == 1 and str(record_path(folders)) in said[0]
    status, out, _ = run("list", "--results-dir", str(folders[1]), "--runs-dir", str(folders[0]))
    assert status == 0 and "1 finished run on this disk" in out


def test_a_pipe_among_the_records_is_named_and_not_waited_for(folders) -> None:
    record_path(folders).with_name("a.json").symlink_to("nothing")
    os.mkfifo(record_path(folders).with_name("b.json"))
    said: list[str] = []
    asked = threading.Thread(target=lambda: finished_runs(*folders, say=said.append), daemon=True)
    asked.start()
    asked.join(20)
    assert not asked.is_alive()
    assert len(said) == 2 and "a.json" in said[0] and "b.json" in said[1]


def test_a_record_of_another_seed_is_refused_by_its_name(folders) -> None:
    record = json.loads(record_path(folders).read_text())
    record["recipe"]["seed"] = 1
    record_path(folders).write_text(json.dumps(validity.sealed(record)))
    shutil.rmtree(folders[0])
    said: list[str] = []
    assert finished_runs(*folders, say=said.append) == []
    assert f"{RECIPE.run_id}, its recipe is of {tiny(seed=1).run_id}" in said[0]


@pytest.mark.parametrize("field", ["estimator", "model", "dataset"])
def test_a_record_with_something_of_the_reader_s_own_says_what_to_set(field: str, folders) -> None:
    """Once for all of its runs, and not as a damaged record."""
    record = json.loads(record_path(folders).read_text())
    record["recipe"][field] = {"name": "mine"} if field == "estimator" else "mine"
    shutil.rmtree(folders[0])
    for name in (RECIPE.run_id, "another"):
        sealed = validity.sealed(record | {"run_id": name})
        record_path(folders).with_name(f"{name}.json").write_text(json.dumps(sealed))
    said: list[str] = []
    assert finished_runs(*folders, say=said.append) == []
    article = "an" if field == "estimator" else "a"
    assert said == [
        f"2 run(s) with {article} {field} 'mine', which is not registered here, are left out: "
        "RESTEUTILS_IMPORT=MODULE names the module that defines it"
    ]
    with pytest.raises(ValueError, match=f"{field}.*'mine'.*RESTEUTILS_IMPORT names the module"):
        tiny(**{field: "mine"})


def test_a_record_under_another_name_is_named_and_left_out(folders) -> None:
    (folders[0] / RECIPE.run_id).rename(folders[0] / "renamed")
    record_path(folders).rename(record_path(folders).with_name("also.json"))
    said: list[str] = []
    assert finished_runs(*folders, say=said.append) == []
    assert len(said) == 2 and "renamed/record.json" in said[1] and RECIPE.run_id in said[0]


def test_a_record_from_before_there_were_checksums_counts(folders, untrained) -> None:
    record = json.loads(record_path(folders).read_text())
    shutil.rmtree(folders[0])
    old = {name: value for name, value in record.items() if name not in ("sha256", "model_sha256")}
    record_path(folders).write_text(json.dumps(old) + "\n")
    assert call(folders).result == call(folders).result
    assert [found.recipe.run_id for found in finished_runs(*folders)] == [RECIPE.run_id]


@pytest.mark.parametrize("kind", ["record.json", "model.safetensors"])
def test_no_flipped_bit_changes_what_is_read(kind: str, folders) -> None:
    """200 single bits, drawn once: each is refused, or the content is the same (a blank, the case of an exponent)."""
    path, draw = folders[0] / RECIPE.run_id / kind, random.Random(2308)
    shutil.rmtree(folders[1])
    (done,) = finished_runs(*folders)
    whole, same, weights = path.read_bytes(), done.record, done.model().state_dict()
    for _ in range(200):
        place, bit = draw.randrange(len(whole)), 1 << draw.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        found = finished_runs(*folders, say=lambda line: None)
        if kind == "record.json":
            assert [run.record for run in found] in ([], [same]), (place, bit)
            continue
        with pytest.raises(RuntimeError, match="model.safetensors is damaged"):
            found[0].model()
    assert weights


def test_every_committed_record_has_its_checksum_and_counts(root: Path) -> None:
    said: list[str] = []
    paths = sorted(root.glob("results/*/runs/*.json"))
    ended = record_files.ended_runs(root / "no-runs", root / "results", say=said.append)
    assert len(ended.every) == len(paths) >= 48 and said == []
    lacking = [path.name for path in paths if "sha256" not in json.loads(path.read_text())]
    assert not lacking, f"records of an earlier version: write validity.sealed(record) of {lacking}"
