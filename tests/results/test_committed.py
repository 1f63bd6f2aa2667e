"""The committed evidence: every record counts, and every table follows from the records that are named beside it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from resteutils.items import figure1, figure2, figure3, figure4, figure5, figure6, lemma, table1, table3, why
from resteutils.results.standing import standing_runs
from resteutils.runs.records import ended_runs
from resteutils.system.settings import Places

RESULTS = Path(__file__).resolve().parents[2] / "results"
RECORDS = sorted(RESULTS.glob("*/runs/*.json"))
TABLES = sorted(path for path in RESULTS.glob("*/*/table.csv") if path.parent.parent.name in ("short", "paper"))

# A folder of some machine, or one beside the checkout; not a part of a longer path or of a picture's base64.
LOCAL = re.compile(r"(?<![\w+/.:-])(?:\.\.(?=/)|/(?:home|root|Users|work|tmp|var|mnt|opt|usr|shared))/[\w.-]+")
TEXTS = {".ipynb", ".html", ".json", ".md", ".csv"}

REMADE = {
    "figure1": lambda runs, places, profile: figure1.table(),
    "figure3": lambda runs, places, profile: figure3.table(),
    "lemma": lambda runs, places, profile: lemma.table(lemma.distances()),
    "table1": lambda runs, places, profile: table1.table(runs, profile).frame,
    "table3": lambda runs, places, profile: table3.table(runs, profile).frame,
    "figure2": lambda runs, places, profile: figure2.table(figure2.measure(runs, places)),
    "figure4": lambda runs, places, profile: figure4.table(figure4.measure(runs, places)),
    "figure5": lambda runs, places, profile: figure5.table(figure5.measure(runs, places)),
    "figure6": lambda runs, places, profile: figure6.table(runs),
    "why": lambda runs, places, profile: why.table(runs, why.measure(runs), profile).frame,
}
MEASURED = {"deploy", "order"}  # on the machine that ran them: they do not follow from records


def test_every_committed_record_counts(tmp_path: Path) -> None:
    said: list[str] = []
    ended = ended_runs(tmp_path / "runs", RESULTS, said.append)
    assert said == []
    assert len(ended.every) == len(RECORDS) >= 48
    assert {run.recipe.run_id for run in ended.every} == {path.stem for path in RECORDS}


@pytest.mark.parametrize("path", TABLES, ids=lambda path: f"{path.parent.parent.name}/{path.parent.name}")
def test_a_committed_table_follows_from_its_records(path: Path, tmp_path: Path) -> None:
    item, profile = path.parent.name, path.parent.parent.name
    named = json.loads((path.parent / "provenance.json").read_text(encoding="utf-8"))
    places = Places(tmp_path / "data", tmp_path / "runs", RESULTS)
    runs = standing_runs(item, profile, places)
    assert len(runs.every) == len(named["runs"]) + len(named["diverged"])
    if item in MEASURED:
        return
    again = pd.read_csv(io.StringIO(REMADE[item](runs, places, profile).to_csv(index=False)))
    # To ten digits: the last bits of a variance are the library's that computes it.
    pd.testing.assert_frame_equal(again, pd.read_csv(path), rtol=1e-10)


def test_no_committed_result_names_a_folder_of_a_machine() -> None:
    committed = [path for part in ("short", "paper", "models", "bench") for path in (RESULTS / part).rglob("*.*")]
    texts = {path: path.read_text(encoding="utf-8") for path in committed if path.suffix in TEXTS}
    assert len(texts) > 100
    found = {str(path.relative_to(RESULTS)): LOCAL.findall(text) for path, text in texts.items()}
    assert {name: folders for name, folders in found.items() if folders} == {}
