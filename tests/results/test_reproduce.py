"""Reproducing an item: parameters are checked, results are whole, kills cost nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from resteutils.recipes import ITEMS, item_recipes
from resteutils.results import reproduce
from resteutils.results.notebook import notebook_html, tidy, without_paths
from resteutils.runs.store import run_item
from resteutils.system.settings import Places
from resteutils.training import tracking
from resteutils.training.stopping import Interrupted, NonFinite

PARAMETERS = """profile: str = "demo"  # help
rows: str = ""
seeds: str = ""
epochs: int = 0
device: str = "auto"
data_dir: str = ""
runs_dir: str = ""
results_dir: str = ""
out_dir: str = ""
"""

# What a notebook leaves, without torch: the tests below are about the runner.
LEAVE = """from pathlib import Path
Path(out_dir, "table.csv").write_text("a\\n1\\n")
Path(out_dir, "provenance.json").write_text("{}")
Path(out_dir, "verdict.json").write_text('{"status": "not claimed", "text": "t"}')
print("written to", out_dir)"""


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Let every item's notebook be one that consists of the given cells."""

    def make(*sources: str) -> Path:
        cells = [new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), *map(new_code_cell, sources)]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        path = tmp_path / "item.ipynb"
        nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
        monkeypatch.setattr(reproduce, "notebook_of", lambda item: path)
        return path

    return make


