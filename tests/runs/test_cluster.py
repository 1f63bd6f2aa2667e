"""What a Slurm job does when it is asked to leave: save, write no result, be queued again."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator

import pytest

from resteutils.recipes import item_recipes
from resteutils.results.slurm import submit
from resteutils.runs import cluster
from resteutils.runs.launch import check
from resteutils.training.stopping import Interrupted


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A task of submitit's Slurm executor; the signals that its own handler of time limits was called with."""
    asked: list[int] = []
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_PROCID", "0")
    before = signal.signal(signal.SIGUSR2, lambda number, frame: asked.append(number))
    yield asked
    signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize(("number", "queued"), [(signal.SIGUSR2, 1), (signal.SIGTERM, 0)])
def test_a_job_leaves_without_a_result(slurm: list[int], number: int, queued: int) -> None:
    """submitit queues it again after a time limit, Slurm itself after a requeue."""
    with pytest.raises(SystemExit) as left, cluster.stopping() as signals:
        os.kill(os.getpid(), number)
        assert signals.caught == number
        raise Interrupted("everything is saved", number)
    assert left.value.code == 128 + number
    assert len(slurm) == queued
    assert signal.getsignal(signal.SIGTERM) is not signals.note


def test_another_task_of_the_job_leaves_quietly(slurm: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(SystemExit) as left, cluster.stopping():
        raise Interrupted("everything is saved", signal.SIGTERM)
    assert left.value.code == 0


def test_elsewhere_the_interruption_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    with pytest.raises(Interrupted), cluster.stopping():
        raise Interrupted("everything is saved", signal.SIGTERM)


def test_tasks_of_one_job_get_torchrun_s_environment(slurm: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"MASTER_ADDR": "node7", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name in (*wanted, "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that what is set here is forgotten afterwards
        monkeypatch.delenv(name)
    job = {"JOB_ID": "5", "NTASKS": "4", "JOB_NUM_NODES": "2", "NODEID": "1", "PROCID": "3", "LOCALID": "1"}
    for name, value in (job | {"JOB_NODELIST": "node[7-8]"}).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    cluster.join_tasks()
    assert {name: os.environ[name] for name in wanted} == wanted
    assert 20_000 <= int(os.environ["MASTER_PORT"]) <= 60_000


def test_several_processes_for_a_run_are_a_matter_of_slurm() -> None:
    with pytest.raises(ValueError, match="torchrun --nproc-per-node"):
        check("local", 1, 0, 1, {}, gpus_per_run=2)
    with pytest.raises(ValueError, match="nodes = 0"):
        check("slurm", 1, 0, 1, {}, nodes=0)
    check("slurm", 1, 0, 1, {}, gpus_per_run=4, nodes=2)


# --- what is asked of Slurm ------------------------------------------------------------------------------------------


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options of sbatch of each submission, as submitit writes them; nothing is sent."""
    submitit = pytest.importorskip("submitit")
    from submitit.slurm.slurm import _make_sbatch_string

    options: list[str] = []

    def send(self, submissions: list) -> list:
        count = {"map_count": len(submissions)} if len(submissions) > 1 else {}
        options.append(_make_sbatch_string("nothing", self.folder, **self.parameters, **count))
        number = 100 * len(options)
        return [submitit.SlurmJob(self.folder, f"{number}_{task}", [0]) for task in range(len(submissions))]

    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    monkeypatch.setattr(submitit.SlurmExecutor, "_internal_process_submissions", send)
    return options


def asked(script: str) -> dict[str, str]:
    """``#SBATCH --name=value`` by name."""
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    return dict(line.split("=", 1) for line in lines if "=" in line)


def queue(sent: list[str], *items: str, rows: str = "", parallel: int = 4, minutes: int = 60, **more) -> list[dict]:
    """Submit items in profile smoke; what is asked for each submission."""
    given = {name: more.pop(name) for name in ("gpus_per_run", "nodes", "device") if name in more}
    submit(items or ("table3",), parallel, minutes, more, profile="smoke", rows=rows, **given)
    return [asked(script) for script in sent]


def test_the_notebook_s_job_keeps_what_the_user_asked_of_slurm(sent: list[str]) -> None:
    mine = {"account": "theory", "reservation": "friday", "dependency": "afterok:7"}
    more = {"slurm_additional_parameters": mine, "slurm_partition": "gpu", "name": "mine", "cpus_per_task": 8}
    runs, notebook = queue(sent, rows="ste,reste", minutes=30, **more)
    kept = {"account": "theory", "reservation": "friday", "partition": "gpu", "cpus-per-task": "8", "time": "30"}
    for job in (runs, notebook):
        assert {name: job[name] for name in kept} == kept
    assert (runs["dependency"], notebook["dependency"]) == ("afterok:7", "afterany:100_0:100_1")
    assert (runs["job-name"], notebook["job-name"]) == ("mine", "mine-table3-notebook")
    assert mine["dependency"] == "afterok:7"


@pytest.mark.parametrize("given", [{"gpus_per_run": 4, "nodes": 2}, {"gpus_per_node": 8}, {"slurm_gpus_per_node": 8}])
def test_the_notebook_s_job_is_one_task_on_one_gpu(sent: list[str], given: dict[str, int]) -> None:
    def size(job: dict[str, str]) -> list[int]:
        return [int(job.get(name, "1")) for name in ("nodes", "ntasks-per-node", "gpus-per-node")]

    runs, notebook = queue(sent, **given)
    assert size(runs) == ([2, 4, 4] if "nodes" in given else [1, 1, 8])
    assert size(notebook) == [1, 1, 1]


def test_the_notebook_s_job_has_no_gpu_where_the_runs_have_none(sent: list[str]) -> None:
    runs, notebook = queue(sent, gpus_per_run=2, device="cpu")
    assert runs["ntasks-per-node"] == "2"
    assert not any("gpus" in name for name in (*runs, *notebook))


def test_an_item_without_runs_queues_its_notebook_alone(sent: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (notebook,) = queue(sent, "figure1", slurm_additional_parameters={"dependency": "afterok:7"})
    assert (notebook["job-name"], notebook["dependency"]) == ("reste-figure1-notebook", "afterok:7")


def test_a_run_of_several_items_is_one_job_and_all_items_share_what_runs_at_a_time(sent: list[str]) -> None:
    items = ("figure5", "figure1", "table3")
    wanted = {item: [recipe.run_id for recipe in item_recipes(item, "smoke")] for item in items}
    every = list(dict.fromkeys(run for item in items for run in wanted[item]))
    assert len(every) < sum(map(len, wanted.values()))  # some are shared
    runs, *notebooks = queue(sent, *items, parallel=3)
    assert runs["array"] == f"0-{len(every) - 1}%3"
    for item, notebook in zip(items, notebooks, strict=True):
        behind = ":".join(["afterany", *(f"100_{every.index(run)}" for run in wanted[item])])
        assert notebook.get("dependency", "afterany") == behind, item


@pytest.mark.parametrize(("name", "value"), [("slurm_additional_parameters", "account=x"), ("slurm_setup", "source x")])
def test_settings_of_several_parts_are_refused_where_they_are_text(name: str, value: str) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(ValueError, match=f"{name} = '{value}', expected"):
        check("slurm", 1, 0, 60, {name: value})