# --- what is refused before a kernel starts --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "asked", "message"),
    [
        ("table9", {}, "unknown item 'table9'.*table1"),
        ("table1", {"profile": "full"}, "unknown profile 'full'.*smoke, demo"),
        ("table1", {"rows": "resnet99"}, "unknown row of table1 'resnet99'.*resnet20-1w1a"),
        ("table1", {"seeds": "zero"}, "seeds = 'zero'"),
        ("table1", {"epoch": 3}, "table1_cifar10.ipynb has no parameter epoch: it has .*epochs"),
        ("table1", {"epochs": "ten"}, "epochs = 'ten', expected a whole number"),
        ("table1", {"rows": 3}, "rows = 3, expected text such as 'ste,reste', or a list"),
        ("table1", {"seeds": 3}, "seeds = 3, expected text such as '0,1,2', or a list"),
        ("table1", {"device": 0}, "device = 0, expected str as in the parameters of table1_cifar10.ipynb"),
        ("lemma", {"epochs": True}, "epochs = True, expected int"),
    ],
)
def test_wrong_requests_are_answered_with_what_is_accepted(item: str, asked: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reproduce.reproduce(item, **{"profile": "smoke"} | asked)


def test_rows_belong_to_one_item() -> None:
    with pytest.raises(ValueError, match="belong to one item"):
        reproduce.reproduce_all(profile="smoke", rows="resnet20-1w1a")


# --- whole or not at all ---------------------------------------------------------------------------------------------


def test_everything_arrives_together_and_is_fit_to_read(notebook, results_dir: Path, monkeypatch) -> None:
    logged = []
    monkeypatch.setattr(tracking, "log_item", lambda *args: logged.append(args))
    bar = "import sys\nfor i in range(3): print(f'\\r{i * 50}%|##   | {i}/2', end='', file=sys.stderr)\nrows"
    places = (
        "import os\nprint([os.environ[f'{name}_DIR'] for name in ('DATA', 'RUNS', 'RESULTS')], os.path.abspath('x'))"
    )
    notebook(LEAVE, bar, f"{places}\nprint(sys.prefix, os.path.expanduser('~/y'), file=sys.stderr)")
    elsewhere = results_dir.parent / "my-data"
    folder = reproduce.reproduce("table1", profile="smoke", rows="resnet20-1w1a", data_dir=str(elsewhere))
    assert folder == results_dir / "smoke" / "table1"
    assert sorted(os.listdir(folder)) == [
        "notebook.html", "notebook.ipynb", "provenance.json", "table.csv", "verdict.json",
    ]  # fmt: skip
    assert os.listdir(folder.parent) == ["table1"]
    executed = nbformat.read(folder / "notebook.ipynb", as_version=4)
    outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    assert outputs[1].data["text/plain"] == "'resnet20-1w1a'"
    assert [output.text for output in (outputs[0], *outputs[2:])] == [
        "written to results/smoke/table1\n", "['data', 'runs', 'results'] x\n", "python ~/y\n",
    ]  # fmt: skip
    for name in ("notebook.ipynb", "notebook.html"):
        text = (folder / name).read_text()
        here = (elsewhere, results_dir, Path(sys.prefix), Path.home(), Path.cwd(), ".tmp")
        assert not [str(place) for place in here if str(place) in text], name
    (item, profile, table, picture, where, summary, _) = logged[0]
    assert (item, profile, picture, where) == ("table1", "smoke", None, folder)
    assert list(table.a) == [1]
    assert summary["verdict"] == "not claimed"


@pytest.mark.parametrize(
    ("cell", "error", "message"),
    [
        ("raise ValueError('no such thing')", reproduce.ReproductionError, "item.ipynb stopped: ValueError: no such"),
        ("class NonFinite(Exception): pass\nraise NonFinite('o = 50')", NonFinite, "NonFinite: o = 50"),
        pytest.param(
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            reproduce.ReproductionError,
            "item.ipynb stopped.*died",
            marks=pytest.mark.faults("a notebook's kernel is killed for memory"),
        ),
        ("import sys; sys.exit(0)", reproduce.ReproductionError, "no provenance.json, verdict.json, table.csv or"),
    ],
)
def test_a_failing_notebook_leaves_the_previous_result(notebook, results_dir, runs_dir, cell, error, message) -> None:
    before = results_dir / "smoke" / "table1"
    before.mkdir(parents=True)
    (before / "table.csv").write_text("old")
    notebook(cell, LEAVE)
    with pytest.raises(error, match=message):
        reproduce.reproduce("table1", profile="smoke")
    assert (before / "table.csv").read_text() == "old"
    assert os.listdir(before.parent) == ["table1"]
    if "sys.exit" not in cell:
        kept = nbformat.read(runs_dir / "failed" / "smoke-item.ipynb", as_version=4)
        assert kept.cells[-2].source == cell


def test_the_kernel_finds_what_a_relative_pythonpath_names(notebook, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine_alone.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
    notebook("import mine_alone", LEAVE)
    assert (reproduce.reproduce("table1", profile="smoke") / "table.csv").is_file()


def test_all_goes_on_after_a_failure_and_says_so_at_the_end(results_dir: Path, monkeypatch, capsys) -> None:
    tried = []

    def one(item: str, **options) -> Path:
        tried.append(item)
        if item == "table2":
            raise RuntimeError("no images")
        return results_dir / options["profile"] / item

    monkeypatch.setattr(reproduce, "reproduce", one)
    with pytest.raises(
        reproduce.ReproductionError, match=rf"1 of {len(ITEMS)} items failed:\n  table2: RuntimeError: no images"
    ):
        reproduce.reproduce_all(profile="smoke", results_dir=str(results_dir))
    assert tried == list(ITEMS)
    assert (results_dir / "report" / "index.html").is_file()
    assert f"{len(ITEMS) - 1} of {len(ITEMS)} items reproduced" in capsys.readouterr().out


def test_all_stops_when_it_is_asked_to(monkeypatch) -> None:
    def one(item: str, **options) -> Path:
        raise Interrupted("stopped as asked", signal.SIGTERM)

    monkeypatch.setattr(reproduce, "reproduce", one)
    with pytest.raises(Interrupted):
        reproduce.reproduce_all(profile="smoke", write_report=lambda **_: pytest.fail("a report after an interruption"))


# --- kills -----------------------------------------------------------------------------------------------------------

ROWS = "resnet20-1w1a,resnet20-fp"


def start(root: Path, folder: Path, *options: str) -> subprocess.Popen:
    places = ["--runs-dir", str(folder / "runs"), "--results-dir", str(folder / "results")]
    command = [sys.executable, "-m", "resteutils", "reproduce", "table1", "--profile", "smoke", *places, *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    return subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(folder: Path, pattern: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not any(folder.glob(pattern)):
        assert time.monotonic() < end, f"no {pattern} in {folder} after {seconds} s"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_9_on_the_way_changes_nothing(root: Path, tmp_path: Path, threads) -> None:
    """Killed after its first row is finished; the next call ends with the numbers of undisturbed trainings."""
    process = start(root, tmp_path, "--rows", ROWS)
    wait_for(tmp_path, "runs/*/record.json")
    process.kill()
    process.communicate()
    assert not (tmp_path / "results" / "smoke" / "table1").exists()
    process = start(root, tmp_path, "--rows", ROWS)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    table = pd.read_csv(tmp_path / "results" / "smoke" / "table1" / "table.csv")
    threads(1)  # as in the processes above
    undisturbed = run_item("table1", "smoke", ROWS, places=Places.of("", tmp_path / "other", tmp_path / "elsewhere"))
    assert list(table.row) == ROWS.split(",")
    assert list(table.measured_mean) == [run.result["top1"] for run in undisturbed]
    assert sorted(os.listdir(tmp_path / "results" / "smoke")) == ["runs", "table1"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sigterm_saves_and_leaves_with_its_own_status(root: Path, tmp_path: Path) -> None:
    process = start(root, tmp_path, "--rows", "resnet20-1w1a", "--epochs", "2000")
    wait_for(tmp_path, "runs/*/history.csv")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "the same command continues" in output.splitlines()[-1]
    assert any(tmp_path.glob("runs/*/checkpoint*.pt"))
    assert not any(tmp_path.glob("results/smoke/.table1*"))


# --- executed notebooks ----------------------------------------------------------------------------------------------


def test_tidying_keeps_what_a_reader_wants() -> None:
    outputs = [
        new_output("stream", name="stdout", text="epoch 1\n"),
        new_output("stream", name="stdout", text="epoch 2\n"),
        new_output("stream", name="stderr", text="  0%|          | 0/10\r 50%|#####     | 5/10\r"),
        new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {"model_id": "x"}}),
        new_output("stream", name="stderr", text="UserWarning: look\n"),
        new_output("display_data", data={"text/plain": "42"}),
    ]
    notebook = new_notebook(cells=[new_code_cell("x", outputs=outputs)], metadata={"widgets": {}})
    cell = tidy(notebook).cells[0]
    assert [output.get("text", "42") for output in cell.outputs] == ["epoch 1\nepoch 2\n", "UserWarning: look\n", "42"]
    assert "widgets" not in notebook.metadata


def test_the_page_of_a_notebook_needs_nothing_else() -> None:
    html = {"text/html": "<table><tr><td>cell</td></tr></table>"}
    cells = [
        new_markdown_cell("# Title\n\nText with `code`."),
        new_code_cell("1 + 1", outputs=[new_output("display_data", html)]),
    ]
    text = notebook_html(new_notebook(cells=cells), "Title & more")
    assert "<title>Title &amp; more</title>" in text
    assert "<td>cell</td>" in text
    assert not re.search(r"<script|<link|https?://", text)
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("saved to /home/me/work/reste/results/short.", "saved to results/short."),
        ("/home/me/work/reste/resteutils/a.py:3: UserWarning", "resteutils/a.py:3: UserWarning"),
        ("'/home/me/work/reste', '/home/me/work/reste/'", "'.', ''"),
        ("data_dir=/big/data;file:///big/data/x", "data_dir=data;file://data/x"),
        ("~ is /home/me, not /home/me2 or /home/me-2", "~ is ~, not /home/me2 or /home/me-2"),
        ("<td>&#x27;/big/data&#x27;</td>", "<td>&#x27;data&#x27;</td>"),
        ("/mnt/big/data is another", "/mnt/big/data is another"),
        ("iVBORw0K+/big/data/a/big/data/home/me=", "iVBORw0K+/big/data/a/big/data/home/me="),
    ],
)
def test_folders_of_this_machine_are_told_by_what_they_hold(said: str, read: str) -> None:
    root, data = Path("/home/me/work/reste"), Path("/big/data")
    names = {data: "data", root / "results": "results", root: "", Path("/home/me"): "~", Path("/"): "everything"}
    outputs = [new_output("stream", text=said), new_output("display_data", {"text/html": said, "image/png": said})]
    made = new_notebook(cells=[new_code_cell(said, outputs=outputs)], metadata={"papermill": {"parameters": [said]}})
    cell = (cleaned := without_paths(made, names)).cells[0]
    texts = [
        cell.source,
        cell.outputs[0].text,
        *cell.outputs[1].data.values(),
        cleaned.metadata.papermill.parameters[0],
    ]
    assert set(texts) == {read}


def test_papermill_gets_a_path_as_it_is_whatever_it_holds() -> None:
    from papermill.parameterize import parameterize_path

    from resteutils.results.reproduce import _verbatim

    odd = Path("/it's $HOME ${x} 100% {a} {} {0!r}/notebook.ipynb")
    assert parameterize_path(_verbatim(odd), {"a": 1}) == str(odd)


def test_runs_are_trained_by_processes_before_the_notebook(monkeypatch, runs_dir, results_dir) -> None:
    from resteutils.results import reproduce as module
    from resteutils.runs import launch

    order: list[str] = []
    monkeypatch.setattr(launch, "launch", lambda item, *given, **more: order.append(f"{item} by {given[6]}") or [])
    monkeypatch.setattr(module, "_execute", lambda *given: order.append("notebook"))
    monkeypatch.setattr(module, "_finish", lambda *given: None)
    monkeypatch.setattr(module, "_log", lambda *given: None)
    for item in ("table3", "figure1"):
        module.reproduce(item, "smoke", parallel=2)
    assert order == ["table3 by 2", "notebook", "notebook"]  # figure1 has no runs


def test_a_reproduction_on_slurm_queues_each_notebook_behind_its_runs(monkeypatch) -> None:
    from resteutils.results import slurm

    pytest.importorskip("submitit")
    queued: list[tuple] = []
    monkeypatch.setattr(slurm, "queue", lambda work, *given: [SimpleNamespace(recipe=one.recipes[0]) for one in work])
    monkeypatch.setattr(slurm, "follow", lambda *given: queued.append(given) or SimpleNamespace(job_id="7"))
    options = {"rows": "", "seeds": "0", "profile": "smoke", "overrides": "lr=0.05", "runs_dir": "here"}
    slurm.submit(["table3", "figure1"], 4, 60, {"slurm_partition": "gpu"}, **options)
    for item, (notebook, jobs, _, settings) in zip(("table3", "figure1"), queued, strict=True):
        assert notebook == slurm.Notebook(item, {**options, "epochs": 0, "device": "auto"})
        assert settings["slurm_partition"] == "gpu"
        assert {job.recipe.run_id for job in jobs} == {
            recipe.run_id for recipe in item_recipes(item, "smoke", overrides="lr=0.05")
        }
